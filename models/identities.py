"""Customers who are erased, and customers who are merged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from models.aggregate.absorb import absorb
from models.aggregate.erase import is_empty, without
from models.aggregate.fold import merge
from models.aggregate.record import CustomerRecord, Guest
from models.aggregate.state import Aggregate
from models.contracts import CustomerMerged, Reason, Refused
from models.customers import Batch, Customer, Position
from models.identity import (
    Absorb,
    Erase,
    Message,
    Release,
    Return,
    closes_circle,
    encode_message,
)
from models.routing import Route

MOST_GUESTS: Final = 10_000
"""Customers that may be merged into one."""

MOST_GUEST_BYTES: Final = 768 * 1024
"""Bytes that they may take of its record: an id of the longest kind takes 800."""

_GUEST_BYTES: Final = 24
"""What a guest takes beside its id, at most."""

MOST_STATIONS: Final = 500
"""Merged customers that something follows one after the other; a message names each of them."""

MOST_TIMES_SENT_ON: Final = 8
"""After so many ways to and fro an event stays where it is."""


def onward(customer: Customer, via: tuple[str, ...]) -> tuple[str, ...] | None:
    """The way of what is for a merged customer and must follow; None when it has arrived.

    Where merges have made a circle, one customer of it takes everything from now on.

    Raises
    ------
    Refused
        when it has followed as many merges as it may.
    """
    if not customer.record.into:
        return None
    if closes_circle(customer.customer_id, customer.record.into, via):
        customer.record.into = ""
        return None
    if len(via) >= MOST_STATIONS:
        raise Refused(
            Reason.BEYOND_MEMORY,
            "key",
            f"it has followed {MOST_STATIONS} merges, each of one customer into the next, which is "
            "as many as are followed; check what merges these customers",
        )
    return (*via, customer.customer_id)


def elsewhere(customer: Customer, route: Route | None) -> tuple[str, tuple[str, ...]] | None:
    """Whose an event is instead, and the way it came; None when it has arrived.

    It follows a merge, or goes back if that was undone meanwhile. A customer who was erased once
    knows by whom it was joined: until the state of the other has come, or the other has heard that
    it is on its own again, what is for it goes to and fro.
    """
    record = customer.record
    if not record.into and record.erased_at < 0:
        return None
    via = () if route is None or route.via is None else route.via
    if record.into:
        further = onward(customer, via)
        return None if further is None else (record.into, further)
    if not via or via[-1] in {*record.absorbed, customer.customer_id}:
        return None
    sent_on = 0 if route is None else route.times
    return None if sent_on >= MOST_TIMES_SENT_ON else (via[-1], via[:-1])


def erase(batch: Batch, customer: Customer, until: int, at: Position, *, undo: bool = True) -> None:
    """Forget what happened until some time, here and in whoever was merged into this customer.

    Where nothing is left, and nobody was merged later, merges are undone. undo: whether that may be
    done to this customer's own.
    """
    record, outputs, config = customer.record, batch.outputs, batch.context.economics
    merge_undone = undo and bool(record.into) and record.merged_at <= until
    if record.erased_at > until or (record.erased_at == until and not merge_undone):
        outputs.duplicates += 1
        return
    outputs.accepted += 1
    outputs.erased += 1
    record.erased_at = until
    left = without(record.aggregate, until)
    lives = not is_empty(left) or _joined_after(record, until)
    _tell(batch, record.absorbed, Erase(until, undo=not lives))
    if not lives:
        record.absorbed = {}
    customer.take(left, config)
    if record.into and (record.merged_at > until or not undo):
        batch.keep(customer, at)
        return
    if lives:
        record.into, record.merged_at = "", -1
        batch.evaluate(customer, record.as_of, at)
        return
    customer.take(Aggregate(), config)
    record.as_of, record.into, record.merged_at = 0, "", -1
    batch.remove(customer, "erased", "", until, at)


def _joined_after(record: CustomerRecord, moment: int) -> bool:
    """Whether somebody was merged into the customer later than this: there is a customer still."""
    return any(guest.at > moment for guest in record.absorbed.values())


def ask_for(batch: Batch, customer: Customer, data: CustomerMerged, merged_at: int) -> None:
    """Ask the customer who goes for everything that is known of them.

    Raises
    ------
    Refused
        when too many have been merged into the customer.
    """
    record, outputs = customer.record, batch.outputs
    if data.merged_from == customer.customer_id or data.merged_from in record.absorbed:
        outputs.duplicates += 1
        return
    if len(record.absorbed) >= MOST_GUESTS or _guest_bytes(record.absorbed) >= MOST_GUEST_BYTES:
        raise _too_many_guests("data.customer_id", record.absorbed)
    outputs.accepted += 1
    _tell(batch, [data.merged_from], Release(customer.customer_id, merged_at))


def hand_over(batch: Batch, customer: Customer, message: Release, at: Position) -> None:
    """Close this customer's record, and send what is in it to the one who stays."""
    record, outputs = customer.record, batch.outputs
    if message.at <= record.erased_at:
        outputs.forgotten += 1
        return
    if message.target in (customer.customer_id, record.into):
        outputs.duplicates += 1
        return
    outputs.accepted += 1
    if (via := onward(customer, message.via)) is not None:
        _tell(batch, [record.into], Release(message.target, message.at, via))
        return
    record.as_of = record.as_of or message.at
    record.into, record.merged_at = message.target, message.at
    batch.remove(customer, "merged", message.target, record.as_of, at)
    send_state(batch, customer)


def send_state(batch: Batch, customer: Customer) -> None:
    """Send the state of a closed record to where it belongs."""
    record = customer.record
    guest = Guest(record.version, record.merged_at)
    state = Absorb(
        customer.customer_id, record.aggregate, record.as_of, guest, dict(record.absorbed)
    )
    batch.outputs.handovers.append((record.into.encode(), encode_message(state)))


def take_over(batch: Batch, customer: Customer, message: Absorb, at: Position) -> None:
    """Take the state of a customer who turned out to be this one.

    Raises
    ------
    Refused
        when too many have been merged into this one, or it has followed too many merges; the other
        goes on as a customer.
    """
    record, outputs, config = customer.record, batch.outputs, batch.context.economics
    try:
        via = onward(customer, message.via)
    except Refused:
        _tell(batch, [message.source], Return(message.via[0], message.guest.at))
        raise
    if via is not None:
        _tell(batch, [record.into], msgspec.structs.replace(message, via=via))
        outputs.accepted += 1
        return
    known = message.source in record.absorbed or _joined_after(record, record.erased_at)
    if message.guest.at <= record.erased_at and not known:
        # Erased before the state arrived: it stays where it came from, and is erased there.
        _tell(batch, [message.source], Erase(record.erased_at))
        outputs.forgotten += 1
        return
    incoming = message.aggregate
    if record.erased_at >= 0:
        incoming = without(incoming, record.erased_at)
    join = merge if message.source in record.absorbed else absorb
    state = join(record.aggregate, incoming, config)
    absorbed = {**record.absorbed, **message.absorbed, message.source: message.guest}
    if len(absorbed) > MOST_GUESTS or _guest_bytes(absorbed) > MOST_GUEST_BYTES:
        # Many were asked at once, or brought their own.
        _tell(batch, [message.source], Return(customer.customer_id, message.guest.at))
        raise _too_many_guests(None, record.absorbed)
    if customer.present and state == record.aggregate and absorbed == record.absorbed:
        outputs.duplicates += 1
        return
    outputs.accepted += 1
    record.absorbed = dict(sorted(absorbed.items()))
    customer.take(state, config)
    batch.evaluate(customer, message.as_of, at)


def take_back(batch: Batch, customer: Customer, message: Return, at: Position) -> None:
    """Open this customer's record again: the one that it was handed over to could not take it."""
    record = customer.record
    if record.into != message.source or record.merged_at != message.at:
        batch.outputs.duplicates += 1
        return
    batch.outputs.accepted += 1
    record.into, record.merged_at = "", -1
    batch.evaluate(customer, record.as_of, at)


def _guest_bytes(absorbed: Mapping[str, Guest]) -> int:
    return sum(len(name.encode()) + _GUEST_BYTES for name in absorbed)


def _too_many_guests(field: str | None, absorbed: Mapping[str, Guest]) -> Refused:
    return Refused(
        Reason.BEYOND_MEMORY,
        field,
        f"{len(absorbed)} customers with ids of {sum(map(len, absorbed))} characters have been "
        "merged into this one, which is as many as are remembered; the other stays a customer of "
        "its own. Check whether this id stands for somebody",
    )


def _tell(batch: Batch, customers: Iterable[str], message: Message) -> None:
    encoded = encode_message(message)
    batch.outputs.messages += [(customer.encode(), encoded) for customer in customers]
