"""One worker of a simulation: the service's app, over what is simulated."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from models.errors import ClvError
from streams.app import build_app
from streams.cache.writer import CacheWriter
from streams.kafka.connection import Broker
from streams.settings import Settings
from streams.simulation.cache import MemoryScoreCache
from streams.simulation.logs import MemoryLogs, MemoryUpdates
from streams.simulation.parameters import MemoryParameters
from streams.simulation.tasks import Tasks
from streams.transport.memory.broker import MemoryBroker
from streams.transport.memory.driver import batches_in_work, run_in_memory, silence
from streams.transport.memory.group import MemoryGroup

_NOWHERE = Broker("in-memory:9092")


class WorkerCrashed(ClvError):
    """A worker of the topology crashed; its error is the cause.

    A test that expects it asks `await topology.crash()`.
    """


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_Worker = TypeVar("_Worker", bound=_Named)


@dataclass(frozen=True)
class Surroundings:
    """What the workers of a simulation have in common."""

    settings: Settings
    broker: MemoryBroker
    group: MemoryGroup
    cache: MemoryScoreCache
    feed: MemoryParameters


class MemoryWorker:
    """A worker: app, agents, table, pipeline and cache writer are the service's own."""

    def __init__(self, name: str, around: Surroundings) -> None:
        self.name = name
        self._tasks = Tasks()
        updates = MemoryUpdates(around.broker, around.settings.topics.updates)
        self.cache_writer = CacheWriter(around.cache, updates)
        self.app, self.pipeline = build_app(
            around.settings,
            _NOWHERE,
            around.settings.partitions,
            around.feed,
            self.cache_writer,
            now=around.broker.now,
            logs=MemoryLogs(around.broker),
            # What is published, and in which order, does not depend on how fast the machine is.
            pause_seconds=0.0,
            step_seconds=None,
        )
        run_in_memory(self.app, around.broker, around.group)

    async def start(self) -> None:
        """Start, and return when its tables are recovered, or when it has crashed."""
        begun = self._tasks.begin(self._start())
        crash = self._tasks.begin(self.app.wait_until_stopped())
        await asyncio.wait({begun, crash}, return_when=asyncio.FIRST_COMPLETED)
        if self.error is None and begun.done():
            begun.result()
        crash.cancel()

    async def stop(self, seconds: float) -> bool:
        """Finish and commit what is in work, and leave the group; killed after these seconds.

        Returns whether it stopped by itself.
        """
        stopping = self._tasks.begin(self._stop())
        try:
            done, _ = await asyncio.wait({stopping}, timeout=seconds)
        finally:
            await (self._tasks.kill() if stopping.done() else self.kill())
        if done:
            stopping.result()
        return bool(done)

    async def kill(self) -> None:
        """End it at once: nothing is finished, flushed or committed."""
        silence(self.app)
        await self._tasks.kill()

    @property
    def error(self) -> BaseException | None:
        """What made it crash, if it has."""
        crashed: BaseException | None = self.app.crash_reason if self.app.crashed else None
        return crashed

    def check(self) -> None:
        """Raise WorkerCrashed if it has crashed."""
        if self.error is not None:
            raise WorkerCrashed(f"{self.name}: {self.error!r}") from self.error

    @property
    def recovering(self) -> bool:
        """Whether it waits for partitions, or reads their changelog."""
        return bool(self.app.rebalancing or not self.app.tables.recovery.progress.done)

    @property
    def in_work(self) -> int:
        """Batches that are fetched and not finished."""
        return batches_in_work(self.app)

    @property
    def cache_behind(self) -> bool:
        """Whether it has something to tell the cache."""
        writer = self.cache_writer
        return bool(writer.pending or writer.catching_up or not writer.healthy)

    async def commit(self) -> None:
        """Commit what is finished, as it does by itself at the commit interval."""
        await self._tasks.begin(self.app.consumer.commit())

    async def _start(self) -> None:
        await self.cache_writer.start()
        self.app.finalize()
        await self.app.start()

    async def _stop(self) -> None:
        await self.app.stop()
        await self.cache_writer.stop()


def running(workers: Sequence[_Worker], worker: _Worker | None) -> _Worker:
    """A worker of these, the newest if none is named; ValueError for one that does not run."""
    if not workers:
        raise ValueError("no worker runs")
    if worker is None:
        return workers[-1]
    if worker not in workers:
        names = ", ".join(each.name for each in workers)
        raise ValueError(f"{worker.name} does not run; there are {names}")
    return worker
