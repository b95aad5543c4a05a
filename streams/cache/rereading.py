"""Read a partition's updates again from the mark in Redis, write them, and move the mark."""

from collections.abc import AsyncGenerator, Callable, Iterator, Sequence
from typing import NamedTuple

from redis.exceptions import RedisError

from models.errors import ClvError
from streams.cache.age import is_trusted, now_ms
from streams.cache.arguments import Call, MarkMove, Written
from streams.cache.cache import chunks, newest
from streams.cache.ports import Scores, Standing
from streams.cache.score import CachedScore, Item, Removal
from streams.cache.updates import Cursor


class AnotherLog(ClvError):
    """The cache is of another log: its mark is beyond the partition's end.

    Positions of two logs do not compare. The text says what to do.
    """


class TooOld(ClvError):
    """The mark in Redis is too old or of unknown age: tombstones after it may be gone."""

    def __init__(self, partition: int, standing: Standing, now: int) -> None:
        self.partition, self.standing = partition, standing
        since = standing.since
        age = "of unknown age" if since is None else f"{(now - since) / 3_600_000:.1f} h old"
        super().__init__(
            f"what Redis has of partition {partition} of the updates, up to offset "
            f"{standing.mark or 'nobody knows'}, is {age}"
        )


class ReadProgress(NamedTuple):
    """The progress of rereading a partition.

    position: offset before which everything is in Redis; end: of the partition, None while unknown;
    mark: in Redis; records, scores, removals: numbers read, written and removed since the last one.
    """

    position: int
    end: int | None
    mark: str
    records: int
    scores: int
    removals: int

    @property
    def left(self) -> int | None:
        """How many offsets are left; None while unknown."""
        return None if self.end is None else max(self.end - self.position, 0)


def mark_offset(mark: str) -> int | None:
    """Return the offset of a mark, before which everything is in that Redis; None for no mark."""
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
    """Return the call that writes these items, at most one of each customer."""
    return Call(
        [item for item in items if isinstance(item, CachedScore)],
        [item for item in items if isinstance(item, Removal)],
        mark,
    )


async def reread(
    cache: Scores, cursor: Cursor, partition: int, clock: Callable[[], int] = now_ms
) -> AsyncGenerator[ReadProgress, None]:
    """Write a partition from the mark in Redis on, for ever; yield the progress after each fetch.

    If another writer moves the mark, or Redis goes back, it continues from the mark found.
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
        scores, removals = counts(written)
        yield ReadProgress(position, end, mark, len(items), scores, removals)


async def _trusted(cache: Scores, partition: int, now: int) -> Standing:
    standing = await cache.standing(partition, now)
    if not is_trusted(standing.since, now):
        raise TooOld(partition, standing, now)
    return standing


def _calls(
    partition: int, mark: str, since: int | None, items: Sequence[Item], position: int
) -> Iterator[Call]:
    parts = list(chunks(items))
    for number, part in enumerate(parts, 1):
        following = str(position if number == len(parts) else part[-1].position + 1)
        # The mark keeps the age of the start: later tombstones are still to be read.
        move = MarkMove(partition, mark, following, None if mark else since)
        yield item_call(newest(part), move)
        mark = following


def checked(replies: Sequence[Written | RedisError]) -> list[Written]:
    """Return the replies; raise the first that is an error."""
    for reply in replies:
        if isinstance(reply, RedisError):
            raise reply
    return [reply for reply in replies if not isinstance(reply, RedisError)]


def counts(written: Sequence[Written]) -> tuple[int, int]:
    """Return how many customers these calls have written, and how many removed."""
    return sum(each.scores for each in written), sum(each.removals for each in written)
