"""All segment changes of the topic, counted by day, and the latest of them.

They are read from the beginning of the topic, and on as it grows. A change that was sent twice
after a crash has the same id both times, and counts once. Of a removed customer only counts stay.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from datetime import datetime
from heapq import heapify, heappush, heappushpop
from typing import Any, Final, NamedTuple

import msgspec

from models.calendar import milliseconds
from models.economics import Economics
from streams.kafka.connection import Broker
from streams.kafka.errors import KafkaTimeoutError
from streams.kafka.partitions import LogRecord, partitions_of
from streams.kafka.reading import log_client
from streams.serving.places import Place, Places

MOST_LATEST: Final = 2_000
"""So many of the latest changes are kept in full."""

_AT_ONCE: Final = 500
"""Records that are taken in before other tasks get their turn: about 5 ms."""

_FETCH_MILLISECONDS: Final = 500


class ChangeData(msgspec.Struct, gc=False):
    """What is shown of a change: the fields of its contract with these names."""

    customer_id: str
    dimension: str
    previous: str | None
    current: str | None
    cause: str
    reason: dict[str, Any]
    clv_before: float | None
    clv_after: float
    as_of: datetime

    @property
    def gain(self) -> float:
        """By how much the customer's value rose."""
        return 0.0 if self.clv_before is None else self.clv_after - self.clv_before


class _Changed(msgspec.Struct, tag_field="type", tag="clv.segment-changed"):
    id: str
    data: ChangeData


class _Gone(msgspec.Struct):
    customer_id: str


class _Removed(msgspec.Struct, tag_field="type", tag="clv.customer-removed"):
    data: _Gone


_decode = msgspec.json.Decoder(_Changed | _Removed).decode


def _document(value: bytes | None) -> _Changed | _Removed | None:
    """Return what was published; None for what no worker wrote."""
    if value is None:
        return None
    try:
        found: _Changed | _Removed = _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return None
    return found


def change_of(value: bytes | None) -> ChangeData | None:
    """Return what is shown of a published change; None for anything else."""
    found = _document(value)
    return found.data if isinstance(found, _Changed) else None


class Step(NamedTuple):
    """A way from one segment to another; None: the customer is new, or the dimension is gone."""

    dimension: str
    previous: str | None
    current: str | None


class Flow(NamedTuple):
    """So many customers went this way, and were worth so much together afterwards, in cents."""

    customers: int
    value_cents: int


class RecentChanges:
    """Counts and latest changes.

    removed: called with the id of a customer who is removed. told: called with each change.
    """

    def __init__(
        self,
        economics: Economics,
        removed: Callable[[str], None] = lambda _customer_id: None,
        told: Callable[[ChangeData], None] = lambda _change: None,
    ) -> None:
        self.whole = False
        self._economics = economics
        self._removed = removed
        self._told = told
        self._forget()

    def _forget(self) -> None:
        self._heap: list[tuple[int, int, ChangeData]] = []
        self._latest: list[ChangeData] | None = None
        self._seen: set[int] = set()
        # When customers were removed, by the hash of their id.
        self._gone: dict[int, int] = {}
        # Where each customer's changes are on the topic.
        self.places = Places()
        self._customers: Counter[tuple[int, Step]] = Counter()
        self._cents: Counter[tuple[int, Step]] = Counter()
        self._done = self._total = 0

    @property
    def progress(self) -> float:
        """The share of the topic that was read."""
        return 1.0 if self.whole else self._done / max(self._total, 1)

    @property
    def latest(self) -> list[ChangeData]:
        """The latest changes, newest first by when they were published."""
        if self._latest is None:
            ordered = sorted(self._heap, key=lambda each: each[:2], reverse=True)
            self._latest = [data for _, _, data in ordered]
        return self._latest

    @property
    def days(self) -> tuple[int, int] | None:
        """The first and the last day with a change, as ordinals; None without changes."""
        days = [day for day, _ in self._customers]
        return (min(days), max(days)) if days else None

    def flows(self, first: int, last: int) -> dict[Step, Flow]:
        """Return how many went which way from one day to another, both included, as ordinals."""
        customers: Counter[Step] = Counter()
        cents: Counter[Step] = Counter()
        for (day, step), number in self._customers.items():
            if first <= day <= last:
                customers[step] += number
                cents[step] += self._cents[day, step]
        return {step: Flow(number, cents[step]) for step, number in customers.most_common()}

    def of_customer(self, customer_id: str) -> Iterator[ChangeData]:
        """Yield a customer's changes among the latest, newest first."""
        return (each for each in self.latest if each.customer_id == customer_id)

    def take(self, published: Iterable[tuple[int, bytes | None, Place]]) -> None:
        """Count published documents; what is no segment change is left out.

        published: time, in milliseconds since 1970, document, and where it is on the topic.
        """
        for time, value, place in published:
            document = _document(value)
            if isinstance(document, _Removed):
                self._forget_customer(document.data.customer_id, time)
            elif document is not None and (known := hash(document.id)) not in self._seen:
                self._seen.add(known)
                self._count(document.data)
                self._told(document.data)
                # Partitions that were added are read beside those in which a customer was before.
                if time >= self._gone.get(hash(document.data.customer_id), 0):
                    self._keep(time, document.data, place)

    def _count(self, data: ChangeData) -> None:
        day = self._economics.day(milliseconds(data.as_of))
        which = day, Step(data.dimension, data.previous, data.current)
        self._customers[which] += 1
        self._cents[which] += round(100 * data.clv_after)

    def _keep(self, time: int, data: ChangeData, place: Place) -> None:
        self.places.add(data.customer_id, place)
        entry = time, len(self._seen), data
        if len(self._heap) < MOST_LATEST:
            heappush(self._heap, entry)
        else:
            heappushpop(self._heap, entry)
        self._latest = None

    def _forget_customer(self, customer_id: str, time: int) -> None:
        """Show nothing of a customer any more who was erased, or merged into another."""
        self._removed(customer_id)
        self._gone[hash(customer_id)] = time
        self.places.forget(customer_id)
        if any(data.customer_id == customer_id for _, _, data in self._heap):
            self._heap = [each for each in self._heap if each[2].customer_id != customer_id]
            heapify(self._heap)
            self._latest = None

    async def follow(self, broker: Broker, topic: str) -> None:
        """Read the topic, for ever. Errors: KafkaError, OSError."""
        self._forget()
        self.whole = False
        async with log_client(broker) as client:
            tps = partitions_of({topic: await client.partitions(topic)})
            if not tps:
                raise KafkaTimeoutError(f"{topic} is not there yet")
            bounds = await client.bounds(tps)
            self._total = sum(log.length for log in bounds.values())
            position = {tp: log.begin for tp, log in bounds.items()}
            client.seek(position)
            while True:
                self.whole = all(position[tp] >= log.end for tp, log in bounds.items())
                fetched = await client.fetch(most=_AT_ONCE, milliseconds=_FETCH_MILLISECONDS)
                for tp, records in fetched.items():
                    self._read(records)
                    position[tp] = records[-1].offset + 1

    def _read(self, records: Iterable[LogRecord]) -> None:
        published = [
            (record.timestamp, record.value, Place(record.partition, record.offset))
            for record in records
        ]
        self._done += len(published)
        self.take(published)
