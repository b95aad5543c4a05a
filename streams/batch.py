"""Fold, score and fit events of a file with the engine, without a broker."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from typing import NamedTuple, TypeVar
from zoneinfo import ZoneInfo

from models import calendar
from models.aggregate.record import CustomerRecord, customers
from models.aggregate.summary import Summary
from models.choosing import AUTO, choose
from models.context import Context
from models.economics import Economics
from models.engine import REROUTED, advance, exchange, process
from models.fitting import DEFAULT_MODEL, Fitted, TimeUnit, fit_population
from models.outputs import CurrentValue, Outputs
from models.population import Population
from models.routing import route_header, without_route
from models.segments import NO_RULES
from models.totals import TotalValue, total_value
from models.value import columns, value_row
from streams.files.outgoing import OutgoingEvent

CHUNK = 5_000
"""Events that are folded at once, as in a worker."""

SWEEP = 2_000
"""Customers that are scored at once."""

CLOCK = "clock/0"
"""Origin of the single tick at the end."""

NEVER_APPLIED = 2**62
"""Offset of that tick: greater than what a worker has applied, whatever its topics' names are."""

IDENTITY = "identity"
"""Origin of the messages of merged and erased customers."""

Item = TypeVar("Item")
Progress = Callable[[int], None]
Message = tuple[int, bytes | None, bytes | None, list[tuple[str, bytes]]]
"""Timestamp, key, value and headers."""


class BatchRecord(NamedTuple):
    """The Kafka record of an event, as if it had been published."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: list[tuple[str, bytes]]


@dataclass(slots=True)
class BatchResult:
    """The result of folding events.

    `accepted + duplicates + forgotten + dead letters + left_out` is the number of events given.
    states: encoded customer records by key. updates: the last update of every customer, in the
    order of their first events. left_out: events that happened too late to count. notices: by
    reason, about events that were accepted or are duplicates. refusals: the first refusal or notice
    of each reason, in words.
    """

    states: dict[bytes, bytes] = field(default_factory=dict)
    updates: list[CurrentValue] = field(default_factory=list)
    accepted: int = 0
    duplicates: int = 0
    forgotten: int = 0
    left_out: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    notices: Counter[str] = field(default_factory=Counter)
    refusals: dict[str, str] = field(default_factory=dict)

    @property
    def events(self) -> int:
        """The number of events given."""
        known = self.accepted + self.duplicates + self.forgotten
        return known + self.dead_letters.total() + self.left_out

    def add(self, outputs: Outputs) -> None:
        """Add the records and counts of one call of the engine."""
        self.store(outputs)
        self.accepted += outputs.accepted
        self.duplicates += outputs.duplicates
        self.forgotten += outputs.forgotten
        self.dead_letters += outputs.reasons()
        self.notices += outputs.notice_reasons()
        for letter in (*outputs.dead_letters, *outputs.notices):
            self.refusals.setdefault(letter.refused.reason.value, letter.refused.detail)

    def store(self, outputs: Outputs) -> None:
        """Add the records only."""
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
    """Score every customer of the events as of a time.

    The updates are those that the stream publishes after the same events and a tick at `as_of`,
    except for versions and ids. Events at or after `as_of` are left out, and counted.
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
    before: datetime,
    progress: Progress | None = None,
    now: datetime | None = None,
) -> BatchResult:
    """Fold the events before a time into states, as `score_events` does, without the updates.

    now: events dated more than a day later are refused; None: `before`.
    """
    latest = before if now is None else min(before, now)
    folding = _Folding(context, _milliseconds(latest))
    for chunk in _chunks(events, CHUNK):
        kept = [event for event in chunk if event.time < before]
        folding.result.left_out += len(chunk) - len(kept)
        folding.fold_events(kept)
        if progress is not None:
            progress(len(chunk))
    return folding.result


def fold_in_steps(
    events: Iterable[OutgoingEvent],
    context: Context,
    cuts: Sequence[datetime],
    progress: Progress | None = None,
) -> Iterator[BatchResult]:
    """Fold events in order of time, and yield the result at each cut; it is the same one each time.

    cuts: in order of time; events at or after a cut are not yet folded when it is yielded. Events
    at or after the last one are left out, and counted.
    """
    folding = _Folding(context, _milliseconds(cuts[-1]))
    waiting = sorted(events, key=lambda event: event.time)
    begin = 0
    for cut in cuts:
        end = bisect_left(waiting, cut, begin, key=lambda event: event.time)
        for chunk in _chunks(islice(waiting, begin, end), CHUNK):
            folding.fold_events(chunk)
            if progress is not None:
                progress(len(chunk))
        begin = end
        if cut == cuts[-1]:
            folding.result.left_out = len(waiting) - end
        yield folding.result


class _Folding:
    """Feeds the engine: every logical topic is one partition with its own offsets."""

    def __init__(self, context: Context, now: int) -> None:
        # Scores and segments on the way are not used, and must not decide about later ones.
        self._context = Context(context.economics, None, NO_RULES, context.erasure_key)
        self._now = now
        self._offsets: Counter[str] = Counter()
        self.result = BatchResult()

    def fold_events(self, events: Iterable[OutgoingEvent]) -> None:
        """Fold events, topic by topic; what was not published arrives now."""
        by_topic: defaultdict[str, list[Message]] = defaultdict(list)
        for event in events:
            arrived = self._now if event.arrived is None else event.arrived
            by_topic[event.topic].append((arrived, event.key, event.value, event.headers))
        for topic, messages in by_topic.items():
            self.fold(topic, messages)

    def fold(self, topic: str, messages: Sequence[Message]) -> None:
        """Fold messages of one topic; reroute misrouted ones to their customer's key."""
        records = [BatchRecord(self._next(topic), *message) for message in messages]
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
        headers = [*without_route(record.headers), route_header(route)]
        yield record.timestamp, key, record.value, headers


def score_states(
    states: Mapping[bytes, bytes], context: Context, as_of: datetime
) -> list[CurrentValue]:
    """Score the customers of these states as of a time; the states are not changed."""
    now = _milliseconds(as_of)
    updates: list[CurrentValue] = []
    for keys in _chunks(states, SWEEP):
        updates += advance(states, keys, CLOCK, NEVER_APPLIED, context, as_of=now).updates
    return updates


def total_of(records: Iterable[CustomerRecord], context: Context, as_of: datetime) -> TotalValue:
    """Return what customers are expected to buy and to be worth together.

    records: of customers, without merged ones.
    """
    economics, now = context.economics, _milliseconds(as_of)
    today = economics.day(now)
    rows = [value_row(Summary(record.aggregate, economics), today, economics) for record in records]
    return total_value(columns(rows), context.model_at(now), economics)


def fit_states(
    states: Mapping[bytes, bytes],
    until: datetime,
    time_unit: TimeUnit,
    economics: Economics,
    model: str = DEFAULT_MODEL,
    *,
    prior: bool = True,
    leave_out_later: bool = False,
) -> Fitted:
    """Fit parameters on states that hold nothing later than the day of `until`.

    model: one of purchases, or `AUTO`: the one that predicts best what it has not seen; the first
    note says why. prior: see `fit_columns`. leave_out_later: customers with a later order are left
    out, instead of refused by ValueError.
    """
    last = economics.day(_milliseconds(until))
    summaries: list[Summary] = []
    notes: tuple[str, ...] = ()
    population = Population(economics)
    for key, record in customers(states):
        summary = Summary(record.aggregate, economics)
        if summary.last_day <= last or not leave_out_later:
            summaries.append(summary)
            population.put(key, record.aggregate)
    if model == AUTO:
        choice = choose(population, last, DEFAULT_MODEL)
        model, notes = choice.model, (choice.why,)
    fitted = fit_population(
        summaries,
        until=until,
        time_unit=time_unit,
        economics=economics,
        model=model,
        prior=prior,
        past=population.past(last),
        halves=population.halves(last),
    )
    return Fitted(fitted.parameters, (*notes, *fitted.notes))


def end_of_day(moment: datetime, economics: Economics) -> datetime:
    """Return the first moment after the day of a moment in the shop's time zone."""
    zone = ZoneInfo(economics.timezone)
    return calendar.end_of_day(moment.astimezone(zone).date(), zone)


def _milliseconds(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise ValueError(f"the as-of time {moment.isoformat()} needs an offset from UTC")
    return calendar.milliseconds(moment)


def _chunks(items: Iterable[Item], size: int) -> Iterator[list[Item]]:
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
