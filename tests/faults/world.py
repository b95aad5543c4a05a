"""A whole service that lives through many breaks: Kafka, Redis, proxies before them, workers."""

from __future__ import annotations

import asyncio
import errno
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Literal

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streams.settings import Settings
from streams.topics import plan
from tests.faults.fleet import Fleet
from tests.faults.limits import at_most, within
from tests.faults.logs import Logs
from tests.faults.observer import RedisObserver
from tests.faults.packing import publish_batch
from tests.faults.proxy import HOST, Proxy
from tests.faults.publishing import ExactPublisher
from tests.faults.reckoner import Terms
from tests.faults.redis_server import RedisServer
from tests.servers.kafka import KafkaNode

NODES = 3
PARTITIONS = 4
STATE = "state"
CLOCK = "clock.json"
FILLER = "filler"
REQUEST_MILLISECONDS = 5_000
HEAL_SECONDS = 60.0
CLOSE_SECONDS = 5.0
ATTEMPT_SECONDS = 20.0

SHORT_SESSION = 2.0
"""Of runs that are to be quick; a worker whose coordinator is frozen for longer is given up, and so
may one be where the processor is short."""

LONG_SESSION = 8.0
"""Of a soak: longer than what nodes are frozen for, and than a busy machine keeps heartbeats."""


@dataclass(frozen=True, slots=True)
class Setup:
    """What a world is made of.

    durable: workers keep a copy of their tables on disk. session: seconds after which the group
    gives up a worker that it has not heard of. environment: of the workers, beside the usual.
    shared_state: all workers keep their copies in one directory, which they must not.
    """

    broker: Literal["kafka", "embedded"] = "kafka"
    transport: Literal["ours", "stock"] = "ours"
    durable: bool = False
    session: float = SHORT_SESSION
    environment: tuple[tuple[str, str], ...] = ()
    shared_state: bool = False


@dataclass
class World:
    """The running parts. direct: the broker's address past the proxies."""

    setup: Setup
    directory: Path
    settings: Settings
    direct: str
    nodes: list[KafkaNode]
    node_proxies: list[Proxy]
    redis: RedisServer
    redis_proxy: Proxy
    fleet: Fleet
    logs: Logs
    publisher: ExactPublisher
    terms: Terms = field(default_factory=Terms)
    observer: RedisObserver | None = None
    """Who watches Redis now."""
    run_id: str = ""
    """What the ids of the present run's customers begin with."""
    sealed: list[bytes] = field(default_factory=list)
    """Batches that were published as they are, and must each come back whole as a dead letter."""
    _altered: set[str] = field(default_factory=set)

    def set_clock(self, moment: datetime) -> None:
        """Set the clock of all workers, which goes on from there."""
        offset = moment.timestamp() - time.time()
        draft = self.clock_file.with_suffix(".draft")
        draft.write_text(json.dumps(round(offset * 1000)))
        draft.rename(self.clock_file)

    @property
    def clock_file(self) -> Path:
        """By how many milliseconds the clock of all workers is ahead."""
        return self.directory / CLOCK

    @property
    def state_directory(self) -> Path:
        """Where workers keep copies of their tables."""
        return self.directory / STATE

    @property
    def redis_url(self) -> str:
        """Redis past its proxy."""
        return f"redis://{HOST}:{self.redis.port}/0"

    @contextmanager
    def redis_replaced(self) -> Iterator[None]:
        """What happens inside may take Redis back, as no worker may."""
        if self.observer is None:
            yield
            return
        with self.observer.replacing():
            yield

    def fill_state_disk(self) -> None:
        """Leave no room where workers keep their copies; the world must be durable, and root's."""
        if not self.state_directory.is_mount():
            raise AssertionError(f"{self.state_directory} is no disk of its own to fill")
        with (self.state_directory / FILLER).open("ab", buffering=0) as file:
            try:
                while True:
                    file.write(bytes(64 * 1024))
            except OSError as error:
                if error.errno != errno.ENOSPC:
                    raise

    async def heal(self) -> None:
        """Bring everything back: lines, nodes, Redis, workers. Errors: Hang if that takes long."""
        await within(HEAL_SECONDS, "nodes and servers to be back", self._heal())

    async def _heal(self) -> None:
        for proxy in [*self.node_proxies, self.redis_proxy]:
            await proxy.heal()
        down = []
        for node in self.nodes:
            if node.is_running:
                node.thaw()
            else:
                node.launch()
                down.append(node)
        self.redis.thaw()
        if self.redis.process is None:
            await self.redis.start()
        await self.redis.limit_memory(None)
        (self.state_directory / FILLER).unlink(missing_ok=True)
        self.fleet.normal()
        await asyncio.gather(*(node.ready() for node in down))
        for topic in self._altered.copy():
            await self._configure(topic, {})
            self._altered.discard(topic)

    async def configure_topic(self, topic: str, name: str, value: str) -> None:
        """Set one property of a topic until the world is healed."""
        self._altered.add(topic)
        await self._configure(topic, {name: value})

    async def _configure(self, topic: str, more: dict[str, str]) -> None:
        [planned] = [t for t in plan(self.settings) if t.name == topic]
        configs = {**planned.config, **more}
        async with self.admin() as admin:
            await admin.alter_configs(
                [ConfigResource(ConfigResourceType.TOPIC, topic, configs=configs)]
            )

    async def publish_sealed(self, topic: str, partition: int, batch: bytes) -> None:
        """Publish a batch of which nothing may be read."""
        self.sealed.append(batch)
        await publish_batch(self.direct, topic, partition, batch)

    @asynccontextmanager
    async def admin(self) -> AsyncIterator[AIOKafkaAdminClient]:
        """An admin client that asks past the proxies."""
        admin = AIOKafkaAdminClient(
            bootstrap_servers=self.direct, request_timeout_ms=REQUEST_MILLISECONDS
        )
        try:
            await within(ATTEMPT_SECONDS, "an admin client to connect", admin.start())
            yield admin
        finally:
            await at_most(CLOSE_SECONDS, admin.close())
