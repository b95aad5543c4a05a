"""The customers that a batch touches: what happens to them step by step, and what is published."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import Enum
from typing import Final, NamedTuple

import msgspec

from models.aggregate.fold import Effect, fold
from models.aggregate.record import (
    Change,
    CustomerRecord,
    Evidence,
    Forgotten,
    Notice,
    decode_forgotten,
    decode_record,
    encode_record,
    forgotten_key,
    former_key,
)
from models.aggregate.state import Aggregate
from models.aggregate.summary import Summary
from models.context import Context
from models.contracts import Envelope
from models.documents import notice_documents, value_update
from models.economics import Economics
from models.outputs import Outputs, Removed, Update
from models.routing import Route
from models.scores import Evaluation, Removal, RemovalReason, Resend, Scores
from models.segments import Dimension
from models.value import Row, value_row, values


class Fate(Enum):
    """What became of the notices that a stored record led to.

    told: they have certainly arrived. under way: they are being sent now. unknown: who was to send
    them may have died over it.
    """

    TOLD = "told"
    UNDER_WAY = "under way"
    UNKNOWN = "unknown"


_NOTICE_BYTES: Final = 320
"""A notice without its changes: five numbers, and an origin of up to 256 bytes."""

Fates = Callable[[str, int], Fate]
"""The fate of what the record at an offset of a topic-partition led to."""


class Position(NamedTuple):
    """Where a record is: on which lane (see `models.routing`), and in the batch's partition."""

    lane: str
    offset: int
    """Of the record as it was published: what decides whether it was applied already."""
    here: int
    """Of the record in the partition that the batch is of."""
    route: Route | None = None
    backfill: bool = False
    """Whether it was published as history."""


Told = tuple[Notice, tuple[Evidence, ...]]
"""A notice with the evidence of each of its changes."""


OUTBOX_BYTES: Final = 200 * 1024
"""What may be pending of a customer before a batch has to wait.

After a crash each of the eight topics may have left so much in a record, which with the aggregate
and the merged customers must fit the changelog's 4 MiB.
"""


def most_pending(dimensions: tuple[Dimension, ...]) -> int:
    """How many notices of one customer may be pending; there is always room for one."""
    largest = _NOTICE_BYTES + sum(dimension.notice_bytes for dimension in dimensions)
    return max(OUTBOX_BYTES // largest, 1)


def all_told(_origin: str, _offset: int) -> Fate:
    """Nothing has crashed, and nothing is under way."""
    return Fate.TOLD


class Customer:
    """A customer's record while a batch is worked on.

    present: whether there is a customer to value; not so before the first event, after an erasure,
    and after a merge into another. untold: what may still have to be told of the stored record;
    stored_row: the row of the customer as stored. steps: what is to be published, in its order.
    pending: how many notices are on their way, or may come of the steps.
    """

    __slots__ = (
        "customer_id", "kept", "key", "pending", "present", "record", "resent", "steps",
        "stored_row", "summary", "untold",
    )  # fmt: skip

    def __init__(
        self, key: bytes, record: CustomerRecord, config: Economics, *, present: bool
    ) -> None:
        self.key = key
        self.customer_id = key.decode()
        self.record = record
        self.present = present
        self.summary = Summary(record.aggregate, config)
        self.untold: list[Notice] = []
        self.stored_row: int | None = None
        self.steps: list[Evaluation | Removal | Resend] = []
        self.resent = False
        self.kept = False
        self.pending = 0

    def apply(self, event: Envelope, occurred: int, config: Economics) -> Effect:
        """Fold an event, and keep the summary current."""
        state = self.record.aggregate
        effect = fold(state, event, config, occurred)
        if effect is Effect.APPENDED:
            self.summary.add_order(state.orders[next(reversed(state.orders))])
        elif effect is Effect.APPLIED:
            self.summary = Summary(state, config)
        return effect

    def take(self, state: Aggregate, config: Economics) -> None:
        """Have another aggregate from now on."""
        self.record.aggregate = state
        self.summary = Summary(state, config)

    def value_row(self, config: Economics) -> Row:
        """What the value is computed from, as of the record's time."""
        return value_row(self.summary, config.day(self.record.as_of), config)


class Batch:
    """The customers touched by a batch, and the rows to score."""

    def __init__(
        self,
        states: Mapping[bytes, bytes],
        origin: str,
        context: Context,
        outputs: Outputs,
        fates: Fates,
    ) -> None:
        self.states = states
        self.origin = origin
        self.context = context
        self.outputs = outputs
        self.fates = fates
        self.customers: dict[bytes, Customer] = {}
        self.rows: list[Row] = []
        self._most_pending = most_pending(context.dimensions)

    def customer(self, key: bytes) -> Customer:
        """The customer of a key, read from its stored record at first."""
        known = self.customers.get(key)
        if known is None:
            stored = self.states.get(key)
            record = self._remembered(key) if stored is None else decode_record(stored)
            known = self.customers[key] = Customer(
                key,
                record,
                self.context.economics,
                present=stored is not None and not record.into,
            )
            if record.outbox:
                self._see_to_outbox(known)
        return known

    def _see_to_outbox(self, customer: Customer) -> None:
        fates = [
            (notice, self.fates(notice.origin, notice.offset)) for notice in customer.record.outbox
        ]
        customer.untold = [notice for notice, fate in fates if fate is not Fate.TOLD]
        customer.pending = sum(fate is Fate.UNDER_WAY for _, fate in fates)
        if customer.untold and customer.present:
            customer.stored_row = self._add_row(customer)
        if any(fate is Fate.UNKNOWN for _, fate in fates):
            self._resend(customer)

    def _remembered(self, key: bytes) -> CustomerRecord:
        """The record of somebody who is not there: new, or what an erasure left."""
        secret = self.context.erasure_key
        left = self.states.get(forgotten_key(key, secret)) or self.states.get(
            former_key(key, secret)
        )
        if left is None:
            return CustomerRecord(version=self.context.first_version)
        forgotten = decode_forgotten(left)
        return CustomerRecord(
            version=forgotten.version,
            erased_at=forgotten.erased_at,
            applied=forgotten.applied,
            outbox=forgotten.outbox,
        )

    def knows(self, key: bytes) -> bool:
        """Whether something is stored under this key, or will be."""
        return key in self.states or key in self.customers

    def is_full(self, customer: Customer) -> bool:
        """Whether so much is pending of a customer that nothing more may be added to its record."""
        return customer.pending >= self._most_pending

    def replay(self, customer: Customer) -> None:
        """Note a record that is applied already: it was stored, but perhaps not told."""
        self.outputs.replayed += 1
        self._resend(customer)

    def _resend(self, customer: Customer) -> None:
        """Send the customer's current value again, and what was not told, before all else.

        A replay may come after a new event of the same batch: then that event's value is current.
        """
        if not customer.resent:
            customer.resent = True
            if customer.present and customer.stored_row is None and not customer.steps:
                customer.stored_row = self._add_row(customer)
            customer.steps.insert(0, Resend(customer.stored_row))

    def evaluate(self, customer: Customer, as_of: int, at: Position) -> None:
        """Score the customer as of a time, as the next version of its record."""
        record = customer.record
        if not customer.present:
            self.outputs.new_customers += 1
            customer.present = True
        record.version += 1
        record.as_of = max(record.as_of, as_of)
        record.applied[at.lane] = at.offset
        row = self._add_row(customer)
        customer.steps.append(Evaluation(row, record.version, record.as_of, at.here, at.backfill))
        customer.pending += 1

    def remove(
        self, customer: Customer, reason: RemovalReason, into: str, as_of: int, at: Position
    ) -> None:
        """Let a customer go, as the next version of the record."""
        record = customer.record
        record.version += 1
        record.applied[at.lane] = at.offset
        customer.present = False
        customer.steps.append(Removal(record.version, as_of, at.here, reason, into))
        customer.pending += 1

    def keep(self, customer: Customer, at: Position) -> None:
        """Store the record of a customer of whom there is nothing to tell."""
        customer.record.applied[at.lane] = at.offset
        customer.kept = True

    def _add_row(self, customer: Customer) -> int:
        self.rows.append(customer.value_row(self.context.economics))
        return len(self.rows) - 1

    def finish(self) -> None:
        """Score all rows at once, and write records, updates and segment changes."""
        for customer in self.customers.values():
            if customer.kept and not customer.steps:
                self.outputs.records[customer.key] = encode_record(customer.record)
        touched = [customer for customer in self.customers.values() if customer.steps]
        if not touched:
            return
        context = self.context
        scored = values(self.rows, context.parameters, context.economics)
        scores = Scores(scored, context.dimensions, context.parameters)
        for customer in touched:
            self._publish(customer, scores)

    def _publish(self, customer: Customer, scores: Scores) -> None:
        record, outputs = customer.record, self.outputs
        untold = list(_untold(customer, scores))
        fresh: list[Told] = []
        row = 0
        for step in customer.steps:
            if isinstance(step, Evaluation):
                row, record.backfill = step.row, step.backfill
                if not step.backfill and (changed := _changes(record, self.origin, step, scores)):
                    fresh.append(changed)
            elif isinstance(step, Removal):
                fresh.append((_removal(record, self.origin, step), ()))
            else:
                row = step.row or 0
                self._tell(customer, untold)
        self._tell(customer, fresh)
        if customer.kept or not all(isinstance(step, Resend) for step in customer.steps):
            record.outbox = _outbox([*untold, *fresh], record.version)
            self._store(customer)
        if customer.present:
            outputs.updates.append(self._update(customer, scores, row))
        else:
            outputs.removed.append(Removed(customer.customer_id, customer.key, record.version))

    def _tell(self, customer: Customer, notices: Iterable[Told]) -> None:
        for notice, evidence in notices:
            documents = notice_documents(customer.customer_id, notice, evidence)
            self.outputs.segment_changes.extend((customer.key, each) for each in documents)

    def _update(self, customer: Customer, scores: Scores, row: int) -> Update:
        record = customer.record
        return Update(
            customer.customer_id,
            customer.key,
            record.version,
            scores.clv[row],
            tuple(record.segments.items()),
            value_update(
                customer.customer_id, record, customer.summary, scores.published[row], self.context
            ),
        )

    def _store(self, customer: Customer) -> None:
        record, records = customer.record, self.outputs.records
        if customer.present or record.into:
            records[customer.key] = encode_record(record)
            return
        # Erased: a fingerprint of the id stays; written first, lest a crash between leaves nothing.
        left = Forgotten(record.erased_at, record.version, record.applied, record.outbox)
        records[forgotten_key(customer.key, self.context.erasure_key)] = encode_record(left)
        records[customer.key] = None


def _removal(record: CustomerRecord, origin: str, step: Removal) -> Notice:
    notice = Notice(
        step.version,
        step.as_of,
        origin,
        step.offset,
        record.clv,
        removal=step.reason,
        into=step.into,
    )
    record.segments = {}
    record.clv = None
    return notice


def _changes(record: CustomerRecord, origin: str, step: Evaluation, scores: Scores) -> Told | None:
    """What an evaluation changes, or None; the record has its segments and its value after."""
    row, segments, before = step.row, record.segments, record.clv
    after = record.clv = scores.clv[row]
    changes: list[Change] = []
    evidence: list[Evidence] = []
    for dimension, names in scores.segments:
        name, current = dimension.name, names[row]
        previous = segments.get(name)
        if current != previous:
            changes.append(Change(name, previous, current))
            evidence.append(scores.evidence(dimension, row))
            segments[name] = current
    if not changes:
        return None
    notice = Notice(step.version, step.as_of, origin, step.offset, before, after, tuple(changes))
    return notice, tuple(evidence)


def _outbox(notices: list[Told], version: int) -> tuple[Notice, ...]:
    """The notices to store, without the evidence that can be had from the record itself.

    Of an erased customer only the end is told: the rest is forgotten with them.
    """
    kept: list[Notice] = []
    for notice, evidence in notices:
        if notice.removal == "erased":
            kept.clear()
        own = notice.version == version or notice.removal
        kept.append(notice if own else msgspec.structs.replace(notice, evidence=evidence))
    return tuple(kept)


def _untold(customer: Customer, scores: Scores) -> Iterator[Told]:
    """The stored notices to be told, with the evidence of those that are of the record itself."""
    dimensions = {dimension.name: dimension for dimension, _ in scores.segments}
    for notice in customer.untold:
        evidence, row = notice.evidence, customer.stored_row
        if evidence is None and row is not None:
            evidence = tuple(
                scores.evidence(dimensions[change.dimension], row)
                if change.dimension in dimensions
                else {}
                for change in notice.changes
            )
        yield notice, evidence or ()
