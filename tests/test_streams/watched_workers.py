"""Workers as processes, on servers of their own, watched by the health that they tell."""

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import aiohttp

from streams.embedded import embedded_servers
from streams.files.outgoing import cloud_event
from streams.kafka.connection import Broker
from streams.publisher import Publisher
from streams.settings import Settings
from streams.topics import prepare_topics
from tests.servers import forks

from .commands import ROOT

TIME = datetime(2026, 1, 3, 10, tzinfo=UTC)


@dataclass
class Worker:
    """A worker process, its health and its log."""

    process: forks.Forked
    log: Path
    _port: int = 0

    @property
    def port(self) -> int:
        """Where its health is served, by a port that the system chose; 0 before it is."""
        if not self._port:
            said = (line["port"] for line in self.lines() if line["event"] == "health is served")
            self._port = next(said, 0)
        return self._port

    def lines(self):
        """The log lines that are JSON, as all of a worker's are."""
        said = self.log.read_text().splitlines(keepends=True)
        # The last one may be half written.
        return [json.loads(line) for line in said if line.startswith("{") and line.endswith("\n")]

    async def get(self, path: str) -> tuple[int, str]:
        """Status and text of a GET; status 0 while nobody listens."""
        if not self.port:
            return 0, ""
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.port}{path}") as response,
            ):
                return response.status, await response.text()
        except aiohttp.ClientConnectionError:
            return 0, ""

    async def alive(self):
        """Wait until somebody listens."""
        async with asyncio.timeout(120):
            while (await self.get("/live"))[0] != 200:
                assert self.process.returncode is None, self.log.read_text()
                await asyncio.sleep(0.02)

    async def health(self):
        status, text = await self.get("/health")
        return json.loads(text) if status == 200 else {"status": "no answer", "reasons": []}

    async def until(self, condition, seconds=120.0):
        """Wait until the health is so; returns it."""
        async with asyncio.timeout(seconds):
            while not condition(health := await self.health()):
                assert self.process.returncode is None, self.log.read_text()
                await asyncio.sleep(0.1)
        return health

    async def ended(self, seconds=120.0) -> int:
        return await asyncio.wait_for(self.process.wait(), seconds)

    def memory(self) -> int:
        """Resident bytes."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


@dataclass
class World:
    servers: object
    settings: Settings
    directory: Path
    workers: list[Worker]

    async def worker(self, fault: str = "", **variables: str) -> Worker:
        """A `clv worker`, after these lines of Python have broken something."""
        program = (
            "import asyncio, sys, time\nimport streams.worker\nfrom streams.cli import main\n"
            f"from streams.folding import Folding\n{fault}\nsys.argv = ['clv', 'worker']\nmain()"
        )
        return await self._start(["-c", program], variables)

    async def command(self, *arguments: str, **variables: str) -> Worker:
        """Another command that serves its health."""
        return await self._start(["-m", "streams.cli", *arguments], variables)

    async def _start(self, arguments: list[str], variables: dict[str, str]) -> Worker:
        log = self.directory / f"worker-{len(self.workers)}.log"
        environment = {
            k: v
            for k, v in os.environ.items()
            if k == "CLV_ERASURE_KEY" or not k.startswith("CLV_")
        } | {
            "CLV_BROKER": self.servers.broker.address,
            "CLV_REDIS": self.servers.redis.url,
            "CLV_SESSION_TIMEOUT": "3",
            "CLV_HEARTBEAT_INTERVAL": "0.5",
            "CLV_COMMIT_INTERVAL": "0.3",
            "CLV_HEALTH_PORT": "0",
            **variables,
        }
        with log.open("wb") as output:
            process = await forks.start(
                sys.executable, *arguments, cwd=ROOT, stdout=output, stderr=output,
                env=environment,
            )  # fmt: skip
        self.workers.append(Worker(process, log))
        return self.workers[-1]

    async def publish(self, count: int) -> None:
        """Publish orders, each of a customer of its own."""
        async with Publisher(
            Broker(self.servers.broker.address), self.settings.topics, self.settings.partitions
        ) as publisher:
            await publisher.publish(order(n) for n in range(count))


def order(n):
    data = {
        "order_id": f"o{n}", "customer_id": f"c{n}", "placed_at": TIME, "currency": "USD",
        "total": "40.00", "note": "x" * 300,
    }  # fmt: skip
    return cloud_event(
        "orders", "order.placed", source="/shop", event_id=f"o{n}", time=TIME, data=data,
        customer_id=f"c{n}",
    )  # fmt: skip


@asynccontextmanager
async def world(directory: Path, partitions: int = 2) -> AsyncIterator[World]:
    async with embedded_servers() as servers:
        settings = Settings(partitions=partitions)
        await prepare_topics(settings, Broker(servers.broker.address))
        running = World(servers, settings, directory, [])
        try:
            yield running
        finally:
            for server in (servers.broker, servers.redis):
                os.kill(server.pid, signal.SIGCONT)
            for worker in running.workers:
                if worker.process.returncode is None:
                    worker.process.kill()
                    await worker.process.wait()


def ready(health):
    return health.get("ready", False)
