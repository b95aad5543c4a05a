"""Simulated: what the broker says of its logs, to whoever compares a state with them."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from faust.types import TP

from streams.basis.logs import Bounds, mark_of
from streams.basis.metadata import Described
from streams.basis.record import Mark
from streams.testing.broker import MemoryBroker


class MemoryLogs:
    """The logs of a simulated broker, which tells no ids of topics."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker

    async def describe(self, topics: Collection[str]) -> dict[str, Described]:
        """Those of the topics that exist."""
        known = self._broker.partitions
        return {topic: Described(known[topic], "") for topic in topics if topic in known}

    async def bounds(self, tps: Collection[TP]) -> dict[TP, Bounds]:
        """Where these logs begin and end."""
        logs, ends = self._broker.logs, self._broker.ends
        return {tp: Bounds(logs[tp][0].offset if logs[tp] else ends[tp], ends[tp]) for tp in tps}

    async def committed(self, tps: Collection[TP]) -> dict[TP, int]:
        """What is committed; logs of which nothing is are missing."""
        held = self._broker.committed
        return {tp: held[tp] for tp in tps if tp in held}

    async def marks(self, places: Mapping[TP, int]) -> dict[TP, Mark]:
        """The first record at or after each offset, as a mark; none where there is none."""
        found = {tp: self._broker.fetch(tp, offset, 1) for tp, offset in places.items()}
        return {tp: mark_of(records[0]) for tp, records in found.items() if records}

    async def latest(
        self, tps: Collection[TP], key: bytes, most: int | None = None
    ) -> dict[TP, bytes]:
        """The last value of a key in each log, of those that have one in their last `most`."""
        found = {}
        for tp in tps:
            first = 0 if most is None else self._broker.ends[tp] - most
            for record in self._broker.fetch(tp, max(first, 0), None):
                if record.key == key and record.value is not None:
                    found[tp] = record.value
        return found
