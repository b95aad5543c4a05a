"""What a server of the API keeps current in the background: changes, parameters and rules."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Final

import structlog

from models.context import Interpretation
from streams.kafka.connection import Broker
from streams.kafka.errors import KafkaError
from streams.registry.reading import registry_reader
from streams.registry.registry import Registry
from streams.serving.operations import Looks
from streams.serving.outages import Outage
from streams.serving.recent_changes import ChangeData, RecentChanges
from streams.settings import Settings

log = structlog.get_logger(__name__)

_RETRY_SECONDS: Final = 2.0


class Following:
    """Follows `clv.segment-changes` and `clv.models`, and looks at how far the workers are.

    While Kafka is away, it tries again. registry: None until it was read once. removed: called
    with the id of a customer who is removed. told: called with each change of segment.
    reinterpreted: called when other parameters or rules hold than before.
    """

    def __init__(
        self,
        broker: Broker,
        settings: Settings,
        removed: Callable[[str], None],
        told: Callable[[ChangeData], None],
        reinterpreted: Callable[[], None],
    ) -> None:
        self.changes = RecentChanges(settings.economics, removed, told)
        self.kafka = Outage("Kafka")
        self.looks = Looks(broker, settings)
        self.registry: Registry | None = None
        self._broker = broker
        self._settings = settings
        self._reinterpreted = reinterpreted
        self._versions: tuple[list[str], list[str]] | None = None
        self._known = asyncio.Event()

    async def interpretation(self, seconds: float) -> Interpretation:
        """Return what customers are scored with, after waiting so long for it at most.

        Errors: TimeoutError.
        """
        async with asyncio.timeout(seconds):
            await self._known.wait()
        registry = self.registry
        assert registry is not None  # noqa: S101 - it was waited for.
        return Interpretation(self._settings.economics, registry.timeline, registry.rules)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Follow in the context."""
        tasks = [
            asyncio.create_task(_always(follow, outage), name=f"following {name}")
            for name, follow, outage in (
                ("changes", self._follow_changes, self.kafka),
                ("models", self._follow_models, self.kafka),
                # On its own: who may not see the group may see all else.
                ("workers", self.looks.follow, self.looks.outage),
            )
        ]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow_changes(self) -> None:
        await self.changes.follow(self._broker, self._settings.topics.segment_changes)

    async def _follow_models(self) -> None:
        economics, topics = self._settings.economics, self._settings.topics
        async with registry_reader(self._broker, topics.models, economics.currency) as reader:
            while True:
                registry = self.registry = await reader.read()
                versions = (
                    [each.version for each in registry.timeline.published],
                    [each.version for each in registry.rules.published],
                )
                if self._versions not in (None, versions):
                    self._reinterpreted()
                self._versions = versions
                self.kafka.well()
                self._known.set()


async def _always(follow: Callable[[], Awaitable[None]], outage: Outage) -> None:
    while True:
        try:
            await follow()
        except (KafkaError, OSError) as error:
            if outage.since is None:
                log.warning("Kafka cannot be read; trying again", error=repr(error))
            outage.failed(error)
        await asyncio.sleep(_RETRY_SECONDS)
