"""Filling the cache from the updates, without a worker."""

from collections.abc import Callable, Iterable
from contextlib import aclosing
from dataclasses import dataclass

from streams.cache.cache import ScoreCache
from streams.cache.replay import replay, rewrite
from streams.cache.updates import Updates


@dataclass(slots=True)
class Rebuilt:
    """What a rebuild read, and what was newer than the cache had it."""

    records: int = 0
    written: int = 0
    removed: int = 0


async def rebuild(
    cache: ScoreCache,
    updates: Updates,
    partitions: Iterable[int],
    report: Callable[[int, int, int], None] = lambda _partition, _position, _end: None,
) -> Rebuilt:
    """Write everything that is published, and leave what is newer; safe while workers write.

    A partition without a mark gets one; the others' marks are their workers'. report: called with
    partition, position and end. Errors: RedisError, UpdatesUnavailable, AnotherLog.
    """
    done = Rebuilt()
    async with updates.open() as cursor:
        for partition in partitions:
            [mark] = await cache.marks([partition])
            way = (
                rewrite(cache, cursor, partition, mark)
                if mark
                else replay(cache, cursor, partition)
            )
            async with aclosing(way) as steps:
                async for step in steps:
                    done.records += step.records
                    done.written += step.scores
                    done.removed += step.removals
                    if step.end is not None:
                        report(partition, step.position, step.end)
                    if step.at_end:
                        break
    return done
