"""Which customers of a worker's partitions are due, and when: queues in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from heapq import heappop, heappush
from itertools import islice
from typing import Final

from models.context import Context
from models.falling_due import dues
from models.timeline import NEVER

READ: Final = 2_000
"""Records that are read at once when a queue is built; live events pass in between."""


class _Queue:
    """The customers of one partition by the time they are due; times in milliseconds since 1970.

    Nearly all of these times are midnights, so there are few of them.

    context: with which they were read. pending: those with outputs that may not be delivered.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.pending: set[bytes] = set()
        self._moments: dict[bytes, int] = {}
        self._keys: dict[int, set[bytes]] = {}
        self._heap: list[int] = []

    def note(self, key: bytes, moment: int) -> None:
        known = self._moments.get(key)
        if known == moment:
            return
        if known is not None:
            self._keys[known].discard(key)
        if moment >= NEVER:
            self._moments.pop(key, None)
            return
        self._moments[key] = moment
        keys = self._keys.get(moment)
        if keys is None:
            keys = self._keys[moment] = set()
            heappush(self._heap, moment)
        keys.add(key)

    def next(self) -> int:
        while self._heap and not self._keys[self._heap[0]]:
            del self._keys[heappop(self._heap)]
        return self._heap[0] if self._heap else NEVER

    def until(self, moment: int) -> list[bytes]:
        """They stay due until their records say something else."""
        return [key for each in sorted(self._due(moment)) for key in sorted(self._keys[each])]

    def count(self, moment: int) -> int:
        return sum(len(self._keys[each]) for each in self._due(moment))

    def _due(self, moment: int) -> list[int]:
        return [each for each in self._heap if each <= moment]


class Dues:
    """The queues of all partitions of a worker."""

    def __init__(self) -> None:
        self._queues: dict[int, _Queue] = {}
        self._generation = 0

    def forget(self) -> None:
        """Forget everything: partitions were assigned anew, and their states with them."""
        self._queues.clear()
        self._generation += 1

    def note(self, partition: int, moments: Mapping[bytes, int]) -> None:
        """Note when customers of a partition are due by now, as stored with their records."""
        queue = self._queues.get(partition)
        if queue is not None:
            for key, moment in moments.items():
                queue.note(key, moment)

    def knows(self, partition: int, context: Context) -> bool:
        """Return whether the queue of a partition is built, for these parameters and rules."""
        queue = self._queues.get(partition)
        return queue is not None and queue.context is context

    async def build(
        self,
        partition: int,
        states: Mapping[bytes, bytes],
        context: Context,
        is_pending: Callable[[str, int], bool],
    ) -> None:
        """Build the queue of a partition from its records, in small steps; see `falling_due`."""
        generation = self._generation
        queue = self._queues[partition] = _Queue(context)
        keys = iter(list(states))
        while chunk := list(islice(keys, READ)):
            for each in dues(states, chunk, context, is_pending):
                queue.note(each.key, each.moment)
                if each.pending:
                    queue.pending.add(each.key)
            await asyncio.sleep(0)
            if self._generation != generation or self._queues.get(partition) is not queue:
                return

    def next(self, partition: int) -> int:
        """Return when the next customer of a partition is due, or NEVER."""
        queue = self._queues.get(partition)
        return NEVER if queue is None else queue.next()

    def count(self, until: int) -> int:
        """Return how many customers of all partitions are due at a time."""
        return sum(queue.count(until) for queue in self._queues.values())

    def take(self, partition: int, until: int) -> list[bytes]:
        """Return who is due at a time, and once those with outputs that may not be delivered."""
        queue = self._queues[partition]
        pending, queue.pending = queue.pending, set()
        return list(dict.fromkeys([*sorted(pending), *queue.until(until)]))
