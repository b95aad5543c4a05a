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
from models.due import moment_of
from models.economics import Economics
from models.outbox import DeliveryLookup, DeliveryState, most_in_flight
from models.outputs import Outputs
from models.recent import Recent
from models.routing import Position
from models.scores import Evaluation, RemovalReason, RemovalStep, Resend
from models.silence import Silence
from models.standing import NO_DAY, Point, Standing
from models.timeline import NEVER

Step = Evaluation | RemovalStep | Resend | Silence


class Customer:
    """A customer's record while a batch is processed.

    present: false before the first event, after an erasure, and after a merge into another.
    pending: outbox entries of the stored record whose delivery is not confirmed. flying: how many
    of them are being sent. in_flight: these, plus those that the steps may add, but for what
    silence brings. stored_row: the row of the customer as stored. steps: evaluations, removals,
    resends and silences, in the order of publication. row: of the customer as last scored in this
    batch. quiet_until: until then (milliseconds since 1970) silence brings nothing, or nothing but
    what `catch_up` sees to. told: the value that was published last, and was: what it is computed
    from today, if the next update is to say what has moved it.
    """

    __slots__ = (
        "customer_id", "flying", "in_flight", "kept", "key", "pending", "present", "quiet_until",
        "record", "resent", "row", "steps", "stored_row", "summary", "told", "was",
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
        self.steps: list[Step] = []
        self.row: int | None = None
        self.told: float | None = None
        self.was: Point | None = None
        self.quiet_until = NEVER
        self.resent = False
        self.kept = False
        self.flying = self.in_flight = 0

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


class Scoring:
    """What is scored together: the customers of one batch, or of several of other partitions.

    Their contexts have the same parameters, rules and economics.
    """

    def __init__(self, context: Context) -> None:
        self.context = context
        self.rows = context.rows()
        self.silent: list[Customer] = []
        """Those with a silence among their steps."""
        self.pairs: list[tuple[int, int]] = []
        """Rows of a customer that follow each other, with nothing but days between them."""
        self.owners: list[Customer] = []
        """Whose they are."""


class Batch:
    """The customers touched by a batch, each read once, and the rows to score.

    in_parts: whether it may be taken in parts, if an outbox has no room for all it brings.
    scoring: of several batches; None: of this one alone.
    """

    def __init__(
        self,
        states: Mapping[bytes, bytes],
        origin: str,
        context: Context,
        outputs: Outputs,
        delivery_of: DeliveryLookup,
        *,
        recent: Recent | None = None,
        in_parts: bool = False,
        scoring: Scoring | None = None,
    ) -> None:
        self.states = states
        self.in_parts = in_parts
        self.recent = recent
        self.origin = origin
        self.context = context
        self.outputs = outputs
        self.delivery_of = delivery_of
        self.customers: dict[bytes, Customer] = {}
        self.scoring = Scoring(context) if scoring is None else scoring
        self.rows = self.scoring.rows
        self._alike = 0, 0
        """When only days pass between two times; see `Context.alike_until`."""
        self.most_in_flight = most_in_flight(context.entry_bytes)

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
            if known.present and not record.backfill:
                known.quiet_until = self._quiet_until(record)
                if self.context.explained:
                    known.told = record.told if record.refreshed else record.clv
                    known.was = self.context.point(summary, record.told_at)
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

    def _quiet_until(self, record: CustomerRecord) -> int:
        """Return until when a stored customer's silence brings nothing."""
        context = self.context
        begins = self._begins(record)
        due = record.due or context.economics.day_begins(context.economics.day(begins) + 1)
        return due if begins >= context.last_start else min(due, context.next_start(begins))

    def _begins(self, record: CustomerRecord) -> int:
        """Return when the silence began that a stored customer is in."""
        begins = record.base or record.as_of
        if begins < self.context.last_start and self.context.next_start(begins) <= record.told_at:
            # They came after the customer was told of, and are in force since before that.
            return record.told_at
        return begins

    def silence(
        self, customer: Customer, until: int, offset: int, *, ends: bool = True
    ) -> Silence | None:
        """Return the silence of a customer up to a time, in which somebody has to look; or None.

        offset: of the record that led to it. ends: whether something happens then. Also None if it
        begins with a score of this batch and days alone pass in it: `catch_up` sees to these, when
        it knows which of them matter.
        """
        if until < customer.quiet_until:
            return None
        if customer.row is not None and not self._may_turn_round(customer, until):
            return None
        record, context = customer.record, self.context
        day, begins, at = context.economics.day, self._begins(record), 0
        standing = context.standing(record.aggregate, customer.summary, begins)
        pivots, following = context.pivots(
            record.aggregate, customer.summary, begins, standing, until
        )
        known, turns = standing.day, None
        if customer.row is not None:
            if not pivots:
                return None
        elif record.due:
            known = max(known, NO_DAY if record.due >= NEVER else day(record.due) - 1)
            at = record.due - 1
            turns = self._turns(record, begins, standing)
        self.scoring.silent.append(customer)
        return Silence(
            begins,
            standing,
            known,
            until,
            ends=ends,
            offset=offset,
            at=at,
            pivots=pivots,
            following=following,
            turns=turns,
        )

    def _turns(self, record: CustomerRecord, begins: int, standing: Standing) -> list[int] | None:
        """Return when a comparison turns next in a silence, if it was searched for by the same."""
        if (
            not record.turn
            or begins != (record.base or record.as_of)
            or record.turn_by != self.context.search_by(standing.model, standing.rules)
        ):
            return None
        if record.turn == NO_DAY:
            return [NEVER]
        return [moment_of(record.turn, begins, self.context.economics)]

    def _may_turn_round(self, customer: Customer, until: int) -> bool:
        """Return whether other than days may pass after a score of this batch."""
        record, context = customer.record, self.context
        begins, row = record.as_of, customer.row or 0
        if begins < context.last_start and context.next_start(begins) <= until:
            return True
        rules, read = self.rows.rules(row), self.rows.read(row)
        if not rules.heeds_steps(read):
            return False
        first, last = context.economics.day(begins), context.economics.day(until)
        state, summary = record.aggregate, customer.summary
        return context.next_step(rules, read, state, summary, first) <= last

    def _see_to_outbox(self, customer: Customer) -> None:
        delivery_of = [
            (entry, self.delivery_of(entry.origin, entry.offset))
            for entry in customer.record.outbox
        ]
        customer.pending = [
            entry for entry, delivery in delivery_of if delivery is not DeliveryState.DELIVERED
        ]
        flying = sum(delivery is DeliveryState.IN_FLIGHT for _, delivery in delivery_of)
        customer.flying = customer.in_flight = flying
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
        return customer.in_flight >= self.most_in_flight

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
        self,
        customer: Customer,
        as_of: int,
        at: Position,
        cause: Cause = "event",
        *,
        after: Silence | None = None,
    ) -> None:
        """Score the customer as of a time, under the next version; after: the silence before."""
        record = customer.record
        if not customer.present:
            self.outputs.new_customers += 1
            customer.present = True
        record.as_of = max(record.as_of, as_of)
        record.applied[at.lane] = at.offset
        row = self.rows.add(record.aggregate, customer.summary, record.as_of)
        if after is not None:
            customer.steps.append(after)
        elif customer.row is not None and not at.backfill and not record.backfill:
            self.scoring.pairs.append((customer.row, row))
            self.scoring.owners.append(customer)
        customer.row = row
        customer.steps.append(Evaluation(row, record.as_of, at.here, at.backfill, cause))
        customer.in_flight += 1
        record.backfill, record.base = at.backfill, 0
        if at.backfill:
            customer.quiet_until = NEVER
        else:
            if not self._alike[0] <= record.as_of < self._alike[1]:
                day = self.context.economics.day(record.as_of)
                until = self.context.alike_until(record.as_of, day)
                self._alike = record.as_of, until
            customer.quiet_until = self._alike[1]

    def look(self, customer: Customer, until: int, at: Position) -> None:
        """Look at a silent customer at each moment up to a time at which a segment may change.

        No more often than their outbox has room for changes: the rest remains due.
        """
        if self.is_full(customer):
            return
        silence = self.silence(customer, until, at.here, ends=False)
        if silence is not None:
            silence.most = self.most_in_flight - customer.in_flight
            customer.record.applied[at.lane] = at.offset
            customer.steps.append(silence)
            customer.in_flight += 1
            customer.quiet_until = NEVER
        else:
            self.outputs.dues[customer.key] = customer.quiet_until

    def store(self, customer: Customer) -> None:
        """Encode the record of a customer who is present, or was merged into another."""
        key, record = customer.key, customer.record
        data = self.outputs.records[key] = encode_record(record)
        # One who is new is not kept: most of them do not come back soon.
        if self.recent is not None and key in self.states:
            self.recent.put(key, data, record, customer.summary, self.context.economics)

    def remove(
        self,
        customer: Customer,
        reason: RemovalReason,
        into: str,
        as_of: int,
        at: Position,
        *,
        after: Silence | None = None,
        handover: bytes = b"",
    ) -> None:
        """Remove the customer, erased or merged, under the next version; after: the silence before.

        handover: see `RemovalStep`.
        """
        if after is not None:
            customer.steps.append(after)
        customer.record.applied[at.lane] = at.offset
        customer.present = False
        customer.row = None
        customer.quiet_until = self.outputs.dues[customer.key] = NEVER
        customer.steps.append(RemovalStep(as_of, at.here, reason, into, handover))
        customer.in_flight += 1

    def keep(self, customer: Customer, at: Position) -> None:
        """Store the customer's record without publishing anything."""
        customer.record.applied[at.lane] = at.offset
        customer.kept = True

    def _add_stored_row(self, customer: Customer) -> int:
        """Score the customer as stored, with what decided then if a change may be sent again."""
        record = customer.record
        model = rules = ""
        for entry in record.outbox:
            if entry.version == record.version and entry.as_of == record.as_of:
                model, rules = entry.model, entry.rules
        return self.rows.add(
            record.aggregate, customer.summary, record.told_at, model=model, rules=rules
        )
