"""Holding the consumer group, so that no worker can join it meanwhile; and where it stands.

A member with another assignor's protocol keeps workers out: the coordinator refuses whoever does
not share a protocol with it, and would refuse us if there was a worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)
from aiokafka.errors import InconsistentGroupProtocolError, KafkaError

from streams.clients import started
from streams.connection import Broker
from streams.growing.stage import GrowthRefused
from streams.settings import Settings

Answer = TypeVar("Answer")

CLIENT = "clv-partitions-grow"

_JOIN_SECONDS = 30.0
_COORDINATOR_SECONDS = 30.0
_POLL_MILLISECONDS = 100
_POLL_SECONDS = 0.2
_NEVER_MILLISECONDS = 24 * 3600 * 1000
"""Nothing is polled: the coordinator must not mind."""


class _Nobody(AbstractPartitionAssignor):  # type: ignore[misc]
    """Gives nobody any partition: what is held is the group, and nothing is to be fetched.

    The topics are named all the same: Kafka forgets old offsets of topics that a group has left.
    """

    name = "clv-grow"
    version = 0

    @classmethod
    def assign(cls, cluster: Any, members: Any) -> Any:  # noqa: ARG003
        """Nothing for anybody."""
        return {
            member: ConsumerProtocolMemberAssignment(cls.version, [], b"") for member in members
        }

    @classmethod
    def metadata(cls, topics: Any) -> Any:
        """What the coordinator is told of us."""
        return ConsumerProtocolMemberMetadata(cls.version, list(topics), b"")

    @classmethod
    def on_assignment(cls, assignment: Any) -> None:
        """Nothing to remember."""


class _Listener(ConsumerRebalanceListener):  # type: ignore[misc]
    def __init__(self) -> None:
        self.joined = asyncio.Event()

    def on_partitions_revoked(self, revoked: Any) -> None:
        """Nothing was given."""

    def on_partitions_assigned(self, assigned: Any) -> None:  # noqa: ARG002
        """We are in."""
        self.joined.set()


class Held:
    """The group is held, as long as `check` raises nothing."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._coordinator = consumer._coordinator  # noqa: SLF001 - the only one who knows
        self._member: str = self._coordinator.member_id

    def check(self) -> None:
        """Raise GrowthRefused when the group was lost, and a worker may have joined."""
        # Who was given up joins anew under another name; a rebalance of our own keeps it.
        if self._coordinator.member_id != self._member:
            raise GrowthRefused(
                "the consumer group was lost meanwhile, because this process was frozen or the "
                "broker away: see that no worker runs, and run this again; it goes on where it was"
            )


@asynccontextmanager
async def group_held(settings: Settings, broker: Broker) -> AsyncIterator[Held]:
    """Hold the group of the workers. Errors: KafkaError.

    Raises
    ------
    GrowthRefused
        when it has members, or cannot be joined.
    """
    await _wait_for_our_like(settings, broker)
    client = AIOKafkaConsumer(
        **broker.client_options(),
        group_id=settings.app_id,
        client_id=CLIENT,
        enable_auto_commit=False,
        session_timeout_ms=int(settings.session_timeout * 1000),
        heartbeat_interval_ms=int(settings.heartbeat_interval * 1000),
        max_poll_interval_ms=_NEVER_MILLISECONDS,
        partition_assignment_strategy=(_Nobody,),
    )
    listener = _Listener()
    client.subscribe(list(settings.topics.sources), listener=listener)
    async with started(client) as consumer:
        try:
            async with asyncio.timeout(_JOIN_SECONDS):
                while not listener.joined.is_set():
                    await consumer.getmany(timeout_ms=_POLL_MILLISECONDS)
        except InconsistentGroupProtocolError as error:
            raise _members_refused(settings, "workers") from error
        except TimeoutError as error:
            raise GrowthRefused(
                f"the broker did not let this command into group {settings.app_id} within "
                f"{_JOIN_SECONDS:g} s: see whether the group's coordinator is there (`clv doctor`)"
            ) from error
        yield Held(consumer)


async def _wait_for_our_like(settings: Settings, broker: Broker) -> None:
    """Refuse where workers are; one like us that was killed is gone after its session."""
    async with started(AIOKafkaAdminClient(**broker.client_options())) as admin:
        try:
            async with asyncio.timeout(2 * settings.session_timeout + 1):
                while members := await group_members(admin, settings.app_id):
                    if workers := [name for name in members if name != CLIENT]:
                        raise _members_refused(settings, f"{len(workers)} workers")
                    await asyncio.sleep(_POLL_SECONDS)
        except TimeoutError as error:
            raise GrowthRefused(
                "another `clv partitions grow` is at work: wait until it is done"
            ) from error


def _members_refused(settings: Settings, who: str) -> GrowthRefused:
    return GrowthRefused(
        f"group {settings.app_id} has {who}: stop them all with SIGTERM, and run this again. One "
        f"that was killed counts for {settings.session_timeout:g} s more (CLV_SESSION_TIMEOUT)"
    )


async def group_members(admin: AIOKafkaAdminClient, group: str) -> list[str]:
    """The client ids of a group's members. Errors: KafkaError."""
    responses: list[Any] = await _once_there(lambda: admin.describe_consumer_groups([group]))
    # error, group, state, protocol type, protocol, members: id, client id, host, metadata, …
    return [member[1] for response in responses for each in response.groups for member in each[5]]


async def committed_offsets(
    admin: AIOKafkaAdminClient, group: str, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, int]:
    """The committed offsets of a group, where it has some. Errors: KafkaError."""
    found = await _once_there(
        lambda: admin.list_consumer_group_offsets(group, partitions=list(partitions))
    )
    return {tp: place.offset for tp, place in found.items() if place.offset >= 0}


async def _once_there(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """Ask until there is a coordinator: a new Kafka makes its topic when it is first asked."""
    until = monotonic() + _COORDINATOR_SECONDS
    while True:
        try:
            return await ask()
        except KafkaError as error:
            if not error.retriable or monotonic() > until:
                raise
        await asyncio.sleep(_POLL_SECONDS)


async def unread(
    broker: Broker, committed: dict[TopicPartition, int], partitions: Collection[TopicPartition]
) -> dict[TopicPartition, int]:
    """How many records of these partitions the group has not read. Errors: KafkaError."""
    async with started(
        AIOKafkaConsumer(**broker.client_options(), enable_auto_commit=False)
    ) as consumer:
        begins = await consumer.beginning_offsets(list(partitions))
        ends = await consumer.end_offsets(list(partitions))
    left = {tp: ends[tp] - max(begins[tp], committed.get(tp, 0)) for tp in partitions}
    return {tp: number for tp, number in left.items() if number > 0}
