"""How far the service has come: what is not committed, and what Redis does not hold yet."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from streams.settings import Settings
from tests.faults.logs import Latest
from tests.faults.world import World


async def uncommitted(
    here: World, admin: AIOKafkaAdminClient, ends: Mapping[TopicPartition, int] | None = None
) -> dict[str, int]:
    """Records not committed yet, by partition, where there are any; reads the logs.

    ends: up to where; none: up to the end as of now.
    """
    await here.logs.read()
    ends = here.logs.ends if ends is None else ends
    topics = {*here.settings.topics.inputs, here.settings.topics.clock}
    if here.setup.transport == "ours":
        topics |= between_workers(here.settings)
    ends = {tp: end for tp, end in ends.items() if tp.topic in topics and end}
    # Asked by partition: the embedded broker's answer for all of them is cut short.
    committed = await admin.list_consumer_group_offsets(here.settings.app_id, partitions=list(ends))
    lag = {}
    for tp, end in ends.items():
        done = max(committed[tp].offset, 0) if tp in committed else 0
        if done < end:
            lag[f"{tp.topic}[{tp.partition}]"] = end - done
    return lag


async def behind_in_redis(here: World, wanted: Mapping[str, Latest] | None = None) -> list[str]:
    """Customers of whom Redis does not hold what was last published.

    wanted: the records to ask for, which later ones may have replaced; none: those that were
    read last, which no later one has. Of a customer taken back, Redis must hold nothing older.
    """
    replaceable = wanted is not None
    # As it is now: the log is read on meanwhile.
    wanted = dict(here.logs.latest if wanted is None else wanted)
    async with here.redis.client() as client:
        pipeline = client.pipeline(transaction=False)
        for name in wanted:
            pipeline.hget(f"{here.settings.redis_prefix}:customer:{name}", "position")
        held: list[Any] = await pipeline.execute()
    behind = []
    for (name, latest), position in zip(wanted.items(), held, strict=True):
        if position is None:
            # Taken back, or by a later record.
            is_current = latest.gone or (replaceable and here.logs.latest[name].gone)
        else:
            at = int(position)
            is_current = at > latest.offset if replaceable else False
            is_current = is_current or (at == latest.offset and not latest.gone)
        if not is_current:
            behind.append(name)
    return behind


async def backlog(here: World) -> tuple[int, int]:
    """Records not committed, and customers behind in Redis; -1 while nobody can say."""
    try:
        async with here.admin() as admin:
            lag = sum((await uncommitted(here, admin)).values())
    except (KafkaError, OSError, TimeoutError):
        lag = -1
    try:
        return lag, len(await behind_in_redis(here))
    except (RedisError, OSError):
        return lag, -1


def between_workers(settings: Settings) -> set[str]:
    """The topics by which workers send each other messages and misrouted records."""
    return {settings.topics.identity, settings.topics.rerouted}
