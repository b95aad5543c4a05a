"""The customers that a batch touches, and the steps that it takes with each of them."""

from __future__ import annotations

from collections.abc import Mapping

from models.aggregate.fold import Effect, fold
from models.aggregate.record import (
    Cause,
    CustomerRecord,
    OutboxEntry,
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
from models.economics import Economics
from models.outbox import DeliveryLookup, DeliveryState, most_in_flight
from models.outputs import Outputs
from models.recent import Recent
from models.routing import Position
from models.scores import Evaluation, RemovalReason, RemovalStep, Resend


class Customer:
    """A customer's record while a batch is processed.

    present: false before the first event, after an erasure, and after a merge into another.
    pending: outbox entries of the stored record whose delivery is not confirmed. in_flight: how
    many of them are being sent, plus those that the steps may add. stored_row: the row of the
    customer as stored. steps: evaluations, removals and resends, in the order of publication.
    """

    __slots__ = (
        "customer_id", "in_flight", "kept", "key", "pending", "present", "record", "resent",
        "steps", "stored_row", "summary",
    )  # fmt: skip

    def __init__(
        self, key: bytes, record: CustomerRecord, summary: Summary, *, present: bool
    ) -> None:
        self.key = key
        self.customer_id = key.decode()
        self.record = record
        self.present = present
        self.summary = summary
        self.pending: list[OutboxEntry] = []
        self.stored_row: int | None = None
        self.steps: list[Evaluation | RemovalStep | Resend] = []
        self.resent = False
        self.kept = False
        self.in_flight = 0

    def apply(self, event: Envelope, occurred: int, config: Economics) -> Effect:
        """Fold an event, and update the summary."""
        state = self.record.aggregate
        effect = fold(state, event, config, occurred)
        if not effect.changed:
            return effect
        latest = effect is Effect.APPENDED and state.orders[next(reversed(state.orders))]
        if not latest or not self.summary.add_order(latest, config):
            self.summary = Summary(state, config)
        return effect

    def take(self, state: Aggregate, config: Economics) -> None:
        """Replace the aggregate."""
        self.record.aggregate = state
        self.summary = Summary(state, config)


class Batch:
    """The customers touched by a batch, each read once, and the rows to score."""

    def __init__(
        self,
        states: Mapping[bytes, bytes],
        origin: str,
        context: Context,
        outputs: Outputs,
        delivery_of: DeliveryLookup,
        *,
        recent: Recent | None = None,
    ) -> None:
        self.states = states
        self.recent = recent
        self.origin = origin
        self.context = context
        self.outputs = outputs
        self.delivery_of = delivery_of
        self.customers: dict[bytes, Customer] = {}
        self.rows = context.rows()
        self._most_in_flight = most_in_flight(context.entry_bytes)

    def customer(self, key: bytes) -> Customer:
        """Return the customer of a key; the stored record is read once per batch."""
        known = self.customers.get(key)
        if known is None:
            stored = self.states.get(key)
            record, summary = self._read(key, stored)
            known = self.customers[key] = Customer(
                key, record, summary, present=stored is not None and not record.into
            )
            if record.outbox:
                self._see_to_outbox(known)
        return known

    def _read(self, key: bytes, stored: bytes | None) -> tuple[CustomerRecord, Summary]:
        economics = self.context.economics
        if stored is None:
            record = self._remembered(key)
        else:
            if self.recent is not None and (kept := self.recent.take(key, stored, economics)):
                return kept
            record = decode_record(stored, key)
        return record, Summary(record.aggregate, economics)

    def _see_to_outbox(self, customer: Customer) -> None:
        delivery_of = [
            (entry, self.delivery_of(entry.origin, entry.offset))
            for entry in customer.record.outbox
        ]
        customer.pending = [
            entry for entry, delivery in delivery_of if delivery is not DeliveryState.DELIVERED
        ]
        customer.in_flight = sum(delivery is DeliveryState.IN_FLIGHT for _, delivery in delivery_of)
        if customer.pending and customer.present:
            customer.stored_row = self._add_stored_row(customer)
        if any(delivery is DeliveryState.UNKNOWN for _, delivery in delivery_of):
            self._resend(customer)

    def _remembered(self, key: bytes) -> CustomerRecord:
        """Return the record of a customer without a stored one: new, or erased before."""
        secret = self.context.erasure_key
        left = self.states.get(forgotten_key(key, secret)) or self.states.get(
            former_key(key, secret)
        )
        if left is None:
            return CustomerRecord(version=self.context.first_version)
        forgotten = decode_forgotten(left, key)
        return CustomerRecord(
            version=forgotten.version,
            erased_at=forgotten.erased_at,
            applied=forgotten.applied,
            outbox=forgotten.outbox,
        )

    def knows(self, key: bytes) -> bool:
        """Return whether a record is stored under this key, or this batch has touched it."""
        return key in self.states or key in self.customers

    def is_full(self, customer: Customer) -> bool:
        """Return whether the customer's outbox is full: the batch must wait for deliveries."""
        return customer.in_flight >= self._most_in_flight

    def replay(self, customer: Customer) -> None:
        """Count a replayed record, and send its outputs again: they may not have been delivered."""
        self.outputs.replayed += 1
        self._resend(customer)

    def _resend(self, customer: Customer) -> None:
        """Send the customer's current value and pending outbox entries again, before other steps.

        If the batch has applied a new event already, the value after that event is the current one.
        """
        if not customer.resent:
            customer.resent = True
            if customer.present and customer.stored_row is None and not customer.steps:
                customer.stored_row = self._add_stored_row(customer)
            customer.steps.insert(0, Resend(customer.stored_row))

    def evaluate(
        self, customer: Customer, as_of: int, at: Position, cause: Cause = "event"
    ) -> None:
        """Score the customer as of a time, under the next version."""
        record = customer.record
        if not customer.present:
            self.outputs.new_customers += 1
            customer.present = True
        record.version += 1
        record.as_of = max(record.as_of, as_of)
        record.applied[at.lane] = at.offset
        row = self._add_row(customer)
        customer.steps.append(
            Evaluation(row, record.version, record.as_of, at.here, at.backfill, cause)
        )
        customer.in_flight += 1

    def store(self, customer: Customer) -> None:
        """Encode the record of a customer who is present, or was merged into another."""
        key, record = customer.key, customer.record
        data = self.outputs.records[key] = encode_record(record)
        # One who is new is not kept: most of them do not come back soon.
        if self.recent is not None and key in self.states:
            self.recent.put(key, data, record, customer.summary, self.context.economics)

    def remove(
        self, customer: Customer, reason: RemovalReason, into: str, as_of: int, at: Position
    ) -> None:
        """Remove the customer, erased or merged, under the next version."""
        record = customer.record
        record.version += 1
        record.applied[at.lane] = at.offset
        customer.present = False
        customer.steps.append(RemovalStep(record.version, as_of, at.here, reason, into))
        customer.in_flight += 1

    def keep(self, customer: Customer, at: Position) -> None:
        """Store the customer's record without publishing anything."""
        customer.record.applied[at.lane] = at.offset
        customer.kept = True

    def _add_row(self, customer: Customer) -> int:
        record = customer.record
        return self.rows.add(record.aggregate, customer.summary, record.as_of)

    def _add_stored_row(self, customer: Customer) -> int:
        """Score the customer as stored, with what decided then if a change may be sent again."""
        record = customer.record
        model = rules = ""
        for entry in record.outbox:
            if entry.version == record.version:
                model, rules = entry.model, entry.rules
        return self.rows.add(
            record.aggregate, customer.summary, record.as_of, model=model, rules=rules
        )
