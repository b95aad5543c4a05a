"""What the broker says of the logs that the state was computed from."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from hashlib import blake2b
from time import monotonic
from typing import Any, NamedTuple, Protocol, TypeVar

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError, KafkaTimeoutError
from faust.types import TP

from streams.basis.metadata import Described, describe
from streams.basis.record import Mark
from streams.clients import started
from streams.connection import Broker
from streams.ends import log_ends

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

ANSWER_SECONDS = 10.0
"""How long the broker may take to give one record."""

_AGAIN_SECONDS = 1.0
_FETCH_WAIT_MILLISECONDS = 25
_POLL_MILLISECONDS = 50
_NO_OFFSET = -1
_TAIL = 1_000
"""Records at the end of a log that are looked at first, and then ten times as many."""


class Bounds(NamedTuple):
    """Offsets of the first record of a log, and after the last."""

    begin: int
    end: int


class Logs(Protocol):
    """Topics and logs at a broker; every method raises KafkaError while it does not answer."""

    async def describe(self, topics: Collection[str]) -> dict[str, Described]:
        """Those of the topics that exist."""
        ...

    async def bounds(self, tps: Collection[TP]) -> dict[TP, Bounds]:
        """Where these logs begin and end."""
        ...

    async def committed(self, tps: Collection[TP]) -> dict[TP, int]:
        """What the group has committed; logs of which it has not are missing."""
        ...

    async def marks(self, places: Mapping[TP, int]) -> dict[TP, Mark]:
        """The first record at or after each offset, as a mark; none where there is none."""
        ...

    async def latest(self, tp: TP, key: bytes, most: int | None = None) -> bytes | None:
        """The last value of a key in a log; None where it has none in its last `most` records."""
        ...


def mark_of(record: Any) -> Mark:
    """The mark of a record."""
    seen = blake2b(digest_size=16)
    for part in (record.key, record.value):
        seen.update(b"-" if part is None else b"+" + len(part).to_bytes(4, "big") + part)
    return Mark(record.offset, record.timestamp, seen.digest())


class KafkaLogs:
    """Asks a broker, by connections of its own."""

    def __init__(self, admin: AIOKafkaAdminClient, consumer: AIOKafkaConsumer, group: str) -> None:
        self.admin = admin
        self._consumer = consumer
        self._group = group
        self._one_at_a_time = asyncio.Lock()

    async def describe(self, topics: Collection[str]) -> dict[str, Described]:
        """Those of the topics that exist."""
        return await describe(self.admin, topics)

    async def bounds(self, tps: Collection[TP]) -> dict[TP, Bounds]:
        """Where these logs begin and end."""
        theirs = [TopicPartition(*tp) for tp in tps]
        if not theirs:
            return {}
        async with self._reading() as consumer:
            begins = await consumer.beginning_offsets(theirs)
            ends = await log_ends(consumer, theirs)
        return {TP(*tp): Bounds(begins[tp], ends[tp]) for tp in theirs}

    async def committed(self, tps: Collection[TP]) -> dict[TP, int]:
        """What the group has committed; logs of which it has not are missing."""
        if not tps:
            return {}
        # Asked by partition: the embedded broker's answer for all of them is cut short.
        held = await self.admin.list_consumer_group_offsets(
            self._group, partitions=[TopicPartition(*tp) for tp in tps]
        )
        return {TP(*tp): int(at.offset) for tp, at in held.items() if at.offset > _NO_OFFSET}

    async def marks(self, places: Mapping[TP, int]) -> dict[TP, Mark]:
        """The first record at or after each offset, as a mark; none where there is none."""
        if not places:
            return {}
        found = {}
        async with self._reading() as consumer:
            consumer.assign([TopicPartition(*tp) for tp in places])
            for tp, offset in places.items():
                consumer.seek(TopicPartition(*tp), offset)
            for tp in places:
                if (record := await self._next(TopicPartition(*tp))) is not None:
                    found[tp] = mark_of(record)
        return found

    async def latest(self, tp: TP, key: bytes, most: int | None = None) -> bytes | None:
        """The last value of a key in a log; None where it has none in its last `most` records."""
        begin, end = (await self.bounds([tp]))[tp]
        if most is not None:
            begin = max(begin, end - most)
        size = _TAIL
        while end > begin:
            start = max(begin, end - size)
            if (value := await self._last(TopicPartition(*tp), key, start, end)) is not None:
                return value
            end, size = start, 10 * size
        return None

    async def _last(self, tp: TopicPartition, key: bytes, start: int, end: int) -> bytes | None:
        """The last value of a key between two offsets."""
        value = None
        async for records in self.read(tp, start, end):
            for record in records:
                if record.key == key:
                    value = record.value
        return value

    async def read(self, tp: TopicPartition, start: int, end: int) -> AsyncIterator[Sequence[Any]]:
        """The records between two offsets, as they are fetched; errors: KafkaError."""
        async with self._reading() as consumer:
            consumer.assign([tp])
            consumer.seek(tp, start)
            heard, position = monotonic(), start
            while position < end:
                fetched = await consumer.getmany(tp, timeout_ms=_POLL_MILLISECONDS)
                yield [record for record in fetched.get(tp, ()) if record.offset < end]
                before, position = position, await consumer.position(tp)
                if position != before:
                    heard = monotonic()
                elif monotonic() - heard >= ANSWER_SECONDS:
                    raise KafkaTimeoutError(
                        f"{tp.topic}[{tp.partition}]@{position} is not read within "
                        f"{ANSWER_SECONDS:g} s"
                    )

    @asynccontextmanager
    async def _reading(self) -> AsyncIterator[AIOKafkaConsumer]:
        """The consumer, for one question at a time; it fetches nothing between them."""
        async with self._one_at_a_time:
            try:
                yield self._consumer
            finally:
                self._consumer.unsubscribe()

    async def _next(self, tp: TopicPartition) -> Any | None:
        until = monotonic() + ANSWER_SECONDS
        while True:
            fetched = await self._consumer.getmany(tp, timeout_ms=_POLL_MILLISECONDS, max_records=1)
            if records := fetched.get(tp):
                return records[0]
            end = self._end(tp)
            if end is not None and await self._consumer.position(tp) >= end:
                return None
            if monotonic() >= until:
                raise KafkaTimeoutError(
                    f"{tp.topic}[{tp.partition}] gives no record within {ANSWER_SECONDS:g} s"
                )

    def _end(self, tp: TopicPartition) -> int | None:
        """Up to where there is something to read; None before the first answer."""
        stable: int | None = self._consumer.last_stable_offset(tp)
        end: int | None = self._consumer.highwater(tp)
        return end if stable is None or stable < 0 else stable


@asynccontextmanager
async def kafka_logs(broker: Broker, group: str) -> AsyncIterator[KafkaLogs]:
    """The logs at a broker, as a group stands in them; errors: KafkaError."""
    admin = AIOKafkaAdminClient(**broker.client_options())
    async with started(admin), started(reading_consumer(broker)) as consumer:
        yield KafkaLogs(admin, consumer, group)


def reading_consumer(broker: Broker) -> AIOKafkaConsumer:
    """A consumer that sees what workers see, to be started."""
    return AIOKafkaConsumer(
        **broker.client_options(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        isolation_level="read_committed",
        fetch_max_wait_ms=_FETCH_WAIT_MILLISECONDS,
    )


async def patiently(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """Ask again while the broker does not answer: nothing may go on unchecked."""
    while True:
        try:
            return await ask()
        except KafkaError as error:
            if not is_passing(error):
                raise
            log.warning("waiting for the broker to compare the state with", error=repr(error))
            await asyncio.sleep(_AGAIN_SECONDS)


def is_passing(error: KafkaError) -> bool:
    """Whether a broker may get over an error by itself."""
    return bool(error.retriable) or isinstance(error, KafkaTimeoutError)
