"""The heart: (states, events, parameters, now) -> (states, outputs).

`process` folds a batch of records of one topic-partition into the customers' records; `advance`
lets time pass; `exchange` joins and erases identities across partitions. All are pure: they read no
clock, and the same records give the same outputs however they are cut into batches.

Every applied event is an evaluation of its own: the customer is scored as of the event's time, so
that segment changes do not depend on where a batch ends. Only the last evaluation of a customer in
a batch is published as a value update.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

from models.acceptance import check_acceptable, too_old
from models.aggregate.fold import Effect
from models.aggregate.record import is_customer
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
from models.contracts.intake import BACKFILL
from models.customers import Batch, Customer, Fates, Position, all_told
from models.identities import (
    ask_for,
    elsewhere,
    erase,
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
from models.outputs import DeadLetter, Outputs, Record, Rerouted
from models.oversized import check_unpacked
from models.routing import Route, check_lane, route_header, route_of, without_route
from models.sizes import record_size

REROUTED = "rerouted"
"""Role of the topic of records that were sent on."""

LARGEST_STRAY = 1_000_000
"""Bytes of a record that is sent on, encoded; Kafka takes 1,048,588 unless told otherwise."""


def process(
    states: Mapping[bytes, bytes],
    origin: str,
    records: Sequence[Record],
    context: Context,
    *,
    now: int,
    role: str | None = None,
    at_home: Callable[[bytes], bool] = lambda _key: True,
    fates: Fates = all_told,
) -> Outputs:
    """Fold the records of one topic-partition into the states of its customers.

    It stops before a record whose customer has too much pending: `Outputs.taken` says where.

    states: encoded customer records by key; it is read, never written: the new records are in
    the outputs. origin: "topic/partition" of the records. now: milliseconds since 1970; events
    that claim to be later than a day after it, or after their arrival, are refused. role: of their
    topic: a key of `TYPES_OF_TOPIC`, or REROUTED for records that a worker sent on, each with its
    route; None for events of all types that are no history. at_home: says of a new customer's key
    whether it belongs to this partition; publishers may partition by another rule, and a customer's
    events must all be in one place. fates: says what became of the notices of stored records; what
    may not have been told is told again, and kept until it was.

    Raises
    ------
    UnreadableRecord
        when a stored record was written by a newer version, or is damaged.
    """
    outputs = Outputs()
    batch = Batch(states, origin, context, outputs, fates)
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
            _apply(batch, customer, event, record, at, now=now)
        except Refused as refused:
            if not _is_replay(batch, record, at):
                outputs.dead_letters.append(DeadLetter(record, refused, at.route))
    else:
        outputs.taken = len(records)
    batch.finish()
    return outputs


def _apply(
    batch: Batch,
    customer: Customer,
    event: Envelope,
    record: Record,
    at: Position,
    *,
    now: int,
) -> None:
    """Do what an event says about its customer; raises Refused."""
    outputs, config, known = batch.outputs, batch.context.economics, customer.record
    if at.offset <= known.applied.get(at.lane, -1):
        batch.replay(customer)
        return
    occurred = check_acceptable(event, record.timestamp, now, config)
    if occurred <= known.erased_at and event.type != "customer.erased":
        outputs.forgotten += 1
        return
    if (way := elsewhere(customer, at.route)) is not None:
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
    effect = customer.apply(event, occurred, config)
    if effect is Effect.TOO_OLD:
        raise too_old(event, config)
    if effect is Effect.DUPLICATE:
        outputs.duplicates += 1
        return
    outputs.accepted += 1
    batch.evaluate(customer, occurred, at)


def _addressee(event: Envelope, record: Record, route: Route | None) -> bytes:
    """The key of the customer whom a record is for; one that followed a merge bears it already."""
    if route is not None and route.via is not None:
        return key_as_customer(record.key).encode()
    return customer_of(event, record.key).encode()


def _is_replay(batch: Batch, record: Record, at: Position) -> bool:
    """Whether a record was worked on before, perhaps when it was still acceptable."""
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
    """A record to be sent on, which is possible for what fits a topic without being compressed."""
    if at.route is None:
        route = Route(origin, record.offset, record.key, via=via, backfill=at.backfill)
    else:
        route = at.route.further(origin, at.route.via if via is None else via)
    headers = (*without_route(record.headers), route_header(route))
    size = record_size(key, record.value, headers)
    if size > LARGEST_STRAY:
        raise Refused(
            Reason.TOO_LARGE,
            "key",
            f"the record has {size} bytes and belongs under another key, {key.decode()!r}: more "
            f"than {LARGEST_STRAY} are not sent on; publish it under that key, partitioned by "
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
    fates: Fates = all_told,
) -> Outputs:
    """Let time pass for these customers: score them all as of a time, and publish.

    as_of: milliseconds since 1970; a customer never goes back before what it was scored at.
    offset: of the record in `origin` that says so; a customer that has seen it is sent again.
    fates: as in `process`.
    """
    outputs = Outputs()
    batch = Batch(states, origin, context, outputs, fates)
    for key in keys:
        if not is_customer(key) or key not in states:
            continue
        customer = batch.customer(key)
        if not customer.present:
            continue
        if offset <= customer.record.applied.get(origin, -1):
            batch.replay(customer)
        else:
            batch.evaluate(customer, as_of, Position(origin, offset, offset))
    batch.finish()
    return outputs


def exchange(
    states: Mapping[bytes, bytes],
    origin: str,
    records: Sequence[Record],
    context: Context,
    *,
    at_home: Callable[[bytes], bool] = lambda _key: True,
    fates: Fates = all_told,
) -> Outputs:
    """Do what customers of other partitions, and merges and erasures, ask of these customers.

    records: those of one partition of `clv.identity`, see `models.identity`; the rest as in
    `process`.
    """
    outputs = Outputs()
    batch = Batch(states, origin, context, outputs, fates)
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
            outputs.dead_letters.append(DeadLetter(record, refused))
        except DamagedMessage as error:
            reason = Refused(Reason.UNSUPPORTED_FORMAT, None, str(error))
            outputs.dead_letters.append(DeadLetter(record, reason))
    else:
        outputs.taken = len(records)
    batch.finish()
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
        erase(batch, customer, message.until, at, undo=message.undo)
