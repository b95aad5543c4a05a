"""A simulated consumer group: members join and leave, and Faust's own assignor gives partitions."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from contextvars import Context
from typing import Any, Protocol

from faust.types import TP


class Member(Protocol):
    """A consumer in the group."""

    assignor: Any
    context: Context
    topics: list[str]

    async def revoke(self) -> None:
        """Give all partitions back."""

    async def take(self, assigned: set[TP], generation: int) -> None:
        """Take these partitions."""


class _Cluster:
    """What the assignor asks of the cluster; a topic that nobody created has one partition."""

    def __init__(self, partitions: Mapping[str, int]) -> None:
        self._partitions = partitions

    def partitions_for_topic(self, topic: str) -> set[int]:
        return set(range(self._partitions.get(topic, 1)))


class MemoryGroup:
    """Simulated: one consumer group, with eager rebalances, one after another.

    A member that is gone without a word is noticed at once, where Kafka waits for its session to
    end.
    """

    def __init__(self, partitions: Mapping[str, int]) -> None:
        self.generation = 0
        self._cluster = _Cluster(partitions)
        self._members: dict[str, Member] = {}
        self._joined = 0
        self._turn = asyncio.Lock()
        self._rebalances: set[asyncio.Task[None]] = set()

    @property
    def rebalancing(self) -> bool:
        """Whether a rebalance is under way."""
        return bool(self._rebalances) or self._turn.locked()

    def join(self, member: Member) -> None:
        """Take a member in, and begin a rebalance."""
        if member not in self._members.values():
            self._joined += 1
            self._members[f"member-{self._joined:04}"] = member
        self._begin()

    def leave(self, member: Member) -> None:
        """Let a member go, and begin a rebalance among those that stay."""
        gone = [name for name, other in self._members.items() if other is member]
        for name in gone:
            del self._members[name]
        if gone and self._members:
            self._begin()

    async def rebalance(self) -> None:
        """Take all partitions from all members, and give them anew."""
        async with self._turn:
            members = dict(self._members)
            await _all((member, member.revoke()) for member in members.values())
            await self._assign()

    async def assign(self) -> None:
        """Give all partitions to the members there are."""
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
        # In a context of its own: it belongs to none of the members.
        task = asyncio.get_running_loop().create_task(self.rebalance(), context=Context())
        self._rebalances.add(task)
        task.add_done_callback(self._rebalances.discard)


async def _all(calls: Iterable[tuple[Member, Any]]) -> None:
    """Have members do something at the same time; one that dies meanwhile is not waited for."""
    tasks = [
        asyncio.get_running_loop().create_task(call, context=member.context)
        for member, call in calls
    ]
    if tasks:
        await asyncio.wait(tasks)
    for task in tasks:
        if not task.cancelled():
            task.result()
