"""Reading a whole partition, and removing from Redis whom its log no longer has.

A Redis from before the tombstones that are still in the log has customers who were erased or merged
since, and nothing in the log says so any more: only that they are not in it does.
"""

from array import array
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from itertools import count
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from streams.cache.age import is_trusted
from streams.cache.arguments import Call, MarkMove
from streams.cache.cache import ScoreCache, chunks
from streams.cache.replay import Progress, check_log, checked, item_call, newest_items
from streams.cache.score import CachedScore, Item, Removal
from streams.cache.updates import Cursor
from streams.topics import home_partition

_SEEN_AT_ONCE = 1_000_000


class Replaced(Exception):
    """Redis is not as the reading left it: it has to begin again."""


class Seen:
    """The customers that a log has, by eight bytes each.

    Python's hash is another in each process, so that nobody can choose ids that share one.
    """

    def __init__(self) -> None:
        self._new = array("q")
        self.hashes: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def add(self, customers: Iterable[str]) -> None:
        """Take note of customers."""
        self._new.extend(map(hash, customers))
        if len(self._new) >= _SEEN_AT_ONCE:
            self.settle()

    def settle(self) -> None:
        """Have `hashes` hold all that were added, each once and in order."""
        self.hashes = np.union1d(self.hashes, np.frombuffer(self._new, np.int64))
        self._new = array("q")


class Refill:
    """The reading of one partition, from its beginning to where it ended at the first look.

    It moves a mark of its own, in steps that nobody else takes, so that it notices when Redis was
    emptied, or came back from a copy, on the way. end: offset up to which it has read.
    """

    def __init__(self, cache: ScoreCache, partition: int, began: int) -> None:
        self.partition = partition
        self.seen = Seen()
        self.end = 0
        self.removed = 0
        self._cache = cache
        self._began = began
        self._name = f"{partition}/{began}.{uuid4().hex[:12]}"
        self._mark = ""
        self._steps = count(1)
        self._run_id = ""

    async def read(self, cursor: Cursor) -> AsyncGenerator[Progress, None]:
        """Write what was published; tells after each fetch how far it is.

        Errors: RedisError, UpdatesUnavailable, AnotherLog, Replaced.
        """
        self._run_id = (await self._cache.facts()).run_id
        await self._write([Call()])
        [held] = await self._cache.marks([self.partition])
        await cursor.seek(self.partition, None)
        goal: int | None = None
        while goal is None or self.end < goal:
            items, self.end, end = await cursor.read()
            check_log(self.partition, held, end)
            goal = end if goal is None else goal
            self.seen.add(item.customer_id for item in items if isinstance(item, CachedScore))
            calls = [_correcting(part) for part in chunks(items)]
            scores, removals = await self._write(calls)
            yield Progress(self.end, goal, self._mark, len(items), scores, removals)
        self.seen.settle()

    async def remove(self, customers: Sequence[str]) -> None:
        """Take customers out who are not in the log, unless they were published since it was read.

        Errors: RedisError, Replaced.
        """
        # One before the end: a note at the end would keep out what is published there.
        if self.end:
            position = self.end - 1
            calls = [
                Call(removals=[Removal(each, position) for each in part])
                for part in chunks(customers)
            ]
            _, removed = await self._write(calls)
            self.removed += removed

    async def finish(self, now: int) -> None:
        """Set the partition's mark. Errors: RedisError, Replaced."""
        own = self._name, self._mark
        if (await self._cache.facts()).run_id != self._run_id or not is_trusted(self._began, now):
            raise self._replaced()
        if not await self._cache.finish(self.partition, own, self.end, self._began):
            raise self._replaced()

    async def _write(self, calls: Sequence[Call]) -> tuple[int, int]:
        moving = []
        for call in calls:
            following = f"{next(self._steps)}"
            moving.append(call._replace(mark=MarkMove(self._name, self._mark, following)))
            self._mark = following
        written = checked(await self._cache.write(moving))
        if written and written[-1].mark != self._mark:
            raise self._replaced()
        return sum(each.scores for each in written), sum(each.removals for each in written)

    def _replaced(self) -> Replaced:
        return Replaced(
            f"Redis was emptied, replaced or cleared while partition {self.partition} of the "
            "updates was read for it"
        )


async def sweep(cache: ScoreCache, refills: Sequence[Refill], partitions: int) -> int:
    """Remove whom the partitions that were read no longer have; returns how many.

    partitions: how many the topic has. Errors: RedisError, Replaced.
    """
    known = np.unique(np.concatenate([refill.seen.hashes for refill in refills]))
    by_partition: Mapping[int, Refill] = {refill.partition: refill for refill in refills}
    async for customers in cache.scan_customers():
        hashes = np.fromiter(map(hash, customers), np.int64, len(customers))
        unseen: defaultdict[int, list[str]] = defaultdict(list)
        for place in np.flatnonzero(~np.isin(hashes, known)):
            customer = customers[place]
            unseen[home_partition(customer.encode(), partitions)].append(customer)
        for partition in unseen.keys() & by_partition.keys():
            await by_partition[partition].remove(sorted(set(unseen[partition])))
    return sum(refill.removed for refill in refills)


def _correcting(items: Sequence[Item]) -> Call:
    return item_call(newest_items(items), None)._replace(correct=True)
