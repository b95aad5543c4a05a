"""The catch-up: partitions whose mark lags are read from the updates again, in the background."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from contextlib import aclosing

import structlog
from redis.exceptions import RedisError

from streams.cache.age import is_trusted
from streams.cache.partition import Mode, PartitionQueue
from streams.cache.ports import Scores
from streams.cache.refill import Refill, Replaced, sweep
from streams.cache.rereading import AnotherLog, ReadProgress, TooOld, reread
from streams.cache.updates import Cursor, Updates, UpdatesUnavailable

log = structlog.get_logger(__name__)

# How long new updates of a partition wait at most while the catch-up reads the earlier ones.
HOLD_SECONDS = 1.0
# Records that can be read well within that time.
LITTLE = 2_000
FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 10.0


class CatchUp:
    """Brings the queues that are BEHIND to CURRENT, one after another.

    well: set unless Redis is known to be away. note: called with an error of Redis; it raises those
    that are no outage, which end `run`.
    """

    def __init__(
        self,
        cache: Scores,
        updates: Updates,
        queues: Mapping[int, PartitionQueue],
        well: asyncio.Event,
        note: Callable[[RedisError], None],
        *,
        clock: Callable[[], int],
    ) -> None:
        self._clock = clock
        self._told_of: tuple[int, str] | None = None
        self._cache = cache
        self._updates = updates
        self._queues = queues
        self._well = well
        self._note = note
        self._wanted = asyncio.Event()
        self._released = asyncio.Event()
        self._released.set()

    @property
    def holding(self) -> bool:
        """Whether new updates of a partition wait for earlier ones."""
        return not self._released.is_set()

    async def hold_ended(self) -> None:
        """Wait until nothing is held, for about a second at most."""
        await self._released.wait()

    def wake(self) -> None:
        """Look for queues that are behind."""
        self._wanted.set()

    async def run(self) -> None:
        """Catch up whenever a partition is behind, for ever."""
        delay, reported = FIRST_DELAY_SECONDS, False
        while True:
            await self._wanted.wait()
            await self._well.wait()
            if self._next() is None:
                continue
            try:
                async with self._updates.open() as cursor:
                    while (queue := self._next()) is not None:
                        try:
                            await self._bring_up(cursor, queue)
                        except TooOld as error:
                            await self._refill(cursor, error)
                        delay, reported = FIRST_DELAY_SECONDS, False
            except RedisError as error:
                self._note(error)
            except Replaced as error:
                log.warning("cache_refill_begins_again", error=str(error))
            except (UpdatesUnavailable, AnotherLog) as error:
                if isinstance(error, UpdatesUnavailable):
                    log.warning("cache_catch_up_waits", error=str(error), seconds=delay)
                elif delay > FIRST_DELAY_SECONDS and not reported:
                    # Not the first time: a new leader may not know the end yet.
                    log.error("cache_of_another_log", error=str(error))  # noqa: TRY400 - it is clear
                    reported = True
                await asyncio.sleep(delay)
                delay = min(2 * delay, LONGEST_DELAY_SECONDS)

    def _next(self) -> PartitionQueue | None:
        for queue in self._queues.values():
            if queue.mode is Mode.BEHIND:
                return queue
        self._wanted.clear()
        return None

    async def _refill(self, cursor: Cursor, why: TooOld) -> None:
        """Read partitions with too old marks whole, and remove customers the log no longer has."""
        loop = asyncio.get_running_loop()
        began, records = loop.time(), 0
        done: list[Refill] = []
        if self._told_of != (why.partition, why.standing.mark):
            self._told_of = why.partition, why.standing.mark
            log.warning(
                "cache_too_old",
                error=str(why),
                do="nothing: all is read again, and who is no longer published is removed",
            )
        while (queue := await self._next_too_old({each.partition for each in done})) is not None:
            refill = Refill(self._cache, queue.partition, self._clock())
            async with aclosing(refill.read(cursor)) as steps:
                async for step in steps:
                    if queue.mode is Mode.FOREIGN:
                        break
                    records += step.records
                    queue.left = step.left
                else:
                    done.append(refill)
        if not done:
            return
        removed = await sweep(self._cache, done, await cursor.partitions())
        for refill in done:
            await refill.finish(self._clock())
        log.info(
            "cache_refilled",
            partitions=[refill.partition for refill in done],
            records=records,
            removed=removed,
            seconds=round(loop.time() - began, 3),
        )

    async def _next_too_old(self, but: Collection[int]) -> PartitionQueue | None:
        for queue in list(self._queues.values()):
            if queue.mode is Mode.BEHIND and queue.partition not in but:
                now = self._clock()
                if not is_trusted((await self._cache.standing(queue.partition, now)).since, now):
                    return queue
        return None

    async def _bring_up(self, cursor: Cursor, queue: PartitionQueue) -> None:
        loop = asyncio.get_running_loop()
        began, records, falls = loop.time(), 0, queue.falls
        hold = _Hold(queue, self._released)
        try:
            async with aclosing(reread(self._cache, cursor, queue.partition, self._clock)) as steps:
                async for step in steps:
                    if queue.mode is Mode.FOREIGN or queue.falls != falls:
                        return
                    records += step.records
                    queue.left = step.left
                    if hold.covers(step):
                        queue.mode, queue.known, queue.left = Mode.CURRENT, step.mark, None
                        queue.stamped = False
                        break
                    hold.update(step, loop.time())
        finally:
            hold.release()
        if records:
            log.info(
                "cache_caught_up",
                partition=queue.partition,
                records=records,
                seconds=round(loop.time() - began, 3),
            )


class _Hold:
    """The end of a catch-up: new submissions wait, so that the end does not move.

    Records written without the mark must be read again before the mark may pass them. Without a
    hold, a busy stream would move the end of the catch-up for ever.
    """

    def __init__(self, queue: PartitionQueue, released: asyncio.Event) -> None:
        self._queue = queue
        self._released = released
        self._former: int | None = None
        self._end = 0
        self._until = 0.0

    def covers(self, step: ReadProgress) -> bool:
        """Return whether all records of other workers, or written without the mark, were read.

        Records after the first known end of the partition are this worker's, and were submitted.
        """
        if self._former is None:
            self._former = step.end
        if self._former is None or step.position < self._former:
            return False
        if self._queue.mode is not Mode.HELD:
            return step.position >= self._queue.end
        # A new leader may report an end before the records that this worker has just published.
        return step.position >= max(self._end, self._queue.held_from or 0)

    def update(self, step: ReadProgress, now: float) -> None:
        """Start to hold when little is left; release if it takes longer than HOLD_SECONDS."""
        if self._queue.mode is Mode.HELD:
            if now >= self._until:
                self.release()
        elif step.left is not None and step.left <= LITTLE:
            self._queue.mode, self._queue.held_from = Mode.HELD, None
            self._end, self._until = self._queue.end, now + HOLD_SECONDS
            self._released.clear()

    def release(self) -> None:
        """Let waiting updates be written."""
        if self._queue.mode is Mode.HELD:
            self._queue.mode = Mode.BEHIND
        self._released.set()
