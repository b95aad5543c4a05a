"""A simulated consumer group: members join and leave, and Faust's assignor assigns partitions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextvars import Context
from typing import TYPE_CHECKING, Any

from faust.types import TP

if TYPE_CHECKING:
    from streams.transport.memory.consuming import MemoryConsumer


class _Cluster:
    """The cluster as the assignor sees it; an unknown topic has one partition."""

    def __init__(self, partitions: Mapping[str, int]) -> None:
        self._partitions = partitions

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(self._partitions.get(topic, 1)))


class MemoryGroup:
    """Simulated: one consumer group, with eager rebalances, one after another.

    A killed member is noticed at once; Kafka waits for its session to end.
    """

    def __init__(self, partitions: Mapping[str, int]) -> None:
        self.generation = 0
        self._cluster = _Cluster(partitions)
        self._members: dict[str, MemoryConsumer] = {}
        self._joined = 0
        self._turn = asyncio.Lock()
        self._rebalances: set[asyncio.Task[None]] = set()

    @property
    def rebalancing(self) -> bool:
        """Whether a rebalance is in progress."""
        return bool(self._rebalances) or self._turn.locked()

    def join(self, member: MemoryConsumer) -> None:
        """Add a member, and start a rebalance."""
        if member not in self._members.values():
            self._joined += 1
            self._members[f"member-{self._joined:04}"] = member
        self._begin()

    def leave(self, member: MemoryConsumer) -> None:
        """Remove a member, and start a rebalance among the others."""
        gone = [name for name, other in self._members.items() if other is member]
        for name in gone:
            del self._members[name]
        if gone and self._members:
            self._begin()

    async def rebalance(self) -> None:
        """Revoke all partitions from all members, and assign them again."""
        async with self._turn:
            members = dict(self._members)
            await _all((member, member.revoke()) for member in members.values())
            await self._assign()

    async def assign(self) -> None:
        """Assign all partitions to the present members."""
        async with self._turn:
            await self._assign()

    async def _assign(self) -> None:
        members = dict(self._members)
        if not members:
            return
        self.generation += 1
        leader = next(iter(members.values()))
        metadata = {
            name: each.assignor.metadata(sorted(each.topics)) for name, each in members.items()
        }
        assignments = leader.assignor.assign(self._cluster, metadata)
        given = []
        for name, member in members.items():
            assignment = assignments[name]
            member.assignor.on_assignment(assignment)
            tps = {
                TP(topic, number) for topic, numbers in assignment.assignment for number in numbers
            }
            given.append((member, member.take(tps, self.generation)))
        await _all(given)

    def _begin(self) -> None:
        # In a separate context, because it belongs to none of the members.
        task = asyncio.get_running_loop().create_task(self.rebalance(), context=Context())
        self._rebalances.add(task)
        task.add_done_callback(self._rebalances.discard)


async def _all(calls: Iterable[tuple[MemoryConsumer, Any]]) -> None:
    """Await calls of members at the same time, except of those that die meanwhile."""
    tasks = [
        asyncio.get_running_loop().create_task(call, context=member.context)
        for member, call in calls
    ]
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()
