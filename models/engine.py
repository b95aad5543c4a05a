"""The heart: (states, events, parameters, now) -> (states, outputs).

`process` folds a batch of records of one topic-partition into the customers' records; `advance`
lets time pass. Both are pure: they read no clock, and the same records give the same outputs
however they are cut into batches.

Every applied event is an evaluation of its own: the customer is scored as of the event's time, so
that segment changes do not depend on where a batch ends. Only the last evaluation of a customer in
a batch is published as a value update.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from models.acceptance import check_acceptable, too_old
from models.aggregate.fold import Effect, fold
from models.aggregate.record import CustomerRecord, decode_record, encode_record
from models.aggregate.summary import Summary
from models.context import Context
from models.contracts import Envelope, Refused, customer_of, decode
from models.documents import segment_changes, value_update
from models.economics import Economics
from models.scores import Evaluation, Scores
from models.value import Row, value_row, values


class Record(Protocol):
    """What the engine needs of a Kafka record."""

    @property
    def offset(self) -> int:
        """Offset within its topic-partition."""

    @property
    def timestamp(self) -> int:
        """Milliseconds since 1970, as set by the publisher or the broker."""

    @property
    def key(self) -> bytes | None:
        """The customer id in UTF-8, or None."""

    @property
    def value(self) -> bytes | None:
        """The event, or None."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Kafka headers."""


class Update(NamedTuple):
    """A customer's current value, ready to be published and cached."""

    customer_id: str
    key: bytes
    version: int
    clv: float
    segments: tuple[tuple[str, str], ...]
    document: bytes


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that cannot be accepted, and why."""

    record: Record
    refused: Refused


@dataclass(slots=True)
class Outputs:
    """What came of a batch: records to store, documents to publish, and counts.

    `accepted + duplicates + replayed + rekeyed + dead letters` is the number of records.
    """

    records: dict[bytes, bytes] = field(default_factory=dict)
    updates: list[Update] = field(default_factory=list)
    segment_changes: list[tuple[bytes, bytes]] = field(default_factory=list)
    rekeyed: list[tuple[bytes, Record]] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    accepted: int = 0
    duplicates: int = 0
    replayed: int = 0
    new_customers: int = 0

    def reasons(self) -> Counter[str]:
        """Dead letters by reason."""
        return Counter(letter.refused.reason.value for letter in self.dead_letters)


class _Customer:
    """A customer's record while a batch is worked on."""

    __slots__ = ("customer_id", "evaluations", "key", "record", "replayed", "summary")

    def __init__(self, key: bytes, stored: bytes | None, config: Economics) -> None:
        self.key = key
        self.customer_id = key.decode()
        self.record = CustomerRecord() if stored is None else decode_record(stored)
        self.summary = Summary(self.record.aggregate, config)
        self.evaluations: list[Evaluation] = []
        self.replayed = False

    def apply(self, event: Envelope, occurred: int, config: Economics) -> Effect:
        """Fold an event, and keep the summary current."""
        state = self.record.aggregate
        effect = fold(state, event, config, occurred)
        if effect is Effect.APPENDED:
            self.summary.add_order(state.orders[next(reversed(state.orders))])
        elif effect is Effect.APPLIED:
            self.summary = Summary(state, config)
        return effect

    def value_row(self, config: Economics) -> Row:
        """What the value is computed from, as of the record's time."""
        return value_row(self.summary, config.day(self.record.as_of), config)


class _Batch:
    """The customers touched by a batch, and the rows to score."""

    def __init__(
        self, states: Mapping[bytes, bytes], origin: str, context: Context, outputs: Outputs
    ) -> None:
        self.states = states
        self.origin = origin
        self.context = context
        self.outputs = outputs
        self.customers: dict[bytes, _Customer] = {}
        self.rows: list[Row] = []

    def customer(self, key: bytes) -> _Customer:
        """The customer of a key, read from its stored record at first."""
        known = self.customers.get(key)
        if known is None:
            stored = self.states.get(key)
            known = self.customers[key] = _Customer(key, stored, self.context.economics)
        return known

    def replay(self, customer: _Customer) -> None:
        """Note a record that is applied already: the customer's current value is sent again.

        Its segment changes are not: they were acknowledged before the record was stored.
        """
        customer.replayed = True
        self.outputs.replayed += 1

    def evaluate(self, customer: _Customer, as_of: int, offset: int) -> None:
        """Score the customer as of a time, as the next version of its record."""
        record = customer.record
        if record.version == 0:
            self.outputs.new_customers += 1
        record.version += 1
        record.as_of = max(record.as_of, as_of)
        record.applied[self.origin] = offset
        self._add_row(customer)

    def _add_row(self, customer: _Customer) -> None:
        record = customer.record
        cause = (self.origin, record.applied[self.origin])
        customer.evaluations.append(Evaluation(len(self.rows), record.version, record.as_of, cause))
        self.rows.append(customer.value_row(self.context.economics))

    def finish(self) -> None:
        """Score all rows at once, and write records, updates and segment changes."""
        for customer in self.customers.values():
            if customer.replayed and not customer.evaluations:
                self._add_row(customer)
        if not self.rows:
            return
        context = self.context
        scored = values(self.rows, context.parameters, context.economics)
        scores = Scores(scored, context.dimensions, context.parameters)
        for customer in self.customers.values():
            if customer.evaluations:
                self._publish(customer, scores)

    def _publish(self, customer: _Customer, scores: Scores) -> None:
        record, outputs = customer.record, self.outputs
        segments = record.segments
        for evaluation in customer.evaluations:
            for document in segment_changes(customer.customer_id, record, evaluation, scores):
                outputs.segment_changes.append((customer.key, document))
            row = evaluation.row
            for dimension, names in scores.segments:
                segments[dimension.name] = names[row]
            record.clv = scores.clv[row]
        outputs.records[customer.key] = encode_record(record)
        outputs.updates.append(
            Update(
                customer.customer_id,
                customer.key,
                record.version,
                scores.clv[row],
                tuple(segments.items()),
                value_update(
                    customer.customer_id,
                    record,
                    customer.summary,
                    scores.published[row],
                    self.context,
                ),
            )
        )


def process(
    states: Mapping[bytes, bytes],
    origin: str,
    records: Iterable[Record],
    context: Context,
    *,
    now: int,
    at_home: Callable[[bytes], bool] = lambda _key: True,
) -> Outputs:
    """Fold the records of one topic-partition into the states of its customers.

    states: encoded customer records by key; it is read, never written: the new records are in
    the outputs. origin: "topic/partition" of the records. now: milliseconds since 1970; events
    that claim to be later than a day after it, or after their arrival, are refused. at_home: says
    of a new customer's key whether it belongs to this topic-partition; publishers may partition by
    another rule, and a customer's events must all be in one place.

    Raises
    ------
    UnreadableRecord
        when a stored record was written by a newer version, or is damaged.
    """
    outputs = Outputs()
    batch = _Batch(states, origin, context, outputs)
    config = context.economics
    for record in records:
        try:
            event = decode(record.key, record.value, record.headers)
            key = customer_of(event, record.key).encode()
            if key != record.key or (
                key not in states and key not in batch.customers and not at_home(key)
            ):
                outputs.rekeyed.append((key, record))
                continue
            occurred = check_acceptable(event, record.timestamp, now, config)
            customer = batch.customer(key)
            if record.offset <= customer.record.applied.get(origin, -1):
                batch.replay(customer)
                continue
            effect = customer.apply(event, occurred, config)
            if effect is Effect.TOO_OLD:
                raise too_old(event, config)
        except Refused as refused:
            outputs.dead_letters.append(DeadLetter(record, refused))
            continue
        if effect is Effect.DUPLICATE:
            outputs.duplicates += 1
            continue
        outputs.accepted += 1
        batch.evaluate(customer, occurred, record.offset)
    batch.finish()
    return outputs


def advance(
    states: Mapping[bytes, bytes],
    keys: Iterable[bytes],
    origin: str,
    offset: int,
    context: Context,
    *,
    as_of: int,
) -> Outputs:
    """Let time pass for these customers: score them all as of a time, and publish.

    as_of: milliseconds since 1970; a customer never goes back before what it was scored at.
    offset: of the record in `origin` that says so; a customer that has seen it is sent again.
    """
    outputs = Outputs()
    batch = _Batch(states, origin, context, outputs)
    for key in keys:
        customer = batch.customer(key)
        if offset <= customer.record.applied.get(origin, -1):
            batch.replay(customer)
        else:
            batch.evaluate(customer, as_of, offset)
    batch.finish()
    return outputs
