"""A whole service that lives through many breaks: Kafka, Redis, proxies before them, workers."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError
from redis.exceptions import RedisError

from streams.embedded import EmbeddedBroker
from streams.kafka.connection import Broker
from streams.settings import Settings
from streams.simulation.settings import TESTING_ERASURE_KEY
from streams.topics import plan, prepare_topics
from tests.faults.fleet import Fleet
from tests.faults.limits import Hang, at_most, within
from tests.faults.logs import Latest, Logs
from tests.faults.observer import RedisObserver
from tests.faults.packing import publish_batch
from tests.faults.processes import CLOCK_FILE, Process
from tests.faults.proxy import HOST, Proxy
from tests.faults.publishing import ExactPublisher
from tests.faults.reckoner import Terms
from tests.faults.redis_server import RedisServer
from tests.servers.kafka import KafkaCluster, KafkaNode

NODES = 3
PARTITIONS = 4
STATE = "state"
CLOCK = "clock.json"
FILLER = "filler"
DISK_BYTES = 64 * 1024 * 1024
REQUEST_MILLISECONDS = 5_000
POLL_SECONDS = 0.2
HEAL_SECONDS = 60.0
START_SECONDS = 150.0
GROW_SECONDS = 80.0
CLOSE_SECONDS = 5.0
ATTEMPT_SECONDS = 20.0

SHORT_SESSION = 2.0
"""Of runs that are to be quick; a worker whose coordinator is frozen for longer is given up, and so
may one be where the processor is short."""

LONG_SESSION = 8.0
"""Of a soak: longer than what nodes are frozen for, and than a busy machine keeps heartbeats."""

WORKERS: dict[str, list[str]] = {
    "ours": ["tests.faults.worker_with_trap"],
    "stock": ["tests.faults.stock_worker"],
}


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

    def set_clock(self, moment: datetime | None) -> None:
        """Set the clock of all workers, which goes on from there; none: to what it is."""
        offset = 0 if moment is None else moment.timestamp() - time.time()
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

    async def in_sync(self) -> None:
        """Wait until every partition has all its copies again."""
        if len(self.nodes) < NODES:
            return
        names = [topic.name for topic in plan(self.settings)]
        names.append("__consumer_offsets")

        async def complete(admin: AIOKafkaAdminClient) -> bool:
            described = await admin.describe_topics(names)
            return all(len(p["isr"]) == NODES for topic in described for p in topic["partitions"])

        await self._until(complete, HEAL_SECONDS, "the copies of all partitions to be in sync")

    async def leader(self, topic: str, partition: int) -> int:
        """Index of the node that leads a partition."""
        async with self.admin() as admin:
            [described] = await admin.describe_topics([topic])
        [found] = [p for p in described["partitions"] if p["partition"] == partition]
        return int(found["leader"]) - 1

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

    async def grow(self, partitions: int, seconds: float | None = None) -> int | None:
        """Run `clv partitions grow`, while no worker runs; returns its exit status.

        seconds: after which it is killed, and returns none. If it was done before it was killed, it
        refuses to do it again, and that counts as done.
        """
        log = self.directory / "grow.log"
        command = [sys.executable, "-m", "streams.cli", "partitions", "grow", str(partitions)]
        process = await Process.start(command, log, self.fleet.environment)
        try:
            status = await asyncio.wait_for(process.process.wait(), seconds or GROW_SECONDS)
        except TimeoutError:
            await process.kill()
            if seconds is None:
                raise AssertionError(
                    f"it grows for {GROW_SECONDS:g} s:\n{process.tail()}"
                ) from None
            return None
        said = " ".join(process.tail().split())
        if status != 0 and f"there are {partitions} partitions already" in said:
            status = 0
        if status == 0:
            self.settings = self.settings.model_copy(update={"partitions": partitions})
            self.logs.grow(partitions)
        return status

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

    async def ready(self, workers: int, seconds: float) -> None:
        """Have so many workers that share the partitions, and nothing left to do.

        Raises
        ------
        Hang
            if that takes longer.
        """
        await self.fleet.resize(workers)()
        if len(self.nodes) == NODES:
            await self.in_sync()

        async def at_work(admin: AIOKafkaAdminClient) -> bool:
            [response] = await admin.describe_consumer_groups([self.settings.app_id])
            [(_, _, state, _, _, members, *_)] = response.groups
            return state == "Stable" and len(members) == workers

        await self._until(at_work, seconds, f"{workers} workers to share the partitions")
        await self.settle(seconds)

    async def settle(self, seconds: float) -> None:
        """Wait until all is committed and Redis holds the newest of every customer.

        Raises
        ------
        Hang
            if that takes longer.
        """

        async def settled(admin: AIOKafkaAdminClient) -> bool:
            if await self.lag(admin):
                return False
            # What is sent on, and messages between customers, come while others are looked at.
            before = dict(self.logs.ends)
            if await self.lag(admin) or before != self.logs.ends:
                return False
            # Stock Faust promises nothing of what Redis holds.
            return self.setup.transport == "stock" or not await self.behind_in_redis()

        await self._until(settled, seconds, "the service to be done", self._where)

    async def catch_up(self, seconds: float) -> None:
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
                await self.logs.read()
                ends.update(self.logs.ends)
            if await self.lag(admin, ends):
                return False
            if not wanted:
                wanted.update(self.logs.latest)
            return self.setup.transport == "stock" or not await self.behind_in_redis(wanted)

        await self._until(caught_up, seconds, "what was published to be worked on", self._where)

    async def inputs_done(self, seconds: float) -> None:
        """Wait until all events published by now are worked on and committed.

        Raises
        ------
        Hang
            if that takes longer.
        """
        clock = f"{self.settings.topics.clock}["

        async def done(admin: AIOKafkaAdminClient) -> bool:
            return all(name.startswith(clock) for name in await self.lag(admin))

        await self._until(done, seconds, "all events to be worked on", self._where)

    async def lag(
        self, admin: AIOKafkaAdminClient, ends: Mapping[TopicPartition, int] | None = None
    ) -> dict[str, int]:
        """Records not committed yet, by partition, where there are any; reads the logs.

        ends: up to where; none: up to the end as of now.
        """
        await self.logs.read()
        ends = self.logs.ends if ends is None else ends
        topics = {*self.settings.topics.inputs, self.settings.topics.clock}
        if self.setup.transport == "ours":
            topics |= between_workers(self.settings)
        ends = {tp: end for tp, end in ends.items() if tp.topic in topics and end}
        # Asked by partition: the embedded broker's answer for all of them is cut short.
        committed = await admin.list_consumer_group_offsets(
            self.settings.app_id, partitions=list(ends)
        )
        lag = {}
        for tp, end in ends.items():
            done = max(committed[tp].offset, 0) if tp in committed else 0
            if done < end:
                lag[f"{tp.topic}[{tp.partition}]"] = end - done
        return lag

    async def behind_in_redis(self, wanted: Mapping[str, Latest] | None = None) -> list[str]:
        """Customers of whom Redis does not hold what was last published.

        wanted: the records to ask for, which later ones may have replaced; none: those that were
        read last, which no later one has. Of a customer taken back, Redis must hold nothing older.
        """
        replaceable = wanted is not None
        # As it is now: the log is read on meanwhile.
        wanted = dict(self.logs.latest if wanted is None else wanted)
        async with self.redis.client() as client:
            pipeline = client.pipeline(transaction=False)
            for name in wanted:
                pipeline.hget(f"{self.settings.redis_prefix}:customer:{name}", "position")
            held: list[Any] = await pipeline.execute()
        behind = []
        for (name, latest), position in zip(wanted.items(), held, strict=True):
            if position is None:
                # Taken back, or by a later record.
                is_current = latest.gone or (replaceable and self.logs.latest[name].gone)
            else:
                at = int(position)
                is_current = at > latest.offset if replaceable else False
                is_current = is_current or (at == latest.offset and not latest.gone)
            if not is_current:
                behind.append(name)
        return behind

    async def backlog(self) -> tuple[int, int]:
        """Records not committed, and customers behind in Redis; -1 while nobody can say."""
        try:
            async with self.admin() as admin:
                lag = sum((await self.lag(admin)).values())
        except (KafkaError, OSError, TimeoutError):
            lag = -1
        try:
            return lag, len(await self.behind_in_redis())
        except (RedisError, OSError):
            return lag, -1

    async def _where(self, admin: AIOKafkaAdminClient) -> str:
        behind = await self.behind_in_redis()
        return (
            f"not committed: {await self.lag(admin) or 'nothing'}; "
            f"behind in Redis: {len(behind)} customers {behind[:3]}"
        )

    async def _until(
        self,
        is_so: Callable[[AIOKafkaAdminClient], Awaitable[bool]],
        seconds: float,
        what: str,
        where: Callable[[AIOKafkaAdminClient], Awaitable[str]] | None = None,
    ) -> None:
        deadline = time.monotonic() + seconds
        trouble: BaseException | None = None
        while time.monotonic() < deadline:
            try:
                # A client that a dead node has confused is replaced by a new one.
                async with asyncio.timeout(ATTEMPT_SECONDS), self.admin() as admin:
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
                async with asyncio.timeout(ATTEMPT_SECONDS), self.admin() as admin:
                    known += "; " + await where(admin)
            except (Hang, KafkaError, RedisError, OSError, TimeoutError) as error:
                known += f"; nobody can say more: {error!r}"
        tails = self.fleet.tails()
        if self.setup.transport == "ours":
            # A worker that is only starting would die of it.
            await self.fleet.tell()
        raise Hang(self._diagnosis(what, seconds, known, tails))

    def _diagnosis(self, what: str, seconds: float, known: str, tails: str) -> str:
        ended = [(ended.slot, ended.status) for ended in self.fleet.ended]
        return (
            f"waited {seconds:g} s for {what}. {known}\n"
            f"workers that ended (slot, status): {ended}\n{tails}"
        )


def between_workers(settings: Settings) -> set[str]:
    """The topics by which workers send each other messages and misrouted records."""
    return {settings.topics.identity, settings.topics.rerouted}


@asynccontextmanager
async def world(directory: Path, setup: Setup) -> AsyncIterator[World]:
    """A world with its topics, and no worker yet."""
    async with AsyncExitStack() as stack:
        making = _kafka(directory, stack) if setup.broker == "kafka" else _embedded(stack)
        nodes, proxies, direct = await within(START_SECONDS, "the broker to start", making)
        address = ",".join(f"{HOST}:{proxy.port}" for proxy in proxies)
        redis = await stack.enter_async_context(RedisServer(directory / "redis"))
        redis_proxy = await stack.enter_async_context(Proxy(redis.port))
        settings = Settings(
            broker=address,
            redis=f"redis://{HOST}:{redis_proxy.port}/0",
            replication=NODES if nodes else 1,
            partitions=PARTITIONS,
            erasure_key=TESTING_ERASURE_KEY,
        )
        preparing = prepare_topics(settings, Broker(direct))
        await within(HEAL_SECONDS, "the topics to be there", preparing)
        if setup.durable:
            _small_disk(directory / STATE, stack)
        topics = settings.topics
        read = [topic.name for topic in plan(settings) if topic.name != topics.models]
        terms = Terms()
        fleet = Fleet(
            directory,
            _environment(settings, terms, setup, directory),
            WORKERS[setup.transport],
            shared_state=setup.shared_state,
        )
        stack.push_async_callback(fleet.stop)
        yield World(
            setup,
            directory,
            settings,
            direct,
            nodes,
            proxies,
            redis,
            redis_proxy,
            fleet,
            Logs(
                direct,
                read,
                PARTITIONS,
                topics.updates,
                set(read) - {*topics.inputs, *between_workers(settings)},
            ),
            ExactPublisher(
                direct,
                {topics.role(name): name for name in topics.inputs},
                idempotent=setup.broker == "kafka",
            ),
            terms,
        )


def _environment(settings: Settings, terms: Terms, setup: Setup, directory: Path) -> dict[str, str]:
    environment = {
        "CLV_BROKER": str(settings.broker),
        "CLV_REDIS": str(settings.redis),
        "CLV_REPLICATION": str(settings.replication),
        "CLV_PARTITIONS": str(settings.partitions),
        "CLV_ERASURE_KEY": settings.erasure_secret.decode(),
        "CLV_SESSION_TIMEOUT": str(setup.session),
        "CLV_HEARTBEAT_INTERVAL": str(setup.session / 4),
        "CLV_COMMIT_INTERVAL": "0.3",
        "CLV_SWEEP_INTERVAL": "0",
        # Small batches: more places to break off.
        "CLV_POLL_RECORDS": "200",
        "CLV_STALL_TIMEOUT": "30",
        CLOCK_FILE: str(directory / CLOCK),
        **terms.environment(),
    }
    if setup.durable:
        environment["CLV_STATE_DIR"] = str(directory / STATE)
    return environment | dict(setup.environment)


def _small_disk(mounted: Path, stack: AsyncExitStack) -> None:
    """A directory, on a disk that can be filled where only root can make one."""
    mounted.mkdir(parents=True)
    if os.geteuid() == 0:
        command = ["mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(mounted)]
        if subprocess.run(command, check=False).returncode == 0:
            unmount = ["umount", "--lazy", str(mounted)]
            stack.callback(subprocess.run, unmount, check=True)


async def _kafka(
    directory: Path, stack: AsyncExitStack
) -> tuple[list[KafkaNode], list[Proxy], str]:
    proxies = [await stack.enter_async_context(Proxy(0)) for _ in range(NODES)]
    cluster = KafkaCluster(NODES, directory / "kafka", advertised=[proxy.port for proxy in proxies])
    for proxy, node in zip(proxies, cluster.nodes, strict=True):
        proxy.target = node.port
    await stack.enter_async_context(cluster)
    return cluster.nodes, proxies, cluster.plain_address


class _BrokerBehindProxy(EmbeddedBroker):
    """The embedded broker, telling its clients the port of a proxy."""

    def __init__(self, proxy: Proxy) -> None:
        super().__init__()
        self._proxy = proxy

    def command(self, port: int) -> list[str]:
        self._proxy.target = port
        advertised = f"--advertised-listener-url=tcp://{HOST}:{self._proxy.port}"
        return [
            advertised if part.startswith("--advertised-listener-url") else part
            for part in super().command(port)
        ]


async def _embedded(stack: AsyncExitStack) -> tuple[list[KafkaNode], list[Proxy], str]:
    proxy = await stack.enter_async_context(Proxy(0))
    await stack.enter_async_context(_BrokerBehindProxy(proxy))
    return [], [proxy], f"{HOST}:{proxy.port}"
