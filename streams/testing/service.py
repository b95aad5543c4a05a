"""What a test does with a service, wherever it runs: publish, let time pass, read."""

from __future__ import annotations

import abc
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from typing import Protocol, TypeVar

from faust.types import TP

from models.aggregate.record import CustomerRecord, decode_record
from models.contracts.clock import Tick
from models.contracts.intake import IDENTITIES
from models.contracts.parameters import Parameters
from streams.files.outgoing import OutgoingEvent
from streams.recording.format import Recorded
from streams.recording.waves import waves
from streams.settings import Settings
from streams.testing.broker import OutgoingRecord, Record, check_record
from streams.testing.clock import Clock, Moment
from streams.testing.errors import NotPublished
from streams.testing.history import history, shown
from streams.testing.parameters import check_currency
from streams.testing.reading import DeadLetters, Removals, SegmentChanges, Updates
from streams.testing.writing import Customers, Orders, Support, Writer
from streams.topics import changelog_topic, home_partition, plan

SOURCE = "/test"
"""The source of events that name no other."""


class _Named(Protocol):
    @property
    def name(self) -> str: ...


_Worker = TypeVar("_Worker", bound=_Named)


class Service(abc.ABC):
    """A service under test: what goes in, what comes out, and its clock.

    Everything that reads waits first until the service has settled: all input consumed, its outputs
    acknowledged, its offsets committed.
    """

    def __init__(self, settings: Settings, start: Moment) -> None:
        self.settings = settings
        self.partitions = settings.partitions
        self.clock = Clock(settings.economics.timezone, start)
        self._touched: dict[str, None] = {}
        self._published: dict[str, None] = {}
        self._last_topics: set[str] = set()
        self._keyless = 0
        writer = Writer(self.clock, settings.economics.currency, SOURCE, self._send)
        self.orders = Orders(writer)
        self.support = Support(writer)
        self.customers = Customers(writer)
        topics = settings.topics
        self.updates = Updates(lambda: self.topic(topics.updates), self._touch)
        self.dead_letters = DeadLetters(lambda: self.topic(topics.dead_letters), self._touch)
        changes = (lambda: self.topic(topics.segment_changes), self._touch)
        self.segment_changes = SegmentChanges(*changes)
        self.removals = Removals(*changes)

    # What goes in.

    async def publish(
        self,
        topic: str,
        key: bytes | str | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes]] = (),
        *,
        partition: int | None = None,
    ) -> Record:
        """Publish a record as it is, partitioned by its key as Kafka does; returns it.

        Records without a key go to the partitions in turn. Errors: ValueError for a topic or a
        partition that there is none of; TypeError for what is no record.
        """
        partitions = self._partitions(topic)
        if partition is not None and partition not in range(partitions):
            raise ValueError(f"{topic} has the partitions 0 to {partitions - 1}, not {partition}")
        key = key.encode() if isinstance(key, str) else key
        check_record(key, value, headers)
        await self._in_turn({topic})
        if key is not None:
            self._touch(shown(key))
        tp = TP(topic, self._home(key, partitions) if partition is None else partition)
        offset = await self._append(tp, [(key, value, headers)])
        return Record(topic, tp.partition, offset, key, value, tuple(headers), self.clock.now())

    async def publish_events(self, events: Iterable[OutgoingEvent]) -> int:
        """Publish many events in their order, such as those of a file; returns how many.

        Among topics that order is kept for each customer, as it is in a replay.
        """
        names = self._names()
        given = list(events)
        homes: dict[bytes, int] = {}
        for wave in _waves(list(names), given):
            waiting: defaultdict[TP, list[OutgoingRecord]] = defaultdict(list)
            for topic, key, value, headers, _ in wave:
                home = homes.get(key) if key is not None else None
                if home is None:
                    home = self._home(key, self.partitions)
                    if key is not None:
                        homes[key] = home
                        self._published[shown(key)] = None
                waiting[TP(names[topic], home)].append((key, value, headers))
            # The clock is never behind what is published.
            self.clock.follow(max(event.time for event in wave))
            await self._in_turn({tp.topic for tp in waiting})
            for tp, outgoing in waiting.items():
                await self._append(tp, outgoing)
        return len(given)

    async def advance(
        self,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        to: Moment | None = None,
    ) -> None:
        """Let time pass for everybody: move the clock, and publish a tick, as `clv tick` does.

        A day is 24 hours, also where summer time begins or ends. It waits until everything that
        came before is worked on, and until the tick is. Errors: ValueError for a time back, or for
        `to` together with days, hours or minutes.
        """
        await self.settled()
        self.clock.move(timedelta(days=days, hours=hours, minutes=minutes), to)
        await self._tick()

    async def use_parameters(self, parameters: Parameters, *, revalue: bool = False) -> None:
        """Publish fitted parameters, for whatever is published from now on.

        revalue: with a tick that asks for them, as `clv fit --publish` sends it, so that everybody
        is valued anew as of now. Errors: ValueError for another currency than the shop's, which
        workers refuse.
        """
        check_currency(parameters, self.settings.economics.currency)
        await self.settled()
        value = parameters.model_dump_json().encode()
        await self._append(
            TP(self.settings.topics.models, 0), [(parameters.model.encode(), value, ())]
        )
        if revalue:
            await self._tick(parameters.version)

    # What comes out.

    async def topic(self, name: str) -> list[Record]:
        """All records of a topic, partition after partition, once the service has settled.

        Errors: ValueError for a topic that the service does not have.
        """
        self._partitions(name)
        await self.settled()
        return await self._records(name)

    async def customer(self, customer: str) -> CustomerRecord:
        """A customer's stored record, as the changelog has it; NotPublished where there is none."""
        self._touch(customer)
        key = customer.encode()
        stored: bytes | None = None
        for record in await self.topic(changelog_topic(self.settings)):
            if record.key == key:
                stored = record.value
        if stored is None:
            raise NotPublished(f"there is no record of {customer!r}")
        return decode_record(stored)

    def history(self, *customers: str) -> str:
        """What happened to these customers, or to all that the test touched, in words."""
        # Of many at once, after those that the test names.
        touched = list(self._touched | self._published)
        return history(self._records_now, self.settings, self.partitions, customers or touched)

    # What is different where it runs.

    @abc.abstractmethod
    async def settled(self) -> None:
        """Wait until everything that was published is worked on, and what follows from it.

        Raises
        ------
        WorkerCrashed
            when a worker has crashed.
        NotSettled
            when records wait and nothing goes on.
        """

    @abc.abstractmethod
    async def _append(self, tp: TP, records: Sequence[OutgoingRecord]) -> int:
        """Write records with the clock's time; returns the offset of the first."""

    @abc.abstractmethod
    async def _records(self, topic: str) -> list[Record]:
        """All records of a topic, partition after partition."""

    @abc.abstractmethod
    def _records_now(self, topic: str) -> Sequence[Record]:
        """The same for a report, as far as they can be had."""

    @property
    @abc.abstractmethod
    def _can_settle(self) -> bool:
        """Whether it is worth to wait for that."""

    async def _tick(self, parameters: str | None = None) -> None:
        """Tell every partition what time it is, and wait until that is worked on."""
        tick = Tick(as_of=self.clock.time, parameters=parameters)
        value = tick.model_dump_json(exclude_none=True).encode()
        for partition in range(self.partitions):
            await self._append(TP(self.settings.topics.clock, partition), [(None, value, ())])
        self._last_topics = {self.settings.topics.clock}
        await self.settled()

    async def _send(self, event: OutgoingEvent) -> None:
        self.clock.follow(event.time)
        await self.publish(self._names()[event.topic], event.key, event.value, event.headers)

    async def _in_turn(self, topics: set[str]) -> None:
        """Topics have no order among each other: what went to another one is worked on first."""
        if self._last_topics and len(self._last_topics | topics) > 1 and self._can_settle:
            await self.settled()
        self._last_topics = topics

    def _names(self) -> dict[str, str]:
        topics = self.settings.topics
        return {topics.role(name): name for name in topics.inputs}

    def _partitions(self, topic: str) -> int:
        """How many partitions a topic has; ValueError for a name that none has."""
        found = {each.name: each.partitions for each in plan(self.settings)}
        if topic not in found:
            raise ValueError(f"no topic is named {topic!r}; there are {', '.join(sorted(found))}")
        return found[topic]

    def _home(self, key: bytes | None, partitions: int) -> int:
        if key is None:
            self._keyless += 1
            return self._keyless % partitions
        return home_partition(key, partitions)

    def _touch(self, customer: str) -> None:
        self._touched[customer] = None


def running(workers: Sequence[_Worker], worker: _Worker | None) -> _Worker:
    """A worker of these, the newest if none is named; ValueError for one that does not run."""
    if not workers:
        raise ValueError("no worker runs")
    if worker is None:
        return workers[-1]
    if worker not in workers:
        names = ", ".join(each.name for each in workers)
        raise ValueError(f"{worker.name} does not run; there are {names}")
    return worker


def _waves(roles: Sequence[str], events: Sequence[OutgoingEvent]) -> Iterator[list[OutgoingEvent]]:
    """The events in waves, as a replay has them: all at once where there is but one topic."""
    topics = {event.topic for event in events}
    if len(topics) == 1 and IDENTITIES not in topics:
        yield list(events)
        return
    # The number of an event stands in the place of its offset.
    records = [
        Recorded(roles.index(e.topic), 0, number, 0, e.key, e.value, tuple(e.headers))
        for number, e in enumerate(events)
    ]
    for wave in waves(roles, records):
        yield [events[record.offset] for record in wave]
