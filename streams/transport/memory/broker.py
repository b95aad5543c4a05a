"""A simulated broker: logs and committed offsets in memory, with faults on demand."""

from __future__ import annotations

import asyncio
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from operator import attrgetter
from typing import Any, NamedTuple

from faust.types import TP
from faust.types.tuples import RecordMetadata

from streams.kafka.errors import KafkaTimeoutError

POLL_SECONDS = 0.005
"""How often the broker checks whether a test has ended a fault."""

OutgoingRecord = tuple[bytes | None, bytes | None, Sequence[tuple[str, bytes]]]
"""Key, value and headers."""

_offset_of = attrgetter("offset")


def check_record(key: object, value: object, headers: object) -> None:
    """Raise TypeError for what a producer cannot send."""
    for name, given in (("key", key), ("value", value)):
        if not isinstance(given, bytes | None):
            raise TypeError(f"the {name} of a record is bytes or None, not {given!r}")
    if not isinstance(headers, list | tuple) or not all(map(_is_header, headers)):
        raise TypeError(
            f'headers are pairs of text and bytes, such as [("name", b"content")], not {headers!r}'
        )


def _is_header(header: object) -> bool:
    match header:
        case (str(), bytes() | None):
            return True
        case _:
            return False


class Record(NamedTuple):
    """A record as a consumer gets it; its timestamp is in milliseconds since 1970."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    timestamp: int = 0
    timestamp_type: int = 0

    @property
    def where(self) -> str:
        """Return the record's position: topic[partition]@offset."""
        return f"{self.topic}[{self.partition}]@{self.offset}"


def _no_clock() -> int:
    return 0


class MemoryBroker:
    """Simulated: logs by topic-partition, committed offsets, and faults.

    now: returns milliseconds since 1970, for the timestamps of appended records.
    refusing: topics to which `send` does not return, as when the producer's buffer is full.
    silent: topics whose records are appended but not acknowledged until `release`.
    failing: topics whose records are answered with an error.
    fail_next: how many of the next requests to a topic are answered with an error.
    may_commit: an event; commits wait for it.
    """

    def __init__(self, now: Callable[[], int] = _no_clock) -> None:
        self.now = now
        self.logs: defaultdict[TP, list[Record]] = defaultdict(list)
        self.ends: defaultdict[TP, int] = defaultdict(int)
        self.partitions: dict[str, int] = {}
        self.committed: dict[TP, int] = {}
        self.refusing: set[str] = set()
        self.silent: set[str] = set()
        self.failing: set[str] = set()
        self.fail_next: Counter[str] = Counter()
        self.may_commit = asyncio.Event()
        self.may_commit.set()
        self.unanswered: list[tuple[TP, Sequence[OutgoingRecord], asyncio.Future[Any]]] = []
        self.changes = 0
        """The number of appends and commits."""
        self._waiting: list[asyncio.Event] = []

    def create_topic(self, topic: str, partitions: int) -> None:
        """Create a topic, unless it exists."""
        self.partitions.setdefault(topic, partitions)

    def append(
        self,
        tp: TP,
        value: bytes | None,
        key: bytes | None = None,
        *,
        offset: int | None = None,
        headers: Iterable[tuple[str, bytes]] = (),
        timestamp: int | None = None,
    ) -> int:
        """Append a record; an offset beyond the end leaves a gap, as after compaction."""
        offset = self.ends[tp] if offset is None else offset
        timestamp = self.now() if timestamp is None else timestamp
        self.logs[tp].append(
            Record(tp.topic, tp.partition, offset, key, value, tuple(headers), timestamp)
        )
        self.ends[tp] = offset + 1
        self._changed()
        return offset

    def append_all(self, tp: TP, records: Iterable[OutgoingRecord]) -> int:
        """Append records; return the offset of the first."""
        start = offset = self.ends[tp]
        topic, partition, timestamp, log = tp.topic, tp.partition, self.now(), self.logs[tp]
        for key, value, headers in records:
            log.append(Record(topic, partition, offset, key, value, headers, timestamp))
            offset += 1
        self.ends[tp] = offset
        self._changed()
        return start

    def fetch(self, tp: TP, offset: int, limit: int | None) -> list[Record]:
        """Return records of a topic-partition from an offset on."""
        log = self.logs[tp]
        start = bisect_left(log, offset, key=_offset_of)
        return log[start:] if limit is None else log[start : start + limit]

    def records(self, topic: str) -> list[Record]:
        """Return all records of a topic, partition by partition."""
        tps = sorted(tp for tp in self.logs if tp.topic == topic)
        return [record for tp in tps for record in self.logs[tp]]

    def values(self, topic: str) -> list[bytes | None]:
        """Return the values of all records of a topic."""
        return [record.value for record in self.records(topic)]

    def commit(self, offsets: dict[TP, int]) -> None:
        """Commit offsets."""
        self.committed.update(offsets)
        self.changes += 1

    async def wait_for_records(self, waiting: asyncio.Event, seconds: float) -> None:
        """Wait until a record is appended or the event is set, at most so many seconds."""
        self._waiting.append(waiting)
        try:
            async with asyncio.timeout(seconds):
                await waiting.wait()
        except TimeoutError:
            pass
        finally:
            self._waiting.remove(waiting)
            waiting.clear()

    async def until_accepting(self, topic: str) -> None:
        """Wait while the topic is in `refusing`."""
        while topic in self.refusing:  # noqa: ASYNC110 - a test just takes it out
            await asyncio.sleep(POLL_SECONDS)

    def produce(self, tp: TP, records: Sequence[OutgoingRecord]) -> asyncio.Future[Any]:
        """Append several records; return the delivery of the first."""
        delivery: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if tp.topic in self.failing or self.fail_next[tp.topic] > 0:
            self.fail_next[tp.topic] = max(0, self.fail_next[tp.topic] - 1)
            delivery.set_exception(KafkaTimeoutError(f"the test made a delivery to {tp} fail"))
        elif tp.topic in self.silent:
            self.unanswered.append((tp, records, delivery))
        else:
            self._acknowledge(tp, records, delivery)
        return delivery

    def release(self, *topics: str) -> None:
        """Acknowledge waiting records of all topics, or of these, and end their silence."""
        released = set(topics) or set(self.silent)
        self.silent -= released
        unanswered, self.unanswered = self.unanswered, []
        for waiting in unanswered:
            if waiting[0].topic in released:
                self._acknowledge(*waiting)
            else:
                self.unanswered.append(waiting)

    def fail_unanswered(self) -> None:
        """Answer all waiting records with an error."""
        unanswered, self.unanswered = self.unanswered, []
        for _, _, delivery in unanswered:
            delivery.set_exception(KafkaTimeoutError())

    def forget(self, deliveries: Iterable[asyncio.Future[Any]]) -> None:
        """Drop the waiting deliveries of a client that is gone."""
        gone = set(map(id, deliveries))
        self.unanswered = [waiting for waiting in self.unanswered if id(waiting[2]) not in gone]

    def _acknowledge(
        self, tp: TP, records: Sequence[OutgoingRecord], delivery: asyncio.Future[Any]
    ) -> None:
        first = self.append_all(tp, records)
        if not delivery.done():
            delivery.set_result(RecordMetadata(*tp, tp, first, None, 0))

    def _changed(self) -> None:
        self.changes += 1
        for waiting in self._waiting:
            waiting.set()
