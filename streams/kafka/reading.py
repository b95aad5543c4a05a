"""Reading logs without a consumer group: where they begin and end, a slice of them, what follows.

Each question opens its own client. One of aiokafka's that changes partitions and closes soon after
may wait for ever, and an unused one goes on fetching.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any, NamedTuple

import aiokafka

from streams.kafka.clients import started
from streams.kafka.connection import Broker
from streams.kafka.errors import KafkaTimeoutError
from streams.kafka.partitions import Bounds, LogRecord, TopicPartition

SILENCE_SECONDS = 60.0
"""How long a broker may give nothing: longer than it takes to hand its partitions to another."""

_POLL_MILLISECONDS = 50
_FETCH_WAIT_MILLISECONDS = 25
"""How long a broker waits for more where a log ends; the default is half a second."""


class LogClient:
    """One client of a broker; all methods raise KafkaError."""

    def __init__(self, consumer: aiokafka.AIOKafkaConsumer) -> None:
        self._consumer = consumer

    async def partitions(self, topic: str) -> int:
        """How many partitions a topic has; 0 where there is none, or none that may be seen."""
        return (await self.partition_counts([topic]))[topic]

    async def partition_counts(self, topics: Collection[str]) -> dict[str, int]:
        """How many partitions each of these topics has; 0 as of `partitions`."""
        # aiokafka's own `partitions_for_topic` knows only topics that were assigned before.
        cluster = await self._consumer._client.fetch_all_metadata()  # noqa: SLF001
        return {topic: len(cluster.partitions_for_topic(topic) or ()) for topic in topics}

    async def bounds(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, Bounds]:
        """Where these logs begin and end.

        The end is the greater of what ListOffsets and a fetch say. ListOffsets says too little on
        the embedded broker, fetches just after the election of a leader.
        """
        if not tps:
            return {}
        listed = await self.listed(tps)
        self.seek({tp: at.end for tp, at in listed.items()})
        while any(self.end(tp) is None for tp in tps):
            await self.fetch()
        return {tp: Bounds(at.begin, max(at.end, self.end(tp) or 0)) for tp, at in listed.items()}

    async def listed(self, tps: Collection[TopicPartition]) -> dict[TopicPartition, Bounds]:
        """The same as ListOffsets says: it is not exact, but needs no right to read."""
        theirs = _theirs(tps)
        begins = await self._consumer.beginning_offsets(theirs)
        ends = await self._consumer.end_offsets(theirs)
        return {tp: Bounds(begins[tp], ends[tp]) for tp in tps}

    async def offsets_at(
        self, times: Mapping[TopicPartition, int]
    ) -> dict[TopicPartition, int | None]:
        """The first offset at or after each time in ms, or None; some brokers say the beginning."""
        if not times:
            return {}
        found = await self._consumer.offsets_for_times(
            dict(zip(_theirs(times), times.values(), strict=True))
        )
        return {tp: None if found[tp] is None else int(found[tp].offset) for tp in times}

    def assign(self, tp: TopicPartition) -> None:
        """Read this partition from its first record on, without asking where that is."""
        self._consumer.assign(_theirs([tp]))

    def seek(self, places: Mapping[TopicPartition, int]) -> None:
        """Read these partitions from these offsets on, and no others."""
        theirs = _theirs(places)
        if self._consumer.assignment() != set(theirs):
            self._consumer.assign(theirs)
        for tp, offset in zip(theirs, places.values(), strict=True):
            self._consumer.seek(tp, offset)

    async def seek_to_beginning(self, tp: TopicPartition) -> None:
        """Read this partition from the first record there is, and no other."""
        self.assign(tp)
        await self._consumer.seek_to_beginning(*_theirs([tp]))

    def assign_all(self, tps: Collection[TopicPartition]) -> None:
        """Read these partitions, each from its first record on."""
        self._consumer.assign(_theirs(tps))

    async def fetch(
        self,
        *tps: TopicPartition,
        most: int | None = None,
        milliseconds: int = _POLL_MILLISECONDS,
    ) -> dict[TopicPartition, Sequence[LogRecord]]:
        """The next records, of these partitions or all; none where none came in time."""
        fetched = await self._consumer.getmany(
            *_theirs(tps), timeout_ms=milliseconds, max_records=most
        )
        return {TopicPartition(*tp): records for tp, records in fetched.items()}

    async def position(self, tp: TopicPartition) -> int:
        """The offset that is read next."""
        return int(await self._consumer.position(aiokafka.TopicPartition(*tp)))

    def end(self, tp: TopicPartition) -> int | None:
        """Where a partition ended when it was fetched last; None before the first answer."""
        end: int | None = self._consumer.highwater(aiokafka.TopicPartition(*tp))
        return end

    def readable_end(self, tp: TopicPartition) -> int | None:
        """The same, but before the records of a transaction that is still open."""
        stable: int | None = self._consumer.last_stable_offset(aiokafka.TopicPartition(*tp))
        return self.end(tp) if stable is None or stable < 0 else stable

    def pause(self, tp: TopicPartition) -> None:
        """Fetch nothing of a partition until it is resumed."""
        self._consumer.pause(aiokafka.TopicPartition(*tp))

    def resume(self, tp: TopicPartition) -> None:
        """Fetch from a paused partition again."""
        self._consumer.resume(aiokafka.TopicPartition(*tp))


def _theirs(tps: Collection[TopicPartition]) -> list[Any]:
    return [aiokafka.TopicPartition(*tp) for tp in tps]


@asynccontextmanager
async def log_client(broker: Broker, **options: Any) -> AsyncIterator[LogClient]:
    """A client that reads what workers read: committed records, from the first there is.

    options: of aiokafka's consumer. Errors: KafkaError, OSError.
    """
    settings = {
        "enable_auto_commit": False,
        "auto_offset_reset": "earliest",
        "isolation_level": "read_committed",
        "fetch_max_wait_ms": _FETCH_WAIT_MILLISECONDS,
    }
    client = aiokafka.AIOKafkaConsumer(**broker.client_options(), **(settings | options))
    async with started(client) as consumer:
        yield LogClient(consumer)


async def log_bounds(
    broker: Broker, tps: Collection[TopicPartition]
) -> dict[TopicPartition, Bounds]:
    """Where these logs begin and end now. Errors: KafkaError."""
    if not tps:
        return {}
    async with log_client(broker) as client:
        return await client.bounds(tps)


async def read_logs(
    broker: Broker,
    parts: Mapping[TopicPartition, Bounds],
    *,
    silence: float = SILENCE_SECONDS,
    **options: Any,
) -> AsyncIterator[tuple[TopicPartition, Sequence[LogRecord]]]:
    """The records of these parts of logs, partition by partition as they are fetched.

    Each partition's come in their order. silence: seconds without an answer after which
    KafkaTimeoutError is raised. options: of aiokafka's consumer. Errors: KafkaError.
    """
    left = {tp: part.end for tp, part in parts.items() if part.end > part.begin}
    if not left:
        return
    async with log_client(broker, **options) as client:
        client.seek({tp: parts[tp].begin for tp in left})
        heard = monotonic()
        while left:
            for tp, records in (await client.fetch(*left)).items():
                heard = monotonic()
                yield tp, [each for each in records if each.offset < left[tp]]
            for tp, end in list(left.items()):
                if await client.position(tp) >= end:
                    heard = monotonic()
                    client.pause(tp)
                    del left[tp]
            if monotonic() - heard >= silence:
                silent = ", ".join(map(str, left))
                raise KafkaTimeoutError(f"{silent}: not read within {silence:g} s")


async def first_records(
    broker: Broker, places: Mapping[TopicPartition, int], *, silence: float = SILENCE_SECONDS
) -> dict[TopicPartition, LogRecord]:
    """The first record at or after each offset, where there is one. Errors: KafkaError."""
    found: dict[TopicPartition, LogRecord] = {}
    if not places:
        return found
    async with log_client(broker) as client:
        client.seek(places)
        for tp in places:
            if (record := await next_record(client, tp, silence)) is not None:
                found[tp] = record
    return found


async def next_record(
    client: LogClient, tp: TopicPartition, silence: float = SILENCE_SECONDS
) -> LogRecord | None:
    """The next record of a log; None at its end. Errors: KafkaError."""
    until = monotonic() + silence
    while True:
        if records := (await client.fetch(tp, most=1)).get(tp):
            return records[0]
        end = client.readable_end(tp)
        if end is not None and await client.position(tp) >= end:
            return None
        if monotonic() >= until:
            raise KafkaTimeoutError(f"{tp} gives no record within {silence:g} s")


class Read(NamedTuple):
    """What was read; position: the next offset; end: of the log, None while unknown."""

    records: Sequence[LogRecord]
    position: int
    end: int | None

    @property
    def at_end(self) -> bool:
        """Whether nothing was left when it was read."""
        return self.end is not None and self.position >= self.end


class Follower:
    """Reads one partition on and on, as it grows; at the beginning at first."""

    def __init__(self, client: LogClient, tp: TopicPartition) -> None:
        self.tp = tp
        self._client = client

    async def seek(self, partition: int, offset: int | None) -> None:
        """Go to an offset of a partition of the topic; None: to its beginning."""
        self.tp = TopicPartition(self.tp.topic, partition)
        if offset is None:
            await self._client.seek_to_beginning(self.tp)
        else:
            self._client.seek({self.tp: offset})

    async def read(self, milliseconds: int = _POLL_MILLISECONDS) -> Read:
        """Read on, waiting for so long where nothing is left."""
        fetched = await self._client.fetch(self.tp, milliseconds=milliseconds)
        position = await self._client.position(self.tp)
        return Read(fetched.get(self.tp, ()), position, self._client.end(self.tp))

    async def partitions(self) -> int:
        """How many partitions the topic has; to be asked once something was read."""
        return await self._client.partitions(self.tp.topic)


@asynccontextmanager
async def follower(broker: Broker, tp: TopicPartition, **options: Any) -> AsyncIterator[Follower]:
    """Follow a partition from its beginning, also open transactions; errors: KafkaError, OSError.

    options: of aiokafka's consumer.
    """
    async with log_client(broker, **{"isolation_level": "read_uncommitted", **options}) as client:
        client.assign(tp)
        yield Follower(client, tp)
