"""Writing what was published of a partition, from a mark on, and moving the mark along."""

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import NamedTuple

from redis.exceptions import RedisError

from streams.cache.age import is_trusted, now_ms
from streams.cache.arguments import Call, MarkMove, Written
from streams.cache.cache import ScoreCache, Standing, chunks, newest
from streams.cache.score import CachedScore, Item, Removal
from streams.cache.updates import Cursor


class AnotherLog(Exception):
    """The cache holds more of a partition than is published; the text says what to do.

    Its scores are of another log, and their positions do not compare with those of this one.
    """


class TooOld(Exception):
    """Redis' mark may lie before tombstones that are gone from the log, or its age is unknown."""

    def __init__(self, partition: int, standing: Standing, now: int) -> None:
        self.partition, self.standing = partition, standing
        since = standing.since
        age = "of unknown age" if since is None else f"{(now - since) / 3_600_000:.1f} h old"
        super().__init__(
            f"what Redis has of partition {partition} of the updates, up to offset "
            f"{standing.mark or 'nobody knows'}, is {age}"
        )


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


def check_log(partition: int, mark: str, end: int | None) -> None:
    """Raise AnotherLog for a mark beyond the partition's end."""
    marked = mark_offset(mark)
    if end is not None and marked is not None and end < marked:
        raise AnotherLog(
            f"Redis has partition {partition} of the updates up to offset {marked}, but it ends at "
            f"{end}: the topic was made anew, or has lost records. Redis keeps scores of the old "
            "one until you run `clv rebuild-cache --clear`"
        )


def item_call(items: Sequence[Item], mark: MarkMove | None) -> Call:
    """Return the call that writes these items, of customers that differ."""
    return Call(
        [item for item in items if isinstance(item, CachedScore)],
        [item for item in items if isinstance(item, Removal)],
        mark,
    )


async def replay(
    cache: ScoreCache, cursor: Cursor, partition: int, clock: Callable[[], int] = now_ms
) -> AsyncGenerator[Progress, None]:
    """Write a partition from Redis' own mark on; tells after each fetch how far it is, for ever.

    Where another writer moves the mark, or Redis goes back, it goes on from the mark found.
    Errors: RedisError, UpdatesUnavailable, AnotherLog, TooOld.
    """
    mark, since = await _trusted(cache, partition, clock())
    await cursor.seek(partition, mark_offset(mark))
    while True:
        items, position, end = await cursor.read()
        check_log(partition, mark, end)
        calls = list(_calls(partition, mark, since, items, position))
        written = checked(await cache.write(calls))
        if calls:
            expected = calls[-1].mark.next if calls[-1].mark else ""
            mark = written[-1].mark
            if mark != expected:
                mark, since = await _trusted(cache, partition, clock())
                position = mark_offset(mark) or 0
                await cursor.seek(partition, mark_offset(mark))
                end = None
        yield _progress(position, end, mark, items, written)


async def _trusted(cache: ScoreCache, partition: int, now: int) -> Standing:
    standing = await cache.standing(partition, now)
    if not is_trusted(standing.since, now):
        raise TooOld(partition, standing, now)
    return standing


def _progress(
    position: int,
    end: int | None,
    mark: str,
    items: Sequence[Item],
    written: Sequence[Written],
) -> Progress:
    return Progress(
        position,
        end,
        mark,
        len(items),
        sum(each.scores for each in written),
        sum(each.removals for each in written),
    )


def _calls(
    partition: int, mark: str, since: int | None, items: Sequence[Item], position: int
) -> Iterator[Call]:
    parts = list(chunks(items))
    for number, part in enumerate(parts, 1):
        following = str(position if number == len(parts) else part[-1].position + 1)
        # On the way the mark is as old as where the reading began: later tombstones are to come.
        move = MarkMove(partition, mark, following, None if mark else since)
        yield item_call(newest_items(part), move)
        mark = following


def newest_items(items: Sequence[Item]) -> list[Item]:
    """Return the last item of each customer."""
    return list(newest(items).values())


def checked(replies: Sequence[Written | RedisError]) -> list[Written]:
    """Return the replies; raises the first that is an error."""
    for reply in replies:
        if isinstance(reply, RedisError):
            raise reply
    return [reply for reply in replies if not isinstance(reply, RedisError)]
