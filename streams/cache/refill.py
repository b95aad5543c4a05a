"""Refill: read a whole partition, and remove customers from Redis that its log no longer has.

If Redis is older than the tombstones in the log, it may hold customers whose tombstone is gone.
They can only be recognised by not being in the log.
"""

from array import array
from collections import defaultdict
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from itertools import count
from uuid import uuid4

import numpy as np
import numpy.typing as npt

from models.errors import ClvError
from streams.cache.age import is_trusted
from streams.cache.arguments import Call, MarkMove
from streams.cache.cache import chunks, newest
from streams.cache.ports import Scores
from streams.cache.rereading import ReadProgress, check_log, checked, counts, item_call
from streams.cache.score import CachedScore, Removal
from streams.cache.updates import Cursor
from streams.kafka.partitions import home_partition

_SEEN_AT_ONCE = 1_000_000


class Replaced(ClvError):
    """Redis was emptied or restored during a refill, which has to start again."""


class Seen:
    """The customers of a log, as hashes of eight bytes each.

    Python's hash differs in each process, so that nobody can choose ids that collide.
    """

    def __init__(self) -> None:
        self._new = array("q")
        self.hashes: npt.NDArray[np.int64] = np.empty(0, np.int64)

    def add(self, customers: Iterable[str]) -> None:
        """Add customers."""
        self._new.extend(map(hash, customers))
        if len(self._new) >= _SEEN_AT_ONCE:
            self.sort()

    def sort(self) -> None:
        """Make `hashes` hold all that were added, each once and in order."""
        self.hashes = np.union1d(self.hashes, np.frombuffer(self._new, np.int64))
        self._new = array("q")


class Refill:
    """The reading of one partition, from its beginning to its end when the reading started.

    It moves a mark of its own, so that it notices if Redis was emptied or restored from a backup
    meanwhile. end: offset up to which it has read.
    """

    def __init__(self, cache: Scores, partition: int, began: int) -> None:
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

    async def read(self, cursor: Cursor) -> AsyncGenerator[ReadProgress, None]:
        """Write the published scores; yield the progress after each fetch.

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
            calls = [item_call(newest(part), None)._replace(correct=True) for part in chunks(items)]
            scores, removals = await self._write(calls)
            yield ReadProgress(self.end, goal, self._mark, len(items), scores, removals)
        self.seen.sort()

    async def remove(self, customers: Sequence[str]) -> None:
        """Remove customers who are not in the log, unless they were published since.

        Errors: RedisError, Replaced.
        """
        # One before the end: a removal at the end would refuse a score published there.
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
        return counts(written)

    def _replaced(self) -> Replaced:
        return Replaced(
            f"Redis was emptied, replaced or cleared while partition {self.partition} of the "
            "updates was read for it"
        )


async def sweep(cache: Scores, refills: Sequence[Refill], partitions: int) -> int:
    """Remove customers that the refilled partitions no longer have; return how many.

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
