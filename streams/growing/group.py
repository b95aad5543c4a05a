"""Holding the consumer group, so that no worker can join it meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic

from streams.growing.stage import GrowthRefused
from streams.kafka.clients import admin_client
from streams.kafka.connection import Broker
from streams.kafka.groups import member_clients
from streams.kafka.joining import GroupOccupied, Membership, joined_alone
from streams.kafka.partitions import TopicPartition
from streams.settings import Settings

CLIENT = "clv-partitions-grow"

_JOIN_SECONDS = 30.0
_POLL_SECONDS = 0.2


class Held:
    """The group is held, as long as `check` raises nothing."""

    def __init__(self, membership: Membership) -> None:
        self._membership = membership

    def check(self) -> None:
        """Raise GrowthRefused when the group was lost, and a worker may have joined."""
        if not self._membership.is_kept:
            raise GrowthRefused(
                "the consumer group was lost meanwhile, because this process was frozen or the "
                "broker away: see that no worker runs, and run this again; it goes on where it was"
            )

    async def commit(self, offsets: Mapping[TopicPartition, int]) -> None:
        """Commit offsets in the workers' place. Errors: KafkaError."""
        await self._membership.commit(offsets)


@asynccontextmanager
async def group_held(settings: Settings, broker: Broker) -> AsyncIterator[Held]:
    """Hold the group of the workers.

    Errors: GrowthRefused if it has members, or cannot be joined; KafkaError.
    """
    await _wait_for_members(settings, broker)
    joining = joined_alone(
        broker,
        settings.app_id,
        settings.topics.sources,
        client=CLIENT,
        session_seconds=settings.session_timeout,
        heartbeat_seconds=settings.heartbeat_interval,
        join_seconds=_JOIN_SECONDS,
    )
    async with AsyncExitStack() as stack:
        try:
            membership = await stack.enter_async_context(joining)
        except GroupOccupied as error:
            raise _members_refused(settings, "workers") from error
        except TimeoutError as error:
            raise GrowthRefused(
                f"the broker did not let this command into group {settings.app_id} within "
                f"{_JOIN_SECONDS:g} s: see whether the group's coordinator is there (`clv doctor`)"
            ) from error
        yield Held(membership)


async def _wait_for_members(settings: Settings, broker: Broker) -> None:
    """Wait for another growth, and for as long as a killed worker counts as a member."""
    session = settings.session_timeout
    began = monotonic()
    async with admin_client(broker) as admin:
        while members := await member_clients(admin, settings.app_id):
            waited = monotonic() - began
            workers = [name for name in members if name != CLIENT]
            if workers and waited > session + 1:
                raise _members_refused(settings, f"{len(workers)} workers")
            if waited > 2 * session + 1:
                raise GrowthRefused(
                    "another `clv partitions grow` is at work: wait until it is done"
                )
            await asyncio.sleep(_POLL_SECONDS)


def _members_refused(settings: Settings, who: str) -> GrowthRefused:
    return GrowthRefused(
        f"group {settings.app_id} has {who}: stop them all with SIGTERM, and run this again"
    )
