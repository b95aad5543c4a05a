"""Being alone in a consumer group, so that nobody else can join it.

Our assignor has a protocol that no other member has. The coordinator refuses members without a
common protocol: others while we are in, and us while another is.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import aiokafka
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener
from aiokafka.coordinator.assignors.abstract import AbstractPartitionAssignor
from aiokafka.coordinator.protocol import (
    ConsumerProtocolMemberAssignment,
    ConsumerProtocolMemberMetadata,
)
from aiokafka.errors import InconsistentGroupProtocolError
from aiokafka.structs import OffsetAndMetadata

from models.errors import ClvError
from streams.kafka.clients import started
from streams.kafka.connection import Broker
from streams.kafka.partitions import TopicPartition

_POLL_MILLISECONDS = 100
_NEVER_MILLISECONDS = 24 * 3600 * 1000
"""Nothing is polled: the coordinator must not mind."""


class GroupOccupied(ClvError):
    """The group has other members, with which we share no protocol."""


class _Nobody(AbstractPartitionAssignor):  # type: ignore[misc]
    """Assigns no partitions: only the membership matters.

    It names the topics, because Kafka forgets old offsets of topics that the group no longer reads.
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


class Membership:
    """Being the only member of a group."""

    def __init__(self, consumer: AIOKafkaConsumer) -> None:
        self._coordinator = consumer._coordinator  # noqa: SLF001 - the only one who knows
        self._member: str = self._coordinator.member_id

    @property
    def is_kept(self) -> bool:
        """Whether we have stayed a member: who was given up joins again under another id."""
        return bool(self._coordinator.member_id == self._member)

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit offsets of any partitions. Errors: KafkaError, also if the group was lost."""
        theirs = {
            aiokafka.TopicPartition(*tp): OffsetAndMetadata(offset, "")
            for tp, offset in offsets.items()
        }
        # The consumer's own method takes only partitions that are assigned to it, and none is.
        await self._coordinator.commit_offsets(None, theirs)


@asynccontextmanager
async def joined_alone(
    broker: Broker,
    group: str,
    topics: Sequence[str],
    *,
    client: str,
    session_seconds: float,
    heartbeat_seconds: float,
    join_seconds: float,
) -> AsyncIterator[Membership]:
    """Be the only member of a group. client: our name in it. Errors: KafkaError.

    Raises GroupOccupied when there are others; TimeoutError after `join_seconds`.
    """
    consumer = AIOKafkaConsumer(
        **broker.client_options(),
        group_id=group,
        client_id=client,
        enable_auto_commit=False,
        session_timeout_ms=int(session_seconds * 1000),
        heartbeat_interval_ms=int(heartbeat_seconds * 1000),
        max_poll_interval_ms=_NEVER_MILLISECONDS,
        partition_assignment_strategy=(_Nobody,),
    )
    listener = _Listener()
    consumer.subscribe(list(topics), listener=listener)
    async with started(consumer):
        try:
            async with asyncio.timeout(join_seconds):
                while not listener.joined.is_set():
                    await consumer.getmany(timeout_ms=_POLL_MILLISECONDS)
        except InconsistentGroupProtocolError as error:
            raise GroupOccupied(f"group {group} has other members") from error
        yield Membership(consumer)
