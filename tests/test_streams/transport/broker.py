"""A broker in memory: logs, committed offsets, and the faults that no real one has on request."""

import asyncio
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from aiokafka.errors import KafkaTimeoutError
from faust.types import TP
from faust.types.tuples import RecordMetadata

POLL_SECONDS = 0.005


@dataclass(frozen=True, slots=True)
class Record:
    """A record as a consumer gets it."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()
    timestamp: int = 0
    timestamp_type: int = 0


class Broker:
    """Logs, committed offsets, and the faults that a test asks for.

    refusing: topics to which `send` does not return, as when the producer's buffer is full.
    silent: topics whose records are taken but never acknowledged, until they are released.
    failing: topics whose records are answered with an error.
    may_commit: until it is set, commits are not answered.
    """

    def __init__(self) -> None:
        self.logs: defaultdict[TP, list[Record]] = defaultdict(list)
        self.ends: defaultdict[TP, int] = defaultdict(int)
        self.partitions: dict[str, int] = {}
        self.committed: dict[TP, int] = {}
        self.refusing: set[str] = set()
        self.silent: set[str] = set()
        self.failing: set[str] = set()
        self.may_commit = asyncio.Event()
        self.may_commit.set()
        self.unanswered: list[tuple[TP, list[Any], asyncio.Future[Any]]] = []

    def create_topic(self, topic: str, partitions: int) -> None:
        self.partitions.setdefault(topic, partitions)

    def append(
        self,
        tp: TP,
        value: bytes | None,
        key: bytes | None = None,
        *,
        offset: int | None = None,
        headers: Iterable[tuple[str, bytes]] = (),
    ) -> int:
        """Append a record; an offset beyond the end leaves a gap, as compaction does."""
        offset = self.ends[tp] if offset is None else offset
        self.logs[tp].append(Record(*tp, offset, key, value, tuple(headers)))
        self.ends[tp] = offset + 1
        return offset

    def fetch(self, tp: TP, offset: int, limit: int | None) -> list[Record]:
        return [record for record in self.logs[tp] if record.offset >= offset][:limit]

    def values(self, topic: str) -> list[bytes | None]:
        """Values of all partitions of a topic."""
        return [
            record.value for tp, log in self.logs.items() if tp.topic == topic for record in log
        ]

    async def until_accepting(self, topic: str) -> None:
        while topic in self.refusing:  # noqa: ASYNC110 - a test just takes it out
            await asyncio.sleep(POLL_SECONDS)

    def produce(self, tp: TP, records: list[Any]) -> asyncio.Future[Any]:
        """Take (key, value, headers) of several records; the delivery is that of the first."""
        delivery: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        if tp.topic in self.failing:
            delivery.set_exception(KafkaTimeoutError())
        elif tp.topic in self.silent:
            self.unanswered.append((tp, records, delivery))
        else:
            self._acknowledge(tp, records, delivery)
        return delivery

    def release(self, *topics: str) -> None:
        """Acknowledge what was taken and not answered, and be silent no longer: of all topics, or
        of these.
        """
        released = set(topics) or set(self.silent)
        self.silent -= released
        unanswered, self.unanswered = self.unanswered, []
        for waiting in unanswered:
            if waiting[0].topic in released:
                self._acknowledge(*waiting)
            else:
                self.unanswered.append(waiting)

    def fail_unanswered(self) -> None:
        """Answer what was taken and not answered with an error."""
        unanswered, self.unanswered = self.unanswered, []
        for _, _, delivery in unanswered:
            delivery.set_exception(KafkaTimeoutError())

    def _acknowledge(self, tp: TP, records: list[Any], delivery: asyncio.Future[Any]) -> None:
        first = self.ends[tp]
        for key, value, headers in records:
            self.append(tp, value, key, headers=headers)
        if not delivery.done():
            delivery.set_result(RecordMetadata(*tp, tp, first, None, 0))
