"""One order of the records of many partitions, the same however they were read."""

from __future__ import annotations

import heapq
from collections.abc import AsyncIterator, Collection
from typing import NamedTuple, Protocol

from streams.recording.format import Recorded


class Place(NamedTuple):
    """A partition; topic: its index in the head of a recording."""

    topic: int
    partition: int


class Partitions(Protocol):
    """Partitions that are read each in its order."""

    async def next(self, place: Place) -> Recorded | None:
        """The next record; None at the end."""


async def merged(partitions: Partitions, places: Collection[Place]) -> AsyncIterator[Recorded]:
    """All records by (timestamp, topic, partition, offset), each partition in its own order.

    A record that has an earlier timestamp than the one before it in its partition follows it
    nevertheless.
    """
    heads: list[tuple[int, Place, int, Recorded]] = []
    for place in places:
        await _push(heads, partitions, place)
    while heads:
        place, record = heads[0][1], heads[0][3]
        heapq.heappop(heads)
        yield record
        await _push(heads, partitions, place)


async def _push(
    heads: list[tuple[int, Place, int, Recorded]], partitions: Partitions, place: Place
) -> None:
    record = await partitions.next(place)
    if record is not None:
        heapq.heappush(heads, (record.timestamp, place, record.offset, record))
