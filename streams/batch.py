"""The same core on a file, with no broker: events in, final values out."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, time
from itertools import islice
from typing import NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from models.aggregate.record import customers
from models.aggregate.summary import Summary
from models.context import Context
from models.contracts.parameters import Parameters
from models.economics import Economics
from models.engine import REROUTED, advance, exchange, process
from models.fitting import Fitted, TimeUnit, fit_population
from models.outputs import Outputs, Update
from models.routing import route_header, without_route
from streams.files.outgoing import OutgoingEvent

CHUNK = 5_000
"""Events that are folded at once, as a worker reads them."""

SWEEP = 2_000
"""Customers that are scored at once."""

CLOCK = "clock/0"
"""Origin of the one passing of time at the end."""

IDENTITY = "identity"
"""Origin of what merged and erased customers tell each other."""

Item = TypeVar("Item")
Progress = Callable[[int], None]
Message = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]
"""Key, value and headers."""


class BatchRecord(NamedTuple):
    """What a Kafka record would be, had the event been published."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


@dataclass(slots=True)
class BatchResult:
    """What came of the events.

    `accepted + duplicates + forgotten + dead letters + left_out` is the number of events given.
    states: encoded
    customer records by key. updates: the last update of every customer, in the order of their first
    events. left_out: events later than the as-of time. refusals: the first refusal of each reason,
    in words.
    """

    states: dict[bytes, bytes] = field(default_factory=dict)
    updates: list[Update] = field(default_factory=list)
    accepted: int = 0
    duplicates: int = 0
    forgotten: int = 0
    left_out: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    refusals: dict[str, str] = field(default_factory=dict)

    @property
    def events(self) -> int:
        """How many events were given."""
        known = self.accepted + self.duplicates + self.forgotten
        return known + self.dead_letters.total() + self.left_out

    def add(self, outputs: Outputs) -> None:
        """Take the records and counts of one call of the engine."""
        self.store(outputs)
        self.accepted += outputs.accepted
        self.duplicates += outputs.duplicates
        self.forgotten += outputs.forgotten
        self.dead_letters += outputs.reasons()
        for letter in outputs.dead_letters:
            self.refusals.setdefault(letter.refused.reason.value, letter.refused.detail)

    def store(self, outputs: Outputs) -> None:
        """Take the records alone."""
        for key, record in outputs.records.items():
            if record is None:
                self.states.pop(key, None)
            else:
                self.states[key] = record


def score_events(
    events: Iterable[OutgoingEvent],
    context: Context,
    as_of: datetime,
    progress: Progress | None = None,
) -> BatchResult:
    """Value every customer of the events as of a time.

    The updates are those that the stream publishes after the same events and a tick at `as_of`,
    apart from their versions and ids. Events later than `as_of` are left out, and counted.
    progress: called with the number of events done since its last call.

    Raises
    ------
    ValueError
        when `as_of` has no offset from UTC.
    """
    result = fold_events(events, context, as_of, progress)
    result.updates = score_states(result.states, context, as_of)
    return result


def fold_events(
    events: Iterable[OutgoingEvent],
    context: Context,
    as_of: datetime,
    progress: Progress | None = None,
) -> BatchResult:
    """Fold the events up to `as_of` into states, as `score_events` does, without the updates."""
    folding = _Folding(context, _milliseconds(as_of))
    for chunk in _chunks(events, CHUNK):
        by_topic: defaultdict[str, list[OutgoingEvent]] = defaultdict(list)
        for event in chunk:
            if event.time > as_of:
                folding.result.left_out += 1
            else:
                by_topic[event.topic].append(event)
        for topic, kept in by_topic.items():
            folding.fold(topic, [(event.key, event.value, event.headers) for event in kept])
        if progress is not None:
            progress(len(chunk))
    return folding.result


class _Folding:
    """Feeds the engine: every logical topic is one partition with offsets of its own."""

    def __init__(self, context: Context, now: int) -> None:
        # What is scored on the way shows nowhere in the end: the simple formula is the quickest.
        self._context = Context(context.economics, None, context.dimensions, context.erasure_key)
        self._now = now
        self._offsets: Counter[str] = Counter()
        self.result = BatchResult()

    def fold(self, topic: str, messages: Sequence[Message]) -> None:
        """Fold messages of one topic; what is under a wrong key comes again under the right one."""
        records = [BatchRecord(self._next(topic), self._now, *message) for message in messages]
        while records:
            outputs = process(
                self.result.states,
                f"{topic}/0",
                records,
                self._context,
                now=self._now,
                role=topic,
            )
            records = records[outputs.taken :]
            self._take(outputs)
            self.fold(REROUTED, list(_sent_on(outputs)))

    def _take(self, outputs: Outputs) -> None:
        self.result.add(outputs)
        messages = [*outputs.messages, *outputs.handovers]
        while messages:
            records = [
                BatchRecord(self._next(IDENTITY), self._now, key, value, [])
                for key, value in messages
            ]
            messages = []
            while records:
                outputs = exchange(self.result.states, f"{IDENTITY}/0", records, self._context)
                records = records[outputs.taken :]
                self.result.store(outputs)
                messages += [*outputs.messages, *outputs.handovers]

    def _next(self, topic: str) -> int:
        self._offsets[topic] += 1
        return self._offsets[topic]


def _sent_on(outputs: Outputs) -> Iterator[Message]:
    for key, record, route in outputs.rerouted:
        yield key, record.value, [*without_route(record.headers), route_header(route)]


def score_states(states: Mapping[bytes, bytes], context: Context, as_of: datetime) -> list[Update]:
    """Value the customers of these states as of a time; the states stay as they are."""
    now = _milliseconds(as_of)
    updates: list[Update] = []
    for keys in _chunks(states, SWEEP):
        updates += advance(states, keys, CLOCK, 0, context, as_of=now).updates
    return updates


def fit_events(
    events: Iterable[OutgoingEvent],
    until: datetime,
    time_unit: TimeUnit,
    economics: Economics,
    progress: Progress | None = None,
) -> Parameters:
    """Fit parameters on the events up to and including the day of `until`, in the shop's zone.

    Errors: those of `models.fitting.fit_population`.
    """
    last = end_of_day(until, economics)
    result = fold_events(events, Context(economics), last, progress)
    return fit_states(result.states, until, time_unit, economics).parameters


def fit_states(
    states: Mapping[bytes, bytes], until: datetime, time_unit: TimeUnit, economics: Economics
) -> Fitted:
    """Fit parameters on states that hold nothing later than the day of `until`."""
    summaries = (Summary(record.aggregate, economics) for _, record in customers(states))
    return fit_population(summaries, until=until, time_unit=time_unit, economics=economics)


def end_of_day(moment: datetime, economics: Economics) -> datetime:
    """Return the last millisecond of the day of a moment in the shop's time zone."""
    day = moment.astimezone(ZoneInfo(economics.timezone)).date()
    return datetime.combine(day, time(23, 59, 59, 999_000), ZoneInfo(economics.timezone))


def _milliseconds(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise ValueError(f"the as-of time {moment.isoformat()} needs an offset from UTC")
    return round(moment.timestamp() * 1000)


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
