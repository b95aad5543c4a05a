"""The engine: (states, events, parameters, now) -> (states, outputs).

`process` folds a batch of records of one topic-partition into the customers' records. `advance`
scores customers as time passes. `exchange` merges and erases customers across partitions. All are
pure: they read no clock, and the same records give the same outputs in batches of any size.

Every applied event is evaluated: its customer is scored as of the event's time, so that segment
changes do not depend on where a batch ends. Only the last evaluation of a customer in a batch is
published as a value update.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import NamedTuple

from models.acceptance import check_acceptable, too_old
from models.aggregate.fold import Effect
from models.aggregate.record import Cause, is_customer
from models.context import Context
from models.contracts import (
    Envelope,
    Reason,
    Refused,
    check_topic,
    customer_of,
    decode,
    key_as_customer,
)
from models.customers import Batch, Customer, Scoring
from models.events.kinds import BACKFILL
from models.identities import (
    ask_for,
    be_erased,
    erase,
    erase_merged,
    forwarded_to,
    hand_over,
    send_state,
    take_back,
    take_over,
)
from models.identity import (
    Absorb,
    AnyMessage,
    DamagedMessage,
    Release,
    Return,
    decode_message,
    encode_message,
)
from models.notices import notice_of
from models.outbox import DeliveryLookup, Overfull, all_delivered
from models.outputs import Outputs, Record, RefusedRecord, Rerouted
from models.oversized import check_unpacked
from models.publishing import finish
from models.recent import Recent
from models.routing import (
    Position,
    Route,
    check_lane,
    route_header,
    route_of,
    without_route,
)
from models.sizes import record_size

REROUTED = "rerouted"
"""Role of the topic of misrouted records that were sent on."""

LARGEST_REROUTED = 1_000_000
"""Largest encoded record that is sent on, in bytes; Kafka's default limit is 1,048,588."""


def process(
    states: Mapping[bytes, bytes],
    origin: str,
    records: Sequence[Record],
    context: Context,
    *,
    now: int,
    role: str | None = None,
    at_home: Callable[[bytes], bool] = lambda _key: True,
    delivery_of: DeliveryLookup = all_delivered,
    recent: Recent | None = None,
) -> Outputs:
    """Fold the records of one topic-partition into the states of its customers.

    It stops before a record whose customer's outbox is full: `Outputs.taken` says where.

    states: encoded customer records by key. They are not modified: new records are in the outputs.
    origin: "topic/partition" of the records.
    now: milliseconds since 1970. Events dated more than a day after it, or after their arrival, are
    refused.
    role: of the topic: a key of `TYPES_OF_TOPIC`, or REROUTED for records that a worker sent on,
    each with its route. None accepts events of all types.
    at_home: returns whether a new customer's key belongs to this partition. A publisher may
    partition by another rule, but all events of a customer must be processed in one partition.
    delivery_of: looks up the delivery state of stored outbox entries. Those that may not have been
    delivered are sent again, and kept until they are.
    recent: customers of former batches that need not be decoded; it changes no output.

    Raises
    ------
    UnreadableRecord
        if a stored record was written by a newer version, or is damaged.
    """

    def take(those: Sequence[Record]) -> Outputs:
        batch = Batch(states, origin, context, Outputs(), delivery_of, recent=recent, in_parts=True)
        _fold(batch, those, now=now, role=role, at_home=at_home)
        finish(batch)
        return batch.outputs

    return _in_parts(take, records)


class Intake(NamedTuple):
    """Records of one topic-partition, and what they are folded into; see `process`."""

    states: Mapping[bytes, bytes]
    origin: str
    records: Sequence[Record]
    context: Context
    role: str | None = None
    at_home: Callable[[bytes], bool] = lambda _key: True
    delivery_of: DeliveryLookup = all_delivered


def process_together(
    intakes: Sequence[Intake], *, now: int, recent: Recent | None = None
) -> list[Outputs]:
    """Fold records of several partitions, each as `process` does, and score them at once.

    That saves time: to score few customers takes about as long as to score a hundred. Each intake
    is of another partition; their contexts have the same parameters, rules and economics.
    """
    scoring = Scoring(intakes[0].context)
    batches = [
        Batch(
            each.states,
            each.origin,
            each.context,
            Outputs(),
            each.delivery_of,
            recent=recent,
            in_parts=True,
            scoring=scoring,
        )
        for each in intakes
    ]
    try:
        for batch, each in zip(batches, intakes, strict=True):
            _fold(batch, each.records, now=now, role=each.role, at_home=each.at_home)
        finish(*batches)
    except Overfull:
        return [process(**each._asdict(), now=now, recent=recent) for each in intakes]
    return [batch.outputs for batch in batches]


def _in_parts(take: Callable[[Sequence[Record]], Outputs], records: Sequence[Record]) -> Outputs:
    """Take as many of the records as outboxes have room for what they bring; perhaps none yet."""
    while records:
        try:
            return take(records)
        except Overfull:
            records = records[: len(records) // 2]
    return Outputs()


def _fold(
    batch: Batch,
    records: Sequence[Record],
    *,
    now: int,
    role: str | None,
    at_home: Callable[[bytes], bool],
) -> None:
    """Fold records into their customers, up to one whose customer's outbox is full."""
    outputs, origin = batch.outputs, batch.origin
    accepted: list[str] = []
    for number, record in enumerate(records):
        at = Position(origin, record.offset, record.offset, backfill=role == BACKFILL)
        try:
            check_unpacked(record.value, origin)
            if role == REROUTED:
                route = route_of(record.headers)
                at = Position(route.lane, route.offset, record.offset, route, route.backfill)
            event = decode(record.key, record.value, record.headers)
            if role is not None and role != REROUTED:
                check_topic(event, role)
            key = _addressee(event, record, at.route)
            if key != record.key or (not batch.knows(key) and not at_home(key)):
                outputs.rerouted.append(_rerouted(key, record, origin, at))
                continue
            customer = batch.customer(key)
            if batch.is_full(customer):
                outputs.taken = number
                break
            before = outputs.accepted
            _apply(batch, customer, event, record, at, now=now)
            if outputs.accepted != before:
                accepted.append(event.type)
        except Refused as refused:
            if not _is_replay(batch, record, at):
                outputs.dead_letters.append(RefusedRecord(record, refused, at.route))
    else:
        outputs.taken = len(records)
    outputs.accepted_types = Counter(accepted)


def _apply(
    batch: Batch,
    customer: Customer,
    event: Envelope,
    record: Record,
    at: Position,
    *,
    now: int,
) -> None:
    """Apply an event to its customer; raises `Refused`."""
    outputs, config, known = batch.outputs, batch.context.economics, customer.record
    if at.offset <= known.applied.get(at.lane, -1):
        batch.replay(customer)
        return
    occurred = check_acceptable(event, customer.customer_id, record.timestamp, now, config)
    if occurred <= known.erased_at:
        _ignore_erased(batch, customer, event)
        return
    if (way := forwarded_to(customer, at.route)) is not None:
        whose, via = way
        outputs.rerouted.append(_rerouted(whose.encode(), record, batch.origin, at, via))
        return
    check_lane(known.applied, at.lane)
    if event.type == "customer.erased":
        erase(batch, customer, occurred, at)
        return
    if event.type == "customer.merged":
        ask_for(batch, customer, event.data, occurred)
        return
    silence = None
    if occurred >= customer.quiet_until and not at.backfill:
        silence = batch.silence(customer, occurred, at.here)
    effect = customer.apply(event, occurred, config)
    if effect is Effect.TOO_OLD:
        raise too_old(event, config)
    if effect is not Effect.APPENDED:
        notice = notice_of(event, effect, known.aggregate)
        if notice is not None:
            outputs.notices.append(RefusedRecord(record, notice, at.route))
    if not effect.changed:
        outputs.duplicates += 1
        return
    outputs.accepted += 1
    batch.evaluate(customer, occurred, at, after=silence)


def _ignore_erased(batch: Batch, customer: Customer, event: Envelope) -> None:
    """Ignore an event dated at or before the customer's erasure."""
    if event.type == "customer.erased":
        batch.outputs.duplicates += 1
    elif event.type == "customer.merged":
        erase_merged(batch, customer, event.data.merged_from)
    else:
        batch.outputs.forgotten += 1


def _addressee(event: Envelope, record: Record, route: Route | None) -> bytes:
    """Return the key of the record's customer; a record that followed a merge has it already."""
    if route is not None and route.via is not None:
        return key_as_customer(record.key).encode()
    return customer_of(event, record.key).encode()


def _is_replay(batch: Batch, record: Record, at: Position) -> bool:
    """Return whether a refused record was applied before, perhaps when it was acceptable."""
    key = record.key
    if key is None or not batch.knows(key):
        return False
    customer = batch.customer(key)
    if at.offset > customer.record.applied.get(at.lane, -1):
        return False
    batch.replay(customer)
    return True


def _rerouted(
    key: bytes,
    record: Record,
    origin: str,
    at: Position,
    via: tuple[str, ...] | None = None,
) -> Rerouted:
    """Return a record to be sent on; raises `Refused` if it is too large for that, uncompressed."""
    if at.route is None:
        route = Route(origin, record.offset, record.key, via=via, backfill=at.backfill)
    else:
        route = at.route.further(origin, at.route.via if via is None else via)
    headers = (*without_route(record.headers), route_header(route))
    size = record_size(key, record.value, headers)
    if size > LARGEST_REROUTED:
        raise Refused(
            Reason.TOO_LARGE,
            "key",
            f"the record has {size} bytes and belongs under another key, {key.decode()!r}: more "
            f"than {LARGEST_REROUTED} are not sent on; publish it under that key, partitioned by "
            "murmur2",
        )
    return Rerouted(key, record, route)


def advance(
    states: Mapping[bytes, bytes],
    keys: Iterable[bytes],
    origin: str,
    offset: int,
    context: Context,
    *,
    as_of: int,
    cause: Cause = "time",
    due_only: bool = False,
    delivery_of: DeliveryLookup = all_delivered,
) -> Outputs:
    """Score these customers as of a time, and publish their values and segment changes.

    as_of: milliseconds since 1970; a customer's own as-of time never goes back. cause: of their
    changes. due_only: only what was due by then is told, as of when it was due.
    offset: of the tick in `origin`. A customer that has applied it is only sent again.
    delivery_of: as in `process`.
    """
    outputs = Outputs()
    batch = Batch(states, origin, context, outputs, delivery_of)
    for key in keys:
        if not is_customer(key) or key not in states:
            continue
        customer = batch.customer(key)
        if not customer.present:
            continue
        if offset <= customer.record.applied.get(origin, -1):
            batch.replay(customer)
            continue
        at = Position(origin, offset, offset)
        if due_only:
            batch.look(customer, as_of, at)
        else:
            silence = batch.silence(customer, as_of, offset)
            batch.evaluate(customer, as_of, at, cause, after=silence)
    finish(batch)
    return outputs


def exchange(
    states: Mapping[bytes, bytes],
    origin: str,
    records: Sequence[Record],
    context: Context,
    *,
    at_home: Callable[[bytes], bool] = lambda _key: True,
    delivery_of: DeliveryLookup = all_delivered,
) -> Outputs:
    """Process the messages of one partition of `clv.identity`; see `models.identity`.

    The other parameters are those of `process`.
    """

    def take(those: Sequence[Record]) -> Outputs:
        batch = Batch(states, origin, context, Outputs(), delivery_of, in_parts=True)
        return _exchange(batch, those, at_home=at_home)

    return _in_parts(take, records)


def _exchange(
    batch: Batch, records: Sequence[Record], *, at_home: Callable[[bytes], bool]
) -> Outputs:
    outputs, origin = batch.outputs, batch.origin
    for number, record in enumerate(records):
        try:
            check_unpacked(record.value, origin)
            key = key_as_customer(record.key).encode()
            message = decode_message(record.value or b"")
            if not batch.knows(key) and not at_home(key):
                outputs.messages.append((key, encode_message(message)))
                continue
            customer = batch.customer(key)
            if batch.is_full(customer):
                outputs.taken = number
                break
            _answer(batch, customer, message, Position(origin, record.offset, record.offset))
        except Refused as refused:
            outputs.dead_letters.append(RefusedRecord(record, refused))
        except DamagedMessage as error:
            reason = Refused(Reason.UNSUPPORTED_FORMAT, None, str(error))
            outputs.dead_letters.append(RefusedRecord(record, reason))
    else:
        outputs.taken = len(records)
    finish(batch)
    return outputs


def _answer(batch: Batch, customer: Customer, message: AnyMessage, at: Position) -> None:
    if at.offset <= customer.record.applied.get(at.lane, -1):
        batch.replay(customer)
        if isinstance(message, Release) and customer.record.into:
            send_state(batch, customer)
    elif isinstance(message, Release):
        hand_over(batch, customer, message, at)
    elif isinstance(message, Absorb):
        take_over(batch, customer, message, at)
    elif isinstance(message, Return):
        take_back(batch, customer, message, at)
    else:
        be_erased(batch, customer, message, at)
