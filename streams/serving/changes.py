"""Segment changes as they are published, as server-sent events.

The id of each event says where all partitions of the topic go on behind it, so that a client that
comes back with it (`Last-Event-ID`) misses nothing and gets nothing twice.

Source: HTML Living Standard, section 9.2, Server-sent events.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from http import HTTPStatus
from time import monotonic
from typing import Final, NamedTuple

import msgspec

from streams.kafka.connection import Broker
from streams.kafka.partitions import Bounds, LogRecord, TopicPartition
from streams.kafka.reading import LogClient, log_client
from streams.serving.cursors import position_text
from streams.serving.problems import Problem

KEEP_ALIVE_SECONDS: Final = 15.0
"""So often something is sent, so that no proxy takes the connection for dead."""

_FETCH_MILLISECONDS: Final = 500


class Wanted(NamedTuple):
    """Which changes a client asks for; None: any. segment: that a customer entered or left."""

    dimension: str | None = None
    segment: str | None = None
    customer_id: str | None = None

    def takes(self, change: _Change) -> bool:
        """Return whether a change is wanted; a removal of a customer concerns all dimensions."""
        data = change.data
        if self.customer_id not in (None, data.customer_id):
            return False
        if data.dimension is None:
            return True
        if self.dimension not in (None, data.dimension):
            return False
        return self.segment in (None, data.previous, data.current)


class _Data(msgspec.Struct):
    customer_id: str
    dimension: str | None = None
    previous: str | None = None
    current: str | None = None


class _Change(msgspec.Struct):
    type: str
    data: _Data


_decode = msgspec.json.Decoder(_Change).decode


async def changes(
    broker: Broker, topic: str, since: Mapping[int, int] | None, wanted: Wanted
) -> AsyncIterator[bytes]:
    """Yield server-sent events, for ever.

    since: the next offset of each partition; None: behind all that is published now. Where
    retention has deleted what comes next, an event `gap` says how many records.
    Errors: KafkaError; Problem for offsets beyond the topic's end.
    """
    async with log_client(broker) as client:
        count = await client.partitions(topic)
        bounds = await client.bounds([TopicPartition(topic, number) for number in range(count)])
        position, lost = _start(bounds, since)
        client.seek({TopicPartition(topic, number): at for number, at in position.items()})
        yield _event(position, "gap", b'{"records":%d}' % lost) if lost else _comment("connected")
        async for part in _follow(client, position, wanted):
            yield part


async def _follow(
    client: LogClient, position: dict[int, int], wanted: Wanted
) -> AsyncIterator[bytes]:
    spoke = monotonic()
    while True:
        for tp, records in (await client.fetch(milliseconds=_FETCH_MILLISECONDS)).items():
            for record in records:
                position[tp.partition] = record.offset + 1
                if (event := _told(record, position, wanted)) is not None:
                    spoke = monotonic()
                    yield event
        if monotonic() - spoke > KEEP_ALIVE_SECONDS:
            spoke = monotonic()
            yield _comment("still here")


def _start(
    bounds: Mapping[TopicPartition, Bounds], since: Mapping[int, int] | None
) -> tuple[dict[int, int], int]:
    """Return where to begin in each partition, and how many records before it are gone."""
    if since is None:
        return {tp.partition: log.end for tp, log in bounds.items()}, 0
    position: dict[int, int] = {}
    lost = 0
    for tp, log in bounds.items():
        # A partition that is newer than the id is read from its beginning.
        wanted = since.get(tp.partition, log.begin)
        if wanted > log.end:
            raise Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY,
                f"Last-Event-ID is beyond the end of {tp}: the topic is not the one of that time; "
                "leave it out, and take the state of the customers anew",
            )
        position[tp.partition] = max(wanted, log.begin)
        lost += position[tp.partition] - wanted
    return position, lost


def _told(record: LogRecord, position: Mapping[int, int], wanted: Wanted) -> bytes | None:
    if record.value is None:
        return None
    try:
        change = _decode(record.value)
    except msgspec.MsgspecError:
        # Not written by a worker; it has no place in this stream.
        return None
    if not wanted.takes(change):
        return None
    return _event(position, change.type, record.value)


def _event(position: Mapping[int, int], name: str, data: bytes) -> bytes:
    # Workers publish JSON without line ends.
    return b"id: %b\nevent: %b\ndata: %b\n\n" % (
        position_text(position).encode(),
        name.encode(),
        data,
    )


def _comment(text: str) -> bytes:
    return b": %b\n\n" % text.encode()
