"""Writing what was published of a partition, from a mark on, and moving the mark along."""

from collections.abc import AsyncGenerator, Iterator, Sequence
from typing import NamedTuple

from redis.exceptions import RedisError

from streams.cache.arguments import Call, MarkMove, Written
from streams.cache.cache import ScoreCache, chunks, newest
from streams.cache.score import CachedScore, Removal
from streams.cache.updates import Cursor, Published


class Progress(NamedTuple):
    """How far a replay has come.

    position: offset before which everything is in Redis; end: of the partition, None while unknown;
    mark: the one in Redis; records, scores, removals: how many were read, written and removed since
    the last progress.
    """

    position: int
    end: int | None
    mark: str
    records: int
    scores: int
    removals: int

    @property
    def at_end(self) -> bool:
        """Whether nothing was left when it was read."""
        return self.end is not None and self.position >= self.end

    @property
    def left(self) -> int | None:
        """How many offsets are left; None while unknown."""
        return None if self.end is None else max(self.end - self.position, 0)


def mark_offset(mark: str) -> int | None:
    """Return the offset of a mark: everything before it is in that Redis; None for no mark."""
    return int(mark.partition("~")[0]) if mark else None


def item_call(items: Sequence[CachedScore | Removal], mark: MarkMove | None) -> Call:
    """Return the call that writes these items, of customers that differ."""
    return Call(
        [item for item in items if isinstance(item, CachedScore)],
        [item for item in items if isinstance(item, Removal)],
        mark,
    )


async def replay(
    cache: ScoreCache, cursor: Cursor, partition: int
) -> AsyncGenerator[Progress, None]:
    """Write a partition from Redis' own mark on; tells after each fetch how far it is, for ever.

    Where another writer moves the mark, or Redis goes back, it goes on from the mark found.
    Errors: RedisError, UpdatesUnavailable.
    """
    [mark] = await cache.marks([partition])
    position = mark_offset(mark)
    await cursor.seek(partition, position)
    while True:
        records, position, end = await cursor.read()
        start = mark_offset(mark)
        if end is not None and start is not None and end < start:
            # The topic was made anew: the mark speaks of another one.
            await cursor.seek(partition, None)
            [replied] = checked(await cache.write([Call(mark=MarkMove(partition, mark, "0"))]))
            mark = replied.mark
            continue
        calls = list(_calls(partition, mark, records, position))
        written = checked(await cache.write(calls))
        if calls:
            expected = calls[-1].mark.next if calls[-1].mark else ""
            mark = written[-1].mark
            if mark != expected:
                position = mark_offset(mark) or 0
                await cursor.seek(partition, mark_offset(mark))
                end = None
        yield _progress(position, end, mark, records, written)


async def rewrite(
    cache: ScoreCache, cursor: Cursor, partition: int
) -> AsyncGenerator[Progress, None]:
    """Write a partition from its beginning on, and leave its mark alone; else as `replay`."""
    await cursor.seek(partition, None)
    while True:
        records, position, end = await cursor.read()
        calls = [_call(part, None) for part in chunks(records)]
        written = checked(await cache.write(calls))
        yield _progress(position, end, "", records, written)


def _progress(
    position: int,
    end: int | None,
    mark: str,
    records: Sequence[Published],
    written: Sequence[Written],
) -> Progress:
    return Progress(
        position,
        end,
        mark,
        len(records),
        sum(each.scores for each in written),
        sum(each.removals for each in written),
    )


def _calls(
    partition: int, mark: str, records: Sequence[Published], position: int
) -> Iterator[Call]:
    parts = list(chunks(records))
    for number, part in enumerate(parts, 1):
        following = str(position if number == len(parts) else part[-1].offset + 1)
        yield _call(part, MarkMove(partition, mark, following))
        mark = following


def _call(records: Sequence[Published], mark: MarkMove | None) -> Call:
    return item_call(list(newest(record.item for record in records).values()), mark)


def checked(replies: Sequence[Written | RedisError]) -> list[Written]:
    """Return the replies; raises the first that is an error."""
    for reply in replies:
        if isinstance(reply, RedisError):
            raise reply
    return [reply for reply in replies if not isinstance(reply, RedisError)]
