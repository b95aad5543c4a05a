"""Starts a world: broker, Redis, the proxies before them, and topics."""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from streams.embedded import EmbeddedBroker
from streams.kafka.connection import Broker
from streams.settings import Settings
from streams.simulation.settings import TESTING_ERASURE_KEY
from streams.topics import plan, prepare_topics
from tests.faults.fleet import Fleet
from tests.faults.limits import within
from tests.faults.logs import Logs
from tests.faults.processes import CLOCK_FILE
from tests.faults.progress import between_workers
from tests.faults.proxy import HOST, Proxy
from tests.faults.publishing import ExactPublisher
from tests.faults.reckoner import Terms
from tests.faults.redis_server import RedisServer
from tests.faults.world import CLOCK, HEAL_SECONDS, NODES, PARTITIONS, STATE, Setup, World
from tests.servers.kafka import KafkaCluster, KafkaNode

DISK_BYTES = 64 * 1024 * 1024
START_SECONDS = 150.0

WORKERS: dict[str, list[str]] = {
    "ours": ["tests.faults.worker_with_trap"],
    "stock": ["tests.faults.stock_worker"],
}


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
