"""A whole service for tests: a broker, Redis, and workers as processes of their own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import uuid
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient

from models.contracts.clock import Tick
from models.contracts.parameters import Parameters
from streams.cache import CachedScore, ScoreCache, connect
from streams.embedded import EmbeddedRedis
from streams.files.outgoing import OutgoingEvent
from streams.kafka.connection import Broker
from streams.kafka.partitions import TopicPartition, home_partition
from streams.parameters import publish_parameters
from streams.publisher import Publisher
from streams.settings import Settings, Topics
from streams.testing.kafka_log import KafkaLog
from streams.topics import plan, prepare_topics
from streams.transport.memory.broker import Record
from tests.servers import forks
from tests.servers.broker import Kind, running_broker

ROOT = Path(__file__).parents[3]
PATIENCE = 120.0
"""Seconds in which something must happen; however slow the machine is, it then goes on."""


class WorkerDied(Exception):
    """A worker ended by itself; the text is the end of its log."""


@dataclass
class Worker:
    """A `clv worker` process and its log."""

    process: forks.Forked
    log: Path

    def check(self) -> None:
        """Raise if the worker has ended."""
        if self.process.returncode is not None:
            raise WorkerDied(f"status {self.process.returncode}\n{self.log.read_text()[-4_000:]}")

    async def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal and wait for the end; returns the exit status."""
        if self.process.returncode is None:
            self.process.send_signal(number)
        return await asyncio.wait_for(self.process.wait(), PATIENCE)


@dataclass
class Cluster:
    """Servers, and what was published to them."""

    settings: Settings
    broker: Broker
    redis_url: str
    partitions: int
    directory: Path
    workers: list[Worker] = field(default_factory=list)

    @property
    def log(self) -> KafkaLog:
        """What the broker holds, and what this service's group has committed of it."""
        return KafkaLog(self.broker, self.settings.app_id)

    async def start_worker(self, **variables: str) -> Worker:
        """Start one more worker, with further variables in its environment."""
        log = self.directory / f"worker-{len(self.workers)}.log"
        with log.open("wb") as output:
            process = await forks.start(
                sys.executable, "-m", "streams.cli", "worker",
                cwd=ROOT, stdout=output, stderr=output,
                env=os.environ | self.environment() | variables,
            )  # fmt: skip
        worker = Worker(process, log)
        self.workers.append(worker)
        return worker

    def environment(self) -> dict[str, str]:
        """What a `clv` command needs to find these servers."""
        return {
            "CLV_BROKER": self.broker.servers,
            "CLV_REDIS": self.redis_url,
            "CLV_APP_ID": self.settings.app_id,
            "CLV_REPLICATION": str(self.settings.replication),
            **{
                f"CLV_TOPICS__{field.upper()}": name
                for field, name in self.settings.topics.model_dump().items()
            },
            "CLV_SESSION_TIMEOUT": "2",
            "CLV_SWEEP_INTERVAL": str(self.settings.sweep_interval),
            "CLV_HEARTBEAT_INTERVAL": "0.5",
            "CLV_COMMIT_INTERVAL": "0.3",
            "CLV_POLL_RECORDS": str(self.settings.poll_records),
            "CLV_ECONOMICS__CURRENCY": self.settings.economics.currency,
        }

    async def publish(self, events: Iterable[OutgoingEvent]) -> int:
        """Publish events to the input topics."""
        async with Publisher(self.broker, self.settings.topics, self.partitions) as publisher:
            return await publisher.publish(events)

    async def publish_parameters(self, parameters: Parameters) -> None:
        """Publish parameters to `clv.models`."""
        await publish_parameters(self.broker, self.settings.topics.models, parameters)

    async def tick(self, tick: Tick) -> None:
        """Let time pass."""
        async with Publisher(self.broker, self.settings.topics, self.partitions) as publisher:
            await publisher.tick(tick)

    async def settled(self) -> None:
        """Wait until all that was published, by workers too, is processed and committed."""
        partitions = [
            TopicPartition(topic, number)
            for topic in self.settings.topics.sources
            for number in range(self.partitions)
        ]
        ends: dict[TopicPartition, int] = {}
        # Workers send records to each other: a commit may come with new ones to wait for.
        while ends != (ends := await self.log.ends(partitions)):
            await self.committed({tp: end for tp, end in ends.items() if end})

    async def committed(self, ends: dict[TopicPartition, int]) -> None:
        """Wait until workers have committed to these ends; fails when nothing moves any more.

        A tick is committed at its end; what it publishes shows that it goes on.
        """
        updates = [TopicPartition(self.settings.topics.updates, n) for n in range(self.partitions)]
        seen = None
        async with asyncio.timeout(PATIENCE) as patience:
            while True:
                for worker in self.workers:
                    if worker.process.returncode not in (None, 0, -signal.SIGKILL):
                        worker.check()
                committed = await self.log.committed(ends)
                if all(committed.get(tp, 0) >= end for tp, end in ends.items()):
                    return
                if seen != (seen := (committed, await self.log.ends(updates))):
                    patience.reschedule(asyncio.get_running_loop().time() + PATIENCE)
                await asyncio.sleep(0.1)

    async def read(self, topic: str) -> dict[TopicPartition, list[Record]]:
        """All records of a topic, by partition."""
        count = 1 if topic == self.settings.topics.models else self.partitions
        result: defaultdict[TopicPartition, list[Record]] = defaultdict(list)
        for record in await self.log.read(TopicPartition(topic, number) for number in range(count)):
            result[TopicPartition(topic, record.partition)].append(record)
        return result

    async def records(self, topic: str) -> list[Record]:
        """All records of a topic, partition after partition."""
        return [record for records in (await self.read(topic)).values() for record in records]

    async def updates(self) -> dict[str, dict[str, Any]]:
        """The current value update of every customer, from `clv.updates`."""
        latest: dict[str, dict[str, Any]] = {}
        for record in await self.records(self.settings.topics.updates):
            if home_partition(record.key, self.partitions) != record.partition:
                # Left there when the partitions became more.
                continue
            if record.value is None:
                latest.pop(record.key.decode(), None)
            else:
                latest[record.key.decode()] = json.loads(record.value)["data"]
        return latest

    async def cached(self, customers: Iterable[str]) -> dict[str, dict[str, Any]]:
        """The cached value update of these customers, from Redis."""
        redis = connect(self.redis_url)
        try:
            cache = ScoreCache(redis)
            waiting, found = iter(customers), dict[str, CachedScore | None]()
            # A pool of redis-py has a hundred connections.
            while some := list(islice(waiting, 50)):
                found |= zip(some, await asyncio.gather(*map(cache.get, some)), strict=True)
        finally:
            await redis.aclose()
        return {
            customer: json.loads(score.update)["data"]
            for customer, score in found.items()
            if score is not None
        }


def own_names() -> dict[str, Any]:
    """Settings `app_id` and `topics` that nobody else uses, on a broker that others use too."""
    suffix = uuid.uuid4().hex[:8]
    topics = {name: f"{topic}.{suffix}" for name, topic in Topics().model_dump().items()}
    return {"app_id": f"clv-{suffix}", "topics": Topics(**topics)}


@asynccontextmanager
async def cluster(
    directory: Path, broker: Kind = "embedded", **settings: Any
) -> AsyncIterator[Cluster]:
    """Servers with the topics of a service, under names of their own, and no worker yet."""
    async with running_broker(broker) as server, EmbeddedRedis() as redis:
        # Time passes when the test says so: most events are of the past.
        usual = {"replication": server.replication, "sweep_interval": 0}
        chosen = usual | own_names() | settings
        configured = Settings(broker=server.address, redis=redis.url, **chosen)
        connection = Broker.of(configured)
        partitions = await prepare_topics(configured, connection)
        running = Cluster(configured, connection, redis.url, partitions, directory)
        try:
            yield running
        finally:
            for worker in running.workers:
                await worker.stop(signal.SIGKILL)
            if server.kind == "kafka":
                await delete_topics(configured, connection)


async def delete_topics(settings: Settings, broker: Broker) -> None:
    """Leave nothing behind on a broker that others use too."""
    admin = AIOKafkaAdminClient(**broker.client_options())
    await admin.start()
    try:
        names = {topic.name for topic in plan(settings)}
        async with asyncio.timeout(PATIENCE):
            # A busy broker may answer before it has, or not at all.
            while left := sorted(names & {*await admin.list_topics()}):
                await admin.delete_topics(left)
    finally:
        await admin.close()
