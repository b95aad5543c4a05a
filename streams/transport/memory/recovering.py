"""Recovery over the simulated broker: the service's own, with a simulated consumer."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

from faust.types import TP

from streams.transport.memory.broker import MemoryBroker, Record
from streams.transport.recovery import BulkRecovery


class LogReader:
    """Stands in for aiokafka's consumer in a recovery."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._positions: dict[TP, int] = {}

    async def start(self) -> None:
        """Do nothing: there is nothing to connect to."""

    async def stop(self) -> None:
        """Do nothing: there is no connection."""

    def assign(self, partitions: Iterable[tuple[str, int]]) -> None:
        """Assign partitions, to be read from their beginning."""
        self._positions = {TP(*tp): 0 for tp in partitions}

    def assignment(self) -> set[TP]:
        """Return the assigned partitions."""
        return set(self._positions)

    def pause(self, tp: tuple[str, int]) -> None:
        """Do nothing: the partition has been read to its end."""

    def seek(self, tp: tuple[str, int], offset: int) -> None:
        """Seek to an offset."""
        self._positions[TP(*tp)] = offset

    async def seek_to_beginning(self, tp: tuple[str, int]) -> None:
        """Seek to the beginning."""
        self._positions[TP(*tp)] = 0

    async def getmany(
        self,
        *_partitions: tuple[str, int],
        timeout_ms: int,  # noqa: ARG002 - never waits
        max_records: int | None = None,
    ) -> dict[TP, list[Record]]:
        """Return the next records of each partition, at most so many of each."""
        await asyncio.sleep(0)
        fetched = {}
        for tp, position in self._positions.items():
            if records := self._broker.fetch(tp, position, max_records):
                fetched[tp] = records
                self._positions[tp] = records[-1].offset + 1
            else:
                self._positions[tp] = max(position, self._broker.ends[tp])
        return fetched

    def highwater(self, tp: tuple[str, int]) -> int:
        """Return the offset after the last record."""
        return self._broker.ends[TP(*tp)]

    async def end_offsets(self, partitions: Iterable[tuple[str, int]]) -> dict[TP, int]:
        """Return the offsets after the last records."""
        return {TP(*tp): self._broker.ends[TP(*tp)] for tp in partitions}

    async def position(self, tp: tuple[str, int]) -> int:
        """Return the offset that is read next."""
        return self._positions[TP(*tp)]


class MemoryRecovery(BulkRecovery):
    """Our recovery over the simulated broker."""

    def _new_consumer(self) -> LogReader:
        return LogReader(self.app.transport.broker)
