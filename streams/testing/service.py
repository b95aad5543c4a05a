"""What a test does with a service, wherever it runs: publish, let time pass, read."""

from __future__ import annotations

import abc
from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import lru_cache
from operator import attrgetter

from models.aggregate.record import CustomerRecord, decode_record
from models.contracts.clock import Tick
from models.contracts.parameters import Parameters
from models.events.kinds import IDENTITIES
from models.segments import Dimension, Rules
from streams.files.outgoing import OutgoingEvent
from streams.kafka.partitions import TopicPartition, home_partition
from streams.registry.records import rules_key
from streams.replay.barriers import between_barriers
from streams.settings import Settings
from streams.simulation.clock import Clock, Moment
from streams.simulation.parameters import check_currency
from streams.simulation.service import partition_count
from streams.testing.history import history, shown
from streams.testing.reading import DeadLetters, NotPublished, Removals, SegmentChanges, Updates
from streams.testing.usage import FaultUnused, Usage, awaited
from streams.testing.writing import Customers, Orders, Support, Writer
from streams.topics import changelog_topic
from streams.transport.memory.broker import OutgoingRecord, Record, check_record

SOURCE = "/test"
"""The source of events that name no other."""


class Service(abc.ABC):
    """A service under test: what goes in, what comes out, and its clock.

    Everything that reads waits first until the service has settled: all input consumed, its outputs
    acknowledged, its offsets committed.
    """

    def __init__(self, settings: Settings, clock: Clock) -> None:
        self.settings = settings
        self.partitions = settings.partitions
        self.clock = clock
        self._usage = Usage(self)
        self._published: dict[str, None] = {}
        self._last_topics: set[str] = set()
        self._keyless = 0
        self._home_of = lru_cache(maxsize=None)(home_partition)
        writer = Writer(self.clock, settings.economics.currency, SOURCE, self._send)
        self.orders = Orders(writer, self._usage)
        self.support = Support(writer, self._usage)
        self.customers = Customers(writer, self._usage)
        topics = settings.topics
        self.updates = Updates(lambda: self.topic(topics.updates), self._usage)
        self.dead_letters = DeadLetters(lambda: self.topic(topics.dead_letters), self._usage)
        changes = (lambda: self.topic(topics.segment_changes), self._usage)
        self.segment_changes = SegmentChanges(*changes)
        self.removals = Removals(*changes)

    # What goes in.

    @awaited
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

        Records without a key go to the partitions in turn. Errors: ValueError for an unknown
        topic or partition; TypeError for what a producer cannot send.
        """
        partitions = partition_count(self.settings, topic)
        if partition is not None and partition not in range(partitions):
            raise ValueError(f"{topic} has the partitions 0 to {partitions - 1}, not {partition}")
        key = key.encode() if isinstance(key, str) else key
        check_record(key, value, headers)
        await self._in_turn({topic})
        if key is not None:
            self._usage.touch(shown(key))
        tp = TopicPartition(topic, self._home(key, partitions) if partition is None else partition)
        offset = await self._append(tp, [(key, value, headers)])
        return Record(topic, tp.partition, offset, key, value, tuple(headers), self.clock.now())

    @awaited
    async def publish_events(self, events: Iterable[OutgoingEvent]) -> int:
        """Publish many events in order, each customer's across topics too; return their number."""
        names = self._names()
        given = list(events)
        for group in _in_groups(given):
            waiting: defaultdict[TopicPartition, list[OutgoingRecord]] = defaultdict(list)
            for topic, key, value, headers, *_ in group:
                if key is not None:
                    self._published[shown(key)] = None
                home = self._home(key, self.partitions)
                waiting[TopicPartition(names[topic], home)].append((key, value, headers))
            # The clock is never behind what is published.
            self.clock.follow(max(event.time for event in group))
            await self._in_turn({tp.topic for tp in waiting})
            for tp, outgoing in waiting.items():
                await self._append(tp, outgoing)
        return len(given)

    @awaited
    async def advance(
        self,
        *,
        days: float = 0,
        hours: float = 0,
        minutes: float = 0,
        to: Moment | None = None,
    ) -> None:
        """Let time pass for everybody: move the clock, and publish a tick, as `clv tick` does.

        A day is 24 hours, also where summer time begins or ends. Waits until everything published
        before is processed, and then the tick. Errors: ValueError for a time in the past, or for
        `to` together with days, hours or minutes.
        """
        await self.settled()
        self.clock.move(timedelta(days=days, hours=hours, minutes=minutes), to)
        await self._tick()

    @awaited
    async def use_parameters(self, parameters: Parameters, *, revalue: bool = False) -> None:
        """Publish fitted parameters; they apply to what is published from now on.

        revalue: also publish a tick that asks for them, as `clv fit --publish` does, so that all
        customers are scored again as of now. Errors: ValueError for another currency than the
        shop's.
        """
        check_currency(parameters, self.settings.economics.currency)
        await self.settled()
        value = parameters.model_dump_json().encode()
        await self._append(
            TopicPartition(self.settings.topics.models, 0),
            [(parameters.version.encode(), value, ())],
        )
        if revalue:
            await self._tick(parameters.version)

    @awaited
    async def use_rules(self, dimensions: Sequence[Dimension], version: str = "rules-2") -> Rules:
        """Put rules of segments in force from now, as `clv segments apply` does; return them."""
        await self.settled()
        rules = self._rules(dimensions, version)
        await self._append(
            TopicPartition(self.settings.topics.models, 0),
            [(rules_key(version), rules.model_dump_json().encode(), ())],
        )
        await self._tick(rules=version)
        return rules

    def _rules(self, dimensions: Sequence[Dimension], version: str) -> Rules:
        return Rules(version=version, holds_from=self.clock.time, dimensions=tuple(dimensions))

    # What comes out.

    @awaited
    async def topic(self, name: str) -> list[Record]:
        """All records of a topic by partition, once settled; ValueError for an unknown topic."""
        partition_count(self.settings, name)
        await self.settled()
        return await self._records(name)

    @awaited
    async def customer(self, customer: str) -> CustomerRecord:
        """A customer's stored record, as the changelog has it; NotPublished where there is none."""
        self._usage.touch(customer)
        key = customer.encode()
        stored: bytes | None = None
        for record in await self.topic(changelog_topic(self.settings)):
            if record.key == key:
                stored = record.value
        if stored is None:
            raise NotPublished(f"there is no record of {customer!r}")
        return decode_record(stored, key)

    def history(self, *customers: str) -> str:
        """Describe what happened to these customers, or to all that the test touched."""
        # Of many at once, after those that the test names.
        touched = list(self._usage.touched | self._published)
        return history(self._records_now, self.settings, self.partitions, customers or touched)

    def check_end(self) -> None:
        """Raise NotAwaited or FaultUnused for what a test has left undone, and forget it."""
        __tracebackhide__ = True
        not_awaited, unused = self._usage.take_not_awaited(), self._take_unused_fault()
        if error := not_awaited or unused:
            raise error

    def forget_customers(self) -> None:
        """Forget which customers were touched: the next test begins."""
        self._usage.touched.clear()
        self._published.clear()

    # What is different where it runs.

    @abc.abstractmethod
    async def settled(self) -> None:
        """Wait until everything published is processed, and what follows from it.

        Raises WorkerCrashed when a worker has crashed; NotSettled when records wait and there is no
        progress.
        """

    @abc.abstractmethod
    async def _append(self, tp: TopicPartition, records: Sequence[OutgoingRecord]) -> int:
        """Write records with the clock's time; returns the offset of the first."""

    @abc.abstractmethod
    async def _records(self, topic: str) -> list[Record]:
        """All records of a topic, partition after partition."""

    @abc.abstractmethod
    def _records_now(self, topic: str) -> Sequence[Record]:
        """The same for a report, without waiting."""

    @property
    @abc.abstractmethod
    def _can_settle(self) -> bool:
        """Whether the service can settle: a worker runs, and no fault holds records up."""

    def _take_unused_fault(self) -> FaultUnused | None:
        """Return the error for a fault that was asked for and never happened, and forget it."""
        return None

    async def _tick(self, parameters: str | None = None, rules: str | None = None) -> None:
        """Publish a tick to every partition, and wait until it is processed."""
        tick = Tick(as_of=self.clock.time, parameters=parameters, rules=rules)
        value = tick.model_dump_json(exclude_none=True).encode()
        for partition in range(self.partitions):
            await self._append(
                TopicPartition(self.settings.topics.clock, partition), [(None, value, ())]
            )
        self._last_topics = {self.settings.topics.clock}
        await self.settled()

    async def _send(self, event: OutgoingEvent) -> None:
        self.clock.follow(event.time)
        await self.publish(self._names()[event.topic], event.key, event.value, event.headers)

    async def _in_turn(self, topics: set[str]) -> None:
        """Wait for earlier records on other topics: Kafka keeps no order across topics."""
        if self._last_topics and len(self._last_topics | topics) > 1 and self._can_settle:
            await self.settled()
        self._last_topics = topics

    def _names(self) -> dict[str, str]:
        topics = self.settings.topics
        return {topics.role(name): name for name in topics.inputs}

    def _home(self, key: bytes | None, partitions: int) -> int:
        if key is None:
            self._keyless += 1
            return self._keyless % partitions
        return self._home_of(key, partitions)


def _in_groups(events: Sequence[OutgoingEvent]) -> list[list[OutgoingEvent]]:
    """The events in groups, as in a replay; one group if all are of one topic."""
    topics = {event.topic for event in events}
    if len(topics) == 1 and IDENTITIES not in topics:
        return [list(events)]
    return between_barriers(events, attrgetter("topic"))
