"""The customers that a batch touches: what happens to them step by step, and what is published."""

from __future__ import annotations

from collections.abc import Mapping

from models.aggregate.fold import Effect, fold
from models.aggregate.record import (
    CustomerRecord,
    Forgotten,
    decode_forgotten,
    decode_record,
    encode_record,
    forgotten_key,
)
from models.aggregate.state import Aggregate
from models.aggregate.summary import Summary
from models.context import Context
from models.contracts import Envelope
from models.documents import customer_removed, segment_changes, value_update
from models.economics import Economics
from models.outputs import Outputs, Removed, Update
from models.scores import Evaluation, Removal, RemovalReason, Scores
from models.value import Row, value_row, values


class Customer:
    """A customer's record while a batch is worked on.

    present: whether there is a customer to value; not so before the first event, after an erasure,
    and after a merge into another. steps: what is to be published, in its order.
    """

    __slots__ = ("customer_id", "key", "present", "record", "replayed", "steps", "summary")

    def __init__(
        self, key: bytes, record: CustomerRecord, config: Economics, *, present: bool
    ) -> None:
        self.key = key
        self.customer_id = key.decode()
        self.record = record
        self.present = present
        self.summary = Summary(record.aggregate, config)
        self.steps: list[Evaluation | Removal] = []
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
        self, states: Mapping[bytes, bytes], origin: str, context: Context, outputs: Outputs
    ) -> None:
        self.states = states
        self.origin = origin
        self.context = context
        self.outputs = outputs
        self.customers: dict[bytes, Customer] = {}
        self.rows: list[Row] = []

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
        return known

    def _remembered(self, key: bytes) -> CustomerRecord:
        """The record of somebody who is not there: new, or what an erasure left."""
        left = self.states.get(forgotten_key(key, self.context.erasure_key))
        if left is None:
            return CustomerRecord()
        forgotten = decode_forgotten(left)
        return CustomerRecord(version=forgotten.version, erased_at=forgotten.erased_at)

    def knows(self, key: bytes) -> bool:
        """Whether something is stored under this key, or will be."""
        return key in self.states or key in self.customers

    def replay(self, customer: Customer) -> None:
        """Note a record that is applied already: the customer's current value is sent again.

        Its segment changes are not: they were acknowledged before the record was stored.
        """
        customer.replayed = True
        self.outputs.replayed += 1

    def evaluate(self, customer: Customer, as_of: int, offset: int) -> None:
        """Score the customer as of a time, as the next version of its record."""
        record = customer.record
        if not customer.present:
            self.outputs.new_customers += 1
            customer.present = True
        record.version += 1
        record.as_of = max(record.as_of, as_of)
        record.applied[self.origin] = offset
        self._add_row(customer)

    def remove(
        self, customer: Customer, reason: RemovalReason, into: str, as_of: int, offset: int
    ) -> None:
        """Let a customer go, as the next version of the record."""
        record = customer.record
        record.version += 1
        customer.present = False
        cause = (self.origin, offset)
        customer.steps.append(Removal(record.version, as_of, cause, reason, into))

    def remember_erasure(self, customer: Customer) -> None:
        """Store that the customer was erased, without the id."""
        record = customer.record
        key = forgotten_key(customer.key, self.context.erasure_key)
        self.outputs.records[key] = encode_record(Forgotten(record.erased_at, record.version))

    def _add_row(self, customer: Customer) -> None:
        record = customer.record
        cause = (self.origin, record.applied[self.origin])
        customer.steps.append(Evaluation(len(self.rows), record.version, record.as_of, cause))
        self.rows.append(customer.value_row(self.context.economics))

    def finish(self) -> None:
        """Score all rows at once, and write records, updates and segment changes."""
        for customer in self.customers.values():
            if customer.replayed and not customer.steps:
                self._again(customer)
        if not self.rows and not any(customer.steps for customer in self.customers.values()):
            return
        context = self.context
        scored = values(self.rows, context.parameters, context.economics)
        scores = Scores(scored, context.dimensions, context.parameters)
        for customer in self.customers.values():
            if customer.steps:
                self._publish(customer, scores)

    def _again(self, customer: Customer) -> None:
        if customer.present:
            self._add_row(customer)
        else:
            record = customer.record
            self.outputs.removed.append(Removed(customer.customer_id, customer.key, record.version))

    def _publish(self, customer: Customer, scores: Scores) -> None:
        record, outputs = customer.record, self.outputs
        segments = record.segments
        row = 0
        for step in customer.steps:
            if isinstance(step, Removal):
                notice = customer_removed(customer.customer_id, step)
                outputs.segment_changes.append((customer.key, notice))
                segments.clear()
                record.clv = None
                continue
            for document in segment_changes(customer.customer_id, record, step, scores):
                outputs.segment_changes.append((customer.key, document))
            row = step.row
            for dimension, names in scores.segments:
                segments[dimension.name] = names[row]
            record.clv = scores.clv[row]
        if not customer.present:
            self._store_absence(customer)
            return
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

    def _store_absence(self, customer: Customer) -> None:
        record, records = customer.record, self.outputs.records
        records[customer.key] = encode_record(record) if record.into else None
        self.outputs.removed.append(Removed(customer.customer_id, customer.key, record.version))
