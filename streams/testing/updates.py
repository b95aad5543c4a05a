"""The updates of the simulated broker, for the cache's catch-up."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from streams.cache.catch_up import KafkaCursor
from streams.testing.broker import MemoryBroker
from streams.testing.recovering import LogReader


class MemoryUpdates:
    """The topic of value updates at the simulated broker, in place of `KafkaUpdates`."""

    def __init__(self, broker: MemoryBroker, topic: str) -> None:
        self._broker = broker
        self._topic = topic

    @asynccontextmanager
    async def open(self) -> AsyncIterator[KafkaCursor]:
        """The service's own cursor, over a simulated consumer."""
        reader: Any = LogReader(self._broker)
        yield KafkaCursor(reader, self._topic)
