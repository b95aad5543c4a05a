"""Rebuild the cache from the updates, without a worker."""

from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass

from streams.cache.age import now_ms
from streams.cache.cache import ScoreCache
from streams.cache.refill import Refill, sweep
from streams.cache.rereading import check_log
from streams.cache.updates import Cursor, Updates


@dataclass(slots=True)
class Rebuilt:
    """What a rebuild read and changed.

    removed: customers who were in the cache but not in the log; deleted: hashes that were no
    scores.
    """

    records: int = 0
    written: int = 0
    removed: int = 0
    deleted: int = 0


async def rebuild(
    cache: ScoreCache,
    updates: Updates,
    partitions: Iterable[int],
    report: Callable[[int, int, int], None] = lambda _partition, _position, _end: None,
    clock: Callable[[], int] = now_ms,
) -> Rebuilt:
    """Write everything that is published, remove all other customers, and recount everything.

    Safe while workers write: newer scores stay. partitions: all of them. report: called with
    partition, position and end. Errors: RedisError, UpdatesUnavailable, AnotherLog, Repairing,
    Replaced.
    """
    done = Rebuilt()
    wanted = list(partitions)
    async with updates.open() as cursor:
        # Check first: a cache of another log must not be changed.
        for partition, mark in zip(wanted, await cache.marks(wanted), strict=True):
            if mark:
                check_log(partition, mark, await _end(cursor, partition))
        done.deleted = (await cache.repair(await cache.facts())).broken
        refills = []
        for partition in wanted:
            refill = Refill(cache, partition, clock())
            async with aclosing(refill.read(cursor)) as steps:
                async for step in steps:
                    done.records += step.records
                    done.written += step.scores
                    done.removed += step.removals
                    if step.end is not None:
                        report(partition, step.position, step.end)
            refills.append(refill)
        done.removed += await sweep(cache, refills, len(wanted))
        for refill in refills:
            await refill.finish(clock())
    return done


async def _end(cursor: Cursor, partition: int) -> int:
    await cursor.seek(partition, None)
    while True:
        if (end := (await cursor.read()).end) is not None:
            return end
