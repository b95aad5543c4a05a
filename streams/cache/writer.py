"""The stream's way into the cache: it goes on while Redis is away, and catches up after."""

import asyncio
from collections.abc import Iterable
from itertools import islice
from typing import Self

import structlog
from redis.exceptions import RedisError

from streams.cache.cache import ScoreCache
from streams.cache.connection import is_outage
from streams.cache.score import CachedScore

log = structlog.get_logger(__name__)

# Customers in one round trip: some tens of milliseconds, far from a client's time-out.
ROUND_TRIP = 2_000
FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0


class CacheWriter:
    """Keeps the newest score per customer until Redis has it; use it as an async context manager.

    What waits is bounded by the number of customers. Errors that do not pass by themselves are
    raised: by `flush`, or, when the retry in the background met them, by the next call.
    """

    def __init__(self, cache: ScoreCache, *, stop_seconds: float = 5.0) -> None:
        self._cache = cache
        self._stop_seconds = stop_seconds
        self._scores: dict[str, CachedScore] = {}
        self._removals: set[str] = set()
        self._writing = asyncio.Lock()
        self._outage = asyncio.Event()
        self._retries: asyncio.Task[None] | None = None

    @property
    def healthy(self) -> bool:
        """Whether the last write succeeded and nothing of an outage still waits."""
        return not self._outage.is_set()

    @property
    def pending(self) -> int:
        """How many customers wait to be written or removed."""
        return len(self._scores) + len(self._removals)

    def submit(self, scores: Iterable[CachedScore]) -> None:
        """Take scores to be written; of each customer the newest version stays."""
        self._raise_failure()
        for score in scores:
            held = self._scores.get(score.customer_id)
            if held is None or held.version < score.version:
                self._scores[score.customer_id] = score

    def forget(self, customer_ids: Iterable[str]) -> None:
        """Take customers to be removed; what was submitted of them before is never written."""
        self._raise_failure()
        for customer_id in customer_ids:
            self._scores.pop(customer_id, None)
            self._removals.add(customer_id)

    async def flush(self) -> None:
        """Write what waits; during an outage return at once, for the background retries.

        Errors: RedisError that is no outage, ValueError for a score the cache refuses.
        """
        self._raise_failure()
        if not self.healthy:
            return
        async with self._writing:
            if self.healthy:
                await self._try_write()

    async def start(self) -> None:
        """Start the background retries."""
        if self._retries is None:
            self._retries = asyncio.create_task(self._retry(), name="cache-retries")

    async def stop(self) -> int:
        """Try to write what waits for at most `stop_seconds`; return how many customers are left.

        What is left is in the published updates, from which the cache can be rebuilt.
        """
        retries, self._retries = self._retries, None
        if retries is not None:
            retries.cancel()
            await asyncio.wait([retries])
            if not retries.cancelled():
                retries.result()
        try:
            async with asyncio.timeout(self._stop_seconds), self._writing:
                if not await self._try_write():
                    await self._write_until_done()
        except TimeoutError:
            log.warning("cache_left_behind", pending=self.pending, seconds=self._stop_seconds)
        return self.pending

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _raise_failure(self) -> None:
        if self._retries is None:
            raise RuntimeError("the cache writer is not running: use `async with CacheWriter(...)`")
        if self._retries.done():
            self._retries.result()

    async def _retry(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._outage.wait()
            began = loop.time()
            async with self._writing:
                await self._write_until_done()
            log.info("cache_recovered", seconds=round(loop.time() - began, 1))

    async def _write_until_done(self) -> None:
        delay = FIRST_DELAY_SECONDS
        while True:
            await asyncio.sleep(delay)
            if await self._try_write():
                return
            delay = min(2 * delay, LONGEST_DELAY_SECONDS)

    async def _try_write(self) -> bool:
        """Write all that waits, or note the outage; `_writing` is held."""
        try:
            await self._write()
        except RedisError as error:
            if not is_outage(error):
                raise
            if self.healthy:
                log.warning("cache_outage", pending=self.pending, error=str(error))
                self._outage.set()
            return False
        self._outage.clear()
        return True

    async def _write(self) -> None:
        # Removals first: a score submitted after its customer was forgotten is of a later life.
        while self._removals or self._scores:
            removals = list(islice(self._removals, ROUND_TRIP))
            if removals:
                await self._cache.remove(removals)
                self._removals.difference_update(removals)
                continue
            scores = list(islice(self._scores.values(), ROUND_TRIP))
            await self._cache.put(scores)
            for score in scores:
                if self._scores.get(score.customer_id) is score:
                    del self._scores[score.customer_id]
