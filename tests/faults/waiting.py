"""Waits until the service is ready, has worked on something, or is done."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from streams.topics import plan
from tests.faults.limits import Hang
from tests.faults.logs import Latest
from tests.faults.progress import behind_in_redis, uncommitted
from tests.faults.world import ATTEMPT_SECONDS, HEAL_SECONDS, NODES, World

POLL_SECONDS = 0.2


async def ready(here: World, workers: int, seconds: float) -> None:
    """Have so many workers that share the partitions, and nothing left to do.

    Raises
    ------
    Hang
        if that takes longer.
    """
    await here.fleet.resize(workers)()
    if len(here.nodes) == NODES:
        await _in_sync(here)

    async def at_work(admin: AIOKafkaAdminClient) -> bool:
        [response] = await admin.describe_consumer_groups([here.settings.app_id])
        [(_, _, state, _, _, members, *_)] = response.groups
        return state == "Stable" and len(members) == workers

    await _until(here, at_work, seconds, f"{workers} workers to share the partitions")
    await settle(here, seconds)


async def _in_sync(here: World) -> None:
    """Wait until every partition has all its copies again."""
    names = [topic.name for topic in plan(here.settings)]
    names.append("__consumer_offsets")

    async def complete(admin: AIOKafkaAdminClient) -> bool:
        described = await admin.describe_topics(names)
        return all(len(p["isr"]) == NODES for topic in described for p in topic["partitions"])

    await _until(here, complete, HEAL_SECONDS, "the copies of all partitions to be in sync")


async def settle(here: World, seconds: float) -> None:
    """Wait until all is committed and Redis holds the newest of every customer.

    Raises
    ------
    Hang
        if that takes longer.
    """

    async def settled(admin: AIOKafkaAdminClient) -> bool:
        if await uncommitted(here, admin):
            return False
        # What is sent on, and messages between customers, come while others are looked at.
        before = dict(here.logs.ends)
        if await uncommitted(here, admin) or before != here.logs.ends:
            return False
        # Stock Faust promises nothing of what Redis holds.
        return here.setup.transport == "stock" or not await behind_in_redis(here)

    await _until(here, settled, seconds, "the service to be done", _where)


async def catch_up(here: World, seconds: float) -> None:
    """Wait until what is published by now is committed and in Redis, whatever comes meanwhile.

    Raises
    ------
    Hang
        if that takes longer.
    """
    ends: dict[TopicPartition, int] = {}
    wanted: dict[str, Latest] = {}

    async def caught_up(admin: AIOKafkaAdminClient) -> bool:
        if not ends:
            await here.logs.read()
            ends.update(here.logs.ends)
        if await uncommitted(here, admin, ends):
            return False
        if not wanted:
            wanted.update(here.logs.latest)
        return here.setup.transport == "stock" or not await behind_in_redis(here, wanted)

    await _until(here, caught_up, seconds, "what was published to be worked on", _where)


async def inputs_done(here: World, seconds: float) -> None:
    """Wait until all events published by now are worked on and committed.

    Raises
    ------
    Hang
        if that takes longer.
    """
    clock = f"{here.settings.topics.clock}["

    async def done(admin: AIOKafkaAdminClient) -> bool:
        return all(name.startswith(clock) for name in await uncommitted(here, admin))

    await _until(here, done, seconds, "all events to be worked on", _where)


async def _where(here: World, admin: AIOKafkaAdminClient) -> str:
    behind = await behind_in_redis(here)
    return (
        f"not committed: {await uncommitted(here, admin) or 'nothing'}; "
        f"behind in Redis: {len(behind)} customers {behind[:3]}"
    )


async def _until(
    here: World,
    is_so: Callable[[AIOKafkaAdminClient], Awaitable[bool]],
    seconds: float,
    what: str,
    where: Callable[[World, AIOKafkaAdminClient], Awaitable[str]] | None = None,
) -> None:
    deadline = time.monotonic() + seconds
    trouble: BaseException | None = None
    while time.monotonic() < deadline:
        try:
            # A client that a dead node has confused is replaced by a new one.
            async with asyncio.timeout(ATTEMPT_SECONDS), here.admin() as admin:
                while time.monotonic() < deadline:
                    if await is_so(admin):
                        return
                    await asyncio.sleep(POLL_SECONDS)
                trouble = None
        except (Hang, KafkaError, RedisError, OSError, TimeoutError) as error:
            # Servers are coming back, or partitions have new leaders.
            trouble = error
            await asyncio.sleep(POLL_SECONDS)
    known = f"last error: {trouble!r}"
    if where is not None:
        try:
            async with asyncio.timeout(ATTEMPT_SECONDS), here.admin() as admin:
                known += "; " + await where(here, admin)
        except (Hang, KafkaError, RedisError, OSError, TimeoutError) as error:
            known += f"; nobody can say more: {error!r}"
    tails = here.fleet.tails()
    if here.setup.transport == "ours":
        # A worker that is only starting would die of it.
        await here.fleet.tell()
    raise Hang(_diagnosis(here, what, seconds, known, tails))


def _diagnosis(here: World, what: str, seconds: float, known: str, tails: str) -> str:
    ended = [(ended.slot, ended.status) for ended in here.fleet.ended]
    return (
        f"waited {seconds:g} s for {what}. {known}\n"
        f"workers that ended (slot, status): {ended}\n{tails}"
    )
