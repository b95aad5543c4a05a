"""Breaking what a service rests on, at a real broker, and hearing what workers say of it."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions, NewTopic, RecordsToDelete
from aiokafka.errors import KafkaError

from streams.cli.checks import servers
from streams.cli.checks.check import Check
from streams.kafka.partitions import home_partition
from streams.topics import plan
from tests.servers import forks
from tests.test_streams.service.cluster import ROOT, Cluster, Worker
from tests.test_streams.service.test_service import order

PATIENCE = 120.0


def keyed(partition: int, count: int, partitions: int) -> list[str]:
    """Customers whose home is a partition."""
    found: list[str] = []
    number = 0
    while len(found) < count:
        customer = f"c{number}"
        if home_partition(customer.encode(), partitions) == partition:
            found.append(customer)
        number += 1
    return found


def orders(customer: str, *names: str) -> list[Any]:
    """Orders of 40 USD, all on one day."""
    return [order(customer, f"{customer}-{name}") for name in names]


@asynccontextmanager
async def admin(service: Cluster) -> AsyncIterator[AIOKafkaAdminClient]:
    """An admin client."""
    client = AIOKafkaAdminClient(**service.broker.client_options())
    await client.start()
    try:
        yield client
    finally:
        await client.close()


async def grow(service: Cluster, count: int, *topics: str) -> None:
    """Give topics more partitions, and wait until every node says so."""
    async with admin(service) as client:
        answer = await client.create_partitions({topic: NewPartitions(count) for topic in topics})
        assert not any(code for _, code, *_ in answer.topic_errors)


def counted(service: Cluster) -> list[str]:
    """The topics that have one count."""
    models = service.settings.topics.models
    return [topic.name for topic in plan(service.settings) if topic.name != models]


async def until(holds: Callable[[], Awaitable[bool]]) -> None:
    """Wait until something holds."""
    async with asyncio.timeout(PATIENCE):
        while not await holds():  # noqa: ASYNC110 - Kafka tells nobody
            await asyncio.sleep(0.1)


async def delete(service: Cluster, *topics: str) -> None:
    """Delete topics, and wait until they are gone."""
    async with admin(service) as client:

        async def are_gone() -> bool:
            return not set(topics).intersection(await client.list_topics())

        await client.delete_topics(list(topics))
        await until(are_gone)


async def make_anew(service: Cluster, topic: str) -> None:
    """Delete a topic, and create it as it was planned."""
    await delete(service, topic)
    [planned] = [each for each in plan(service.settings) if each.name == topic]
    new = NewTopic(
        topic,
        service.partitions,
        service.settings.replication,
        topic_configs=dict(planned.config),
    )
    async with admin(service) as client:

        async def is_created() -> bool:
            # Its name is free a moment after it is gone from the list.
            answer = await client.create_topics([new])
            return not answer.topic_errors[0][1]

        async def has_leaders() -> bool:
            [described] = await client.describe_topics([topic])
            partitions = described["partitions"]
            return bool(partitions) and all(each["leader"] >= 0 for each in partitions)

        await until(is_created)
        await until(has_leaders)


async def delete_before(service: Cluster, topic: str, partition: int, offset: int) -> None:
    """Delete records of a log, as retention does."""
    async with admin(service) as client:
        await client.delete_records({TopicPartition(topic, partition): RecordsToDelete(offset)})


async def committed(service: Cluster, topic: str, partition: int) -> int:
    """What the group has committed; -1 for nothing."""
    tp = TopicPartition(topic, partition)
    async with admin(service) as client, asyncio.timeout(PATIENCE):
        while True:
            try:
                held = await client.list_consumer_group_offsets(
                    service.settings.app_id, partitions=[tp]
                )
            except KafkaError:
                await asyncio.sleep(0.2)
            else:
                return int(held[tp].offset)


async def end_of(worker: Worker) -> tuple[int, str]:
    """Wait until a worker ends by itself; returns its status and what it said."""
    status = await asyncio.wait_for(worker.process.wait(), PATIENCE)
    return status, worker.log.read_text()


async def clv(service: Cluster, *arguments: str) -> tuple[int, str, str]:
    """Run a command; returns status, stdout and stderr."""
    process = await forks.start(
        sys.executable, "-m", "streams.cli", *arguments,
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        env=os.environ | service.environment(),
    )  # fmt: skip
    out, errors = await asyncio.wait_for(process.communicate(), PATIENCE)
    return process.returncode or 0, out.decode(), errors.decode()


async def failing(service: Cluster) -> dict[str, Check]:
    """The checks of `clv doctor` that fail, by name."""
    checks = await servers(service.settings)
    return {check.name: check for check in checks if check.status == "fail"}


async def totals(service: Cluster) -> dict[str, tuple[int, float]]:
    """Orders and what was paid, by customer, as published last."""
    return {
        customer: (data["totals"]["orders"], data["totals"]["gross"])
        for customer, data in (await service.updates()).items()
    }


def critical(said: str) -> str:
    """The last line of a worker's log, which must be a critical one.

    After it comes only how many repeated lines were left out, if there were any.
    """
    lines = [json.loads(line) for line in said.splitlines()]
    last = [line for line in lines if "lines of this kind were left out" not in line["event"]][-1]
    assert last["level"] == "critical", said[-2_000:]
    return str(last["found"])
