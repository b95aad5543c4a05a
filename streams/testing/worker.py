"""One worker of a topology: the service's app, over what is simulated."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, cast

from streams.app import build_app
from streams.cache import CacheWriter, ScoreCache
from streams.connection import Broker
from streams.parameters import ParameterFeed
from streams.settings import Settings
from streams.testing.broker import MemoryBroker
from streams.testing.cache import MemoryScoreCache
from streams.testing.group import MemoryGroup
from streams.testing.logs import MemoryLogs
from streams.testing.parameters import MemoryParameters
from streams.testing.recovering import MemoryRecovery
from streams.testing.tasks import Tasks
from streams.testing.transport import BatchMemoryTransport
from streams.testing.updates import MemoryUpdates

_NOWHERE = Broker("in-memory:9092")


@dataclass(frozen=True)
class Surroundings:
    """What the workers of a topology have in common."""

    settings: Settings
    partitions: int
    broker: MemoryBroker
    group: MemoryGroup
    cache: MemoryScoreCache
    feed: MemoryParameters
    now: Callable[[], int]


class MemoryWorker:
    """A worker: app, agents, table, pipeline and cache writer are the service's own."""

    def __init__(self, name: str, around: Surroundings) -> None:
        self.name = name
        self._tasks = Tasks()
        updates = MemoryUpdates(around.broker, around.settings.topics.updates)
        self.cache_writer = CacheWriter(cast("ScoreCache", around.cache), updates)
        self.app, self.pipeline = build_app(
            around.settings,
            _NOWHERE,
            around.partitions,
            cast("ParameterFeed", around.feed),
            self.cache_writer,
            now=around.now,
            logs=MemoryLogs(around.broker),
        )
        app: Any = self.app
        app.transport = BatchMemoryTransport(app, around.broker, around.group)
        app.tables._recovery = MemoryRecovery(app, app.tables, beacon=app.tables.beacon)  # noqa: SLF001
        app.tables.sleep = _no_sleep

    async def start(self) -> None:
        """Start, and return when its tables are recovered, or when it has crashed."""
        begun = self._tasks.begin(self._start())
        crash = self._tasks.begin(self.app.wait_until_stopped())
        await asyncio.wait({begun, crash}, return_when=asyncio.FIRST_COMPLETED)
        if self.error is None and begun.done():
            begun.result()
        crash.cancel()

    async def stop(self, seconds: float) -> bool:
        """Stop in good order: finish and commit what is in work, and leave the group.

        Returns whether it did; what has not come to an end after these seconds is killed.
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
        self.app.consumer.die()
        self.app.producer.client.die()
        for service in (self.app, *self.app.agents.values()):
            _silence(service)
        await self._tasks.kill()

    @property
    def error(self) -> BaseException | None:
        """What made it crash, if it has."""
        crashed: BaseException | None = self.app.crash_reason if self.app.crashed else None
        return crashed

    @property
    def recovering(self) -> bool:
        """Whether it waits for partitions, or reads their changelog."""
        return bool(self.app.rebalancing or not self.app.tables.recovery.progress.done)

    @property
    def in_work(self) -> int:
        """Batches that are fetched and not finished."""
        queues = self.app.consumer._in_work.values()  # noqa: SLF001
        return sum(not message.acked for queue in queues for message in queue)

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


def _silence(service: Any) -> None:
    """Have a service and those below it take the end of their tasks for their own stop: else each
    would tell of a crash, and be started again.
    """
    service._stopped.set()  # noqa: SLF001 - to `stop` is what a process that was killed does not do
    for child in service._children:  # noqa: SLF001
        if child is not None:
            _silence(child)


async def _no_sleep(_seconds: float) -> None:
    """Faust's table manager sleeps a second at its start, in case of tables defined late."""
