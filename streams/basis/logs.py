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
from aiokafka.errors import GroupAuthorizationFailedError, KafkaError, KafkaTimeoutError
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

    async def latest(
        self, tps: Collection[TP], key: bytes, most: int | None = None
    ) -> dict[TP, bytes]:
        """The last value of a key in each log, of those that have one in their last `most`."""
        ...


def mark_of(record: Any) -> Mark:
    """The mark of a record."""
    seen = blake2b(digest_size=16)
    for part in (record.key, record.value):
        seen.update(b"-" if part is None else b"+" + len(part).to_bytes(4, "big") + part)
    return Mark(record.offset, record.timestamp, seen.digest())


class KafkaLogs:
    """Asks a broker, by connections of its own.

    Each question has a consumer of its own: aiokafka's, told to read something else and closed soon
    after, may wait for ever, and one that is left alone goes on fetching.
    """

    def __init__(self, broker: Broker, admin: AIOKafkaAdminClient, group: str) -> None:
        self.admin = admin
        self._broker = broker
        self._group = group

    async def describe(self, topics: Collection[str]) -> dict[str, Described]:
        """Those of the topics that exist."""
        return await describe(self.admin, topics)

    async def bounds(self, tps: Collection[TP]) -> dict[TP, Bounds]:
        """Where these logs begin and end."""
        theirs = [TopicPartition(*tp) for tp in tps]
        if not theirs:
            return {}
        async with started(reading_consumer(self._broker)) as consumer:
            begins = await consumer.beginning_offsets(theirs)
            ends = await log_ends(consumer, theirs)
        return {TP(*tp): Bounds(begins[tp], ends[tp]) for tp in theirs}

    async def committed(self, tps: Collection[TP]) -> dict[TP, int]:
        """What the group has committed; logs of which it has not are missing."""
        if not tps:
            return {}
        # Asked by partition: the embedded broker's answer for all of them is cut short.
        asked = [TopicPartition(*tp) for tp in tps]
        try:
            held = await self.admin.list_consumer_group_offsets(self._group, partitions=asked)
        except GroupAuthorizationFailedError as error:
            # aiokafka says it in a sentence; whoever tells it expects the name.
            raise GroupAuthorizationFailedError(self._group) from error
        return {TP(*tp): int(at.offset) for tp, at in held.items() if at.offset > _NO_OFFSET}

    async def marks(self, places: Mapping[TP, int]) -> dict[TP, Mark]:
        """The first record at or after each offset, as a mark; none where there is none."""
        if not places:
            return {}
        found = {}
        async with started(reading_consumer(self._broker)) as consumer:
            _put(consumer, places)
            for tp in places:
                if (record := await _next(consumer, TopicPartition(*tp))) is not None:
                    found[tp] = mark_of(record)
        return found

    async def latest(
        self, tps: Collection[TP], key: bytes, most: int | None = None
    ) -> dict[TP, bytes]:
        """The last value of a key in each log, of those that have one in their last records.

        most: how many records of each are looked at; none: all.
        """
        found: dict[TP, bytes] = {}
        left = {tp: at for tp, at in (await self.bounds(tps)).items() if at.end > at.begin}
        if most is not None:
            left = {tp: Bounds(max(begin, end - most), end) for tp, (begin, end) in left.items()}
        size = _TAIL
        while left:
            tails = {tp: Bounds(max(begin, end - size), end) for tp, (begin, end) in left.items()}
            async for tp, records in self.read(tails):
                for each in records:
                    if each.key == key:
                        found[tp] = each.value
            left = {
                tp: Bounds(left[tp].begin, start)
                for tp, (start, _) in tails.items()
                if found.get(tp) is None and start > left[tp].begin
            }
            size *= 10
        return {tp: value for tp, value in found.items() if value is not None}

    async def read(self, parts: Mapping[TP, Bounds]) -> AsyncIterator[tuple[TP, Sequence[Any]]]:
        """The records of these parts of logs, as they are fetched; errors: KafkaError."""
        left = {TopicPartition(*tp): end for tp, (begin, end) in parts.items() if end > begin}
        if not left:
            return
        async with started(reading_consumer(self._broker)) as consumer:
            _put(consumer, {TP(*tp): parts[TP(*tp)].begin for tp in left})
            heard = monotonic()
            while left:
                fetched = await consumer.getmany(*left, timeout_ms=_POLL_MILLISECONDS)
                for tp, records in fetched.items():
                    heard = monotonic()
                    yield TP(*tp), [each for each in records if each.offset < left[tp]]
                for tp, end in list(left.items()):
                    if await consumer.position(tp) >= end:
                        heard = monotonic()
                        consumer.pause(tp)
                        del left[tp]
                if monotonic() - heard >= ANSWER_SECONDS:
                    silent = ", ".join(f"{tp.topic}[{tp.partition}]" for tp in left)
                    raise KafkaTimeoutError(f"{silent}: not read within {ANSWER_SECONDS:g} s")


def _put(consumer: AIOKafkaConsumer, places: Mapping[TP, int]) -> None:
    """Have a consumer read from these offsets on."""
    consumer.assign([TopicPartition(*tp) for tp in places])
    for tp, offset in places.items():
        consumer.seek(TopicPartition(*tp), offset)


async def _next(consumer: AIOKafkaConsumer, tp: TopicPartition) -> Any | None:
    """The next record of a log; None at its end."""
    until = monotonic() + ANSWER_SECONDS
    while True:
        fetched = await consumer.getmany(tp, timeout_ms=_POLL_MILLISECONDS, max_records=1)
        if records := fetched.get(tp):
            return records[0]
        end = _readable(consumer, tp)
        if end is not None and await consumer.position(tp) >= end:
            return None
        if monotonic() >= until:
            raise KafkaTimeoutError(
                f"{tp.topic}[{tp.partition}] gives no record within {ANSWER_SECONDS:g} s"
            )


def _readable(consumer: AIOKafkaConsumer, tp: TopicPartition) -> int | None:
    """Up to where there is something to read; None before the first answer."""
    stable: int | None = consumer.last_stable_offset(tp)
    end: int | None = consumer.highwater(tp)
    return end if stable is None or stable < 0 else stable


@asynccontextmanager
async def kafka_logs(broker: Broker, group: str) -> AsyncIterator[KafkaLogs]:
    """The logs at a broker, as a group stands in them; errors: KafkaError."""
    async with started(AIOKafkaAdminClient(**broker.client_options())) as admin:
        yield KafkaLogs(broker, admin, group)


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
