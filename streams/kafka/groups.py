"""Consumer groups: who is in them, and what they have committed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, NamedTuple, TypeVar

import aiokafka

from streams.kafka.clients import Admin, started
from streams.kafka.connection import Broker
from streams.kafka.errors import GroupAuthorizationFailedError, KafkaError
from streams.kafka.partitions import TopicPartition

Answer = TypeVar("Answer")

_COORDINATOR_SECONDS = 30.0
_POLL_SECONDS = 0.2


async def member_clients(admin: Admin, group: str) -> list[str]:
    """The client ids of a group's members. Errors: KafkaError."""
    responses: list[Any] = await once_there(lambda: admin.describe_consumer_groups([group]))
    # error, group, state, protocol type, protocol, members: id, client id, host, metadata, …
    return [member[1] for response in responses for each in response.groups for member in each[5]]


class GroupState(NamedTuple):
    """A group's members, and whether each knows its partitions.

    members: on the embedded broker also those that were killed, until another one joins.
    """

    members: int
    stable: bool


async def group_state(admin: Admin, group: str) -> GroupState | None:
    """Return the state of a group; None where this user may not know."""
    try:
        responses: list[Any] = await admin.describe_consumer_groups([group])
    except KafkaError:
        # Without the right to describe the group, its offsets may still be read.
        return None
    described = [each for response in responses for each in response.groups if not each[0]]
    if not described:
        return None
    _, _, state, _, _, members, *_ = described[0]
    return GroupState(len(members), state in ("Stable", "Empty", "Dead"))


async def member_count(admin: Admin, group: str) -> int | None:
    """Return how many members a group has; None where this user may not know."""
    state = await group_state(admin, group)
    return None if state is None else state.members


async def committed_offsets(
    admin: Admin, group: str, tps: Collection[TopicPartition]
) -> dict[TopicPartition, int]:
    """What a group has committed; partitions where it has not are missing. Errors: KafkaError."""
    if not tps:
        return {}
    # Asked by partition: the embedded broker's answer for all of them is cut short.
    asked = [aiokafka.TopicPartition(*tp) for tp in tps]
    try:
        held = await admin.list_consumer_group_offsets(group, partitions=asked)
    except GroupAuthorizationFailedError as error:
        # aiokafka says it in a sentence; whoever tells it expects the name.
        raise GroupAuthorizationFailedError(group) from error
    return {TopicPartition(*tp): int(at.offset) for tp, at in held.items() if at.offset >= 0}


async def once_there(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """Ask until there is a coordinator: a new Kafka makes its topic when it is first asked."""
    until = monotonic() + _COORDINATOR_SECONDS
    while True:
        try:
            return await ask()
        except KafkaError as error:
            if not error.retriable or monotonic() > until:
                raise
        await asyncio.sleep(_POLL_SECONDS)


class GroupClient:
    """Reads and sets a group's offsets. All methods raise KafkaError."""

    def __init__(self, consumer: aiokafka.AIOKafkaConsumer) -> None:
        self._consumer = consumer

    async def committed(self, tp: TopicPartition) -> int | None:
        """What the group has committed of a partition."""
        offset: int | None = await self._consumer.committed(aiokafka.TopicPartition(*tp))
        return offset

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Set the offsets of partitions; the group must have no members."""
        theirs = {aiokafka.TopicPartition(*tp): offset for tp, offset in offsets.items()}
        self._consumer.assign(list(theirs))
        await self._consumer.commit(theirs)


@asynccontextmanager
async def group_client(broker: Broker, group: str) -> AsyncIterator[GroupClient]:
    """A client that reads and sets a group's offsets without joining it. Errors: KafkaError."""
    client = aiokafka.AIOKafkaConsumer(
        **broker.client_options(), group_id=group, enable_auto_commit=False
    )
    async with started(client) as consumer:
        yield GroupClient(consumer)
