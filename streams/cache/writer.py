"""The stream's writer of the cache: the stream goes on while Redis is away, and misses nothing."""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Self

import structlog
from redis.exceptions import RedisError

from streams.cache.age import now_ms
from streams.cache.arguments import Call
from streams.cache.behind import CatchUp
from streams.cache.connection import is_outage
from streams.cache.eviction import EvictionWatch
from streams.cache.partition import Mode, PartitionQueue, rounds
from streams.cache.ports import Scores
from streams.cache.score import CachedScore, Removal
from streams.cache.updates import Updates

log = structlog.get_logger(__name__)

# Customers in one round trip: some tens of milliseconds, far below a client's timeout.
ROUND_TRIP = 2_000
# Customers that wait in an outage, at about 2 kB each; a catch-up reads further ones again.
MOST_WAITING = 20_000
CHECK_SECONDS = 2.0
# Time between two checks of Redis for evictions, and between two times set on a mark.
LOOK_SECONDS = 10.0
STAMP_SECONDS = 60.0
FIRST_DELAY_SECONDS = 0.1
LONGEST_DELAY_SECONDS = 5.0
CANCEL_SECONDS = 1.0


class CacheWriter:
    """Keeps Redis equal to the updates of the assigned partitions; an async context manager.

    Without `updates` it writes submitted items only, without marks and catch-ups. Errors other than
    outages are raised by `flush`, or by the next call if a background task met them.
    """

    def __init__(
        self,
        cache: Scores,
        updates: Updates | None = None,
        *,
        stop_seconds: float = 5.0,
        clock: Callable[[], int] = now_ms,
    ) -> None:
        self._cache = cache
        self._clock = clock
        self._eviction = EvictionWatch(cache)
        self._look_at = 0.0
        self._stamp_at = 0.0
        self._stop_seconds = stop_seconds
        self._queues: dict[int, PartitionQueue] = {}
        self._writing = asyncio.Lock()
        self._outage = asyncio.Event()
        self._well = asyncio.Event()
        self._well.set()
        self._catch_up: CatchUp | None = None
        if updates is not None:
            self._catch_up = CatchUp(
                cache, updates, self._queues, self._well, self._note, clock=clock
            )
        self._tasks: list[asyncio.Task[None]] = []

    @property
    def healthy(self) -> bool:
        """Whether the last write to Redis succeeded."""
        return not self._outage.is_set()

    @property
    def pending(self) -> int:
        """How many customers wait to be written or removed."""
        return sum(len(queue.waiting) for queue in self._queues.values())

    @property
    def problem(self) -> str | None:
        """Why the data in Redis may be wrong, and what to do; None if it is right."""
        return self._eviction.problem

    @property
    def catching_up(self) -> dict[int, int | None]:
        """The partitions that catch up, with the number of records left; None: not known yet."""
        return {
            partition: queue.left
            for partition, queue in sorted(self._queues.items())
            if queue.mode in (Mode.BEHIND, Mode.HELD)
        }

    def assigned(self, partitions: Iterable[int]) -> None:
        """Set the partitions of this worker: new ones catch up, others are given up."""
        self._raise_failure()
        ours = set(partitions)
        self.revoked(set(self._queues) - ours)
        if self._catch_up is None:
            return
        for partition in sorted(ours):
            queue = self._queue(partition)
            if queue.mode is Mode.FOREIGN:
                # Waiting items are published, so the catch-up finds them.
                queue.mode = Mode.BEHIND
        self._catch_up.wake()

    def revoked(self, partitions: Iterable[int]) -> None:
        """Give partitions up; their waiting items are still written."""
        for partition in partitions:
            queue = self._queues.get(partition)
            if queue is not None:
                queue.mode, queue.left = Mode.FOREIGN, None

    def submit(
        self,
        partition: int,
        end: int | None,
        scores: Sequence[CachedScore],
        removals: Sequence[Removal] = (),
        *,
        start: int | None = None,
    ) -> None:
        """Add the published items of a batch, after the broker has acknowledged them.

        start, end: offset of its first record, and after its last; None if it had none. Calls for a
        partition must be in the order of offsets (ValueError). A gap means that another worker
        published there: a catch-up reads it.
        """
        self._raise_failure()
        queue = self._queue(partition)
        if not queue.submit(start, end, (*scores, *removals)):
            log.warning(
                "cache_missed_records", partition=partition, first=start, mark=queue.known or None
            )
            self._fall_behind(queue)
        if self._catch_up is not None and not self.healthy and self.pending > MOST_WAITING:
            self._drop()

    def unsure(self, partition: int) -> None:
        """Note that a batch was published at unknown offsets: a catch-up reads it.

        It cannot be submitted, because a score needs its position.
        """
        self._raise_failure()
        self._fall_behind(self._queue(partition))

    async def flush(self) -> None:
        """Write waiting items; return at once in an outage, because the background retries.

        Errors: RedisError that is no outage, ValueError for a score the cache refuses.
        """
        self._raise_failure()
        await self._flush()
        if self._catch_up is not None and self._catch_up.holding and self.healthy:
            await self._catch_up.hold_ended()
            await self._flush()

    async def start(self) -> None:
        """Start the background tasks."""
        if not self._tasks:
            self._spawn(self._retry(), "cache-retries")
            self._spawn(self._check(), "cache-checks")
            if self._catch_up is not None:
                self._spawn(self._catch_up.run(), "cache-catch-up")

    async def stop(self) -> int:
        """Try to write waiting items for at most `stop_seconds`; return how many are left.

        The next worker catches up on them from the published updates.
        """
        tasks, self._tasks = self._tasks, []
        left = set(tasks)
        while left:
            # Repeatedly, because a client may swallow a cancellation.
            for task in left:
                task.cancel()
            _, left = await asyncio.wait(left, timeout=CANCEL_SECONDS)
        for task in tasks:
            if not task.cancelled():
                task.result()
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

    def _spawn(self, work: Coroutine[Any, Any, None], name: str) -> None:
        self._tasks.append(asyncio.create_task(work, name=name))

    def _queue(self, partition: int) -> PartitionQueue:
        return self._queues.setdefault(partition, PartitionQueue(partition))

    def _raise_failure(self) -> None:
        if not self._tasks:
            raise RuntimeError("the cache writer is not running: use `async with CacheWriter(...)`")
        for task in self._tasks:
            if task.done():
                task.result()

    def _drop(self) -> None:
        """Drop waiting items: a catch-up reads them from the published updates."""
        log.warning("cache_waits_for_catch_up", customers=self.pending)
        for queue in self._queues.values():
            if queue.waiting:
                queue.waiting.clear()
                self._fall_behind(queue)

    async def _retry(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._outage.wait()
            began = loop.time()
            async with self._writing:
                await self._write_until_done()
            log.info("cache_recovered", seconds=round(loop.time() - began, 1))
            # Redis may have been replaced or reconfigured.
            self._look_at = 0.0

    async def _check(self) -> None:
        """Check Redis now and then: it may have come back empty or older, or evict keys."""
        loop = asyncio.get_running_loop()
        while True:
            await self._well.wait()
            if self._catch_up is not None and loop.time() >= self._look_at:
                self._look_at = loop.time() + LOOK_SECONDS
                try:
                    await self._eviction.look()
                except RedisError as error:
                    self._note(error)
            async with self._writing:
                self._stamp(loop.time())
                if self.healthy and await self._try_write():
                    await self._compare_marks()
            await asyncio.sleep(CHECK_SECONDS)

    def _stamp(self, now: float) -> None:
        """Have the times of the marks set again, also for idle partitions."""
        if now >= self._stamp_at:
            self._stamp_at = now + STAMP_SECONDS
            for queue in self._queues.values():
                queue.stamped = False

    async def _compare_marks(self) -> None:
        known = {
            queue: queue.known for queue in self._queues.values() if queue.mode is Mode.CURRENT
        }
        try:
            held = await self._cache.marks([queue.partition for queue in known])
        except RedisError as error:
            self._note(error)
            return
        for (queue, mark), found in zip(known.items(), held, strict=True):
            if found != mark and queue.mode is Mode.CURRENT and queue.known == mark:
                self._lost(queue, found)

    def _lost(self, queue: PartitionQueue, found: str) -> None:
        log.warning(
            "cache_not_as_it_was",
            partition=queue.partition,
            mark=queue.known or None,
            found=found or None,
            do="nothing: what is missing is read again",
        )
        self._fall_behind(queue)

    def _fall_behind(self, queue: PartitionQueue) -> None:
        queue.fall_behind()
        if self._catch_up is not None:
            self._catch_up.wake()

    def _note(self, error: RedisError) -> None:
        """Note an outage; raises any other error."""
        if not is_outage(error):
            raise error
        if self.healthy:
            log.warning("cache_outage", pending=self.pending, error=str(error))
            self._outage.set()
            self._well.clear()

    async def _flush(self) -> None:
        if self.healthy:
            async with self._writing:
                if self.healthy:
                    await self._try_write()

    async def _write_until_done(self) -> None:
        delay = FIRST_DELAY_SECONDS
        while True:
            await asyncio.sleep(delay)
            if await self._try_write():
                return
            delay = min(2 * delay, LONGEST_DELAY_SECONDS)

    async def _try_write(self) -> bool:
        """Write all waiting items, or note the outage; `_writing` must be held."""
        try:
            if not (self.healthy or self._round()):
                await self._send([(None, Call())])
            while batch := self._round():
                await self._send(batch)
        except RedisError as error:
            self._note(error)
            return False
        self._outage.clear()
        self._well.set()
        return True

    def _round(self) -> list[tuple[PartitionQueue | None, Call]]:
        return [*rounds(self._queues.values(), ROUND_TRIP, self._clock())]

    async def _send(self, batch: Sequence[tuple[PartitionQueue | None, Call]]) -> None:
        replies = await self._cache.write([call for _, call in batch])
        refused: RedisError | None = None
        moved: dict[PartitionQueue, tuple[str, str, str]] = {}
        for (queue, call), reply in zip(batch, replies, strict=True):
            if isinstance(reply, RedisError):
                refused = refused or reply
            elif queue is not None:
                queue.written(call)
                if call.mark is not None:
                    first, *_ = moved.get(queue, (call.mark.held,))
                    moved[queue] = first, call.mark.next, reply.mark
        for queue, (before, wanted, found) in moved.items():
            if queue.mode is not Mode.CURRENT or queue.known != before:
                continue
            if found == wanted:
                queue.known = found
            else:
                self._lost(queue, found)
        if refused is not None:
            raise refused
