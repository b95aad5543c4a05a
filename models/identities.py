"""Erase customers, and merge customers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import msgspec

from models.aggregate.absorb import absorb
from models.aggregate.fold import is_empty, merge, without
from models.aggregate.record import CustomerRecord, MergedCustomer
from models.aggregate.state import Aggregate
from models.contracts import CustomerMerged, Reason, Refused
from models.customers import Batch, Customer
from models.identity import (
    Absorb,
    Erase,
    Message,
    Release,
    Return,
    closes_circle,
    encode_message,
)
from models.routing import Position, Route
from models.silence import Silence

MOST_MERGED: Final = 1_000
"""How many customers may be merged into one."""

MOST_MERGED_BYTES: Final = 768 * 1024
"""Bytes that merged customers may take of a record; the longest id takes 800."""

_MERGED_BYTES: Final = 24
"""Bytes of a merged customer beside the id, at most."""

MOST_MERGES_FOLLOWED: Final = 500
"""The longest chain of merges that an event or message follows; a message names each of them."""

MOST_TIMES_SENT_ON: Final = 8
"""After being sent on this often, an event stays where it is."""


def follow_merge(customer: Customer, via: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return `via` extended by this customer if they were merged into another, else None.

    If merges form a circle, it is cut open: one customer of it takes everything from now on.

    Raises
    ------
    Refused
        if the chain of merges is longer than `MOST_MERGES_FOLLOWED`.
    """
    if not customer.record.into:
        return None
    if closes_circle(customer.customer_id, customer.record.into, via):
        customer.record.into = ""
        return None
    if len(via) >= MOST_MERGES_FOLLOWED:
        raise Refused(
            Reason.BEYOND_MEMORY,
            "key",
            f"it has followed {MOST_MERGES_FOLLOWED} merges, each of one customer into the next, "
            "which is as many as are followed; check what merges these customers",
        )
    return (*via, customer.customer_id)


def forwarded_to(customer: Customer, route: Route | None) -> tuple[str, tuple[str, ...]] | None:
    """Return the customer to whom an event must be sent on, and its path; None if it has arrived.

    An event follows a merge, or goes back if an erasure has undone the merge. While the two
    customers' records disagree, because a message between them has not arrived, the event goes back
    and forth, at most `MOST_TIMES_SENT_ON` times.
    """
    record = customer.record
    if not record.into and record.erased_at < 0:
        return None
    via = () if route is None or route.via is None else route.via
    if record.into:
        further = follow_merge(customer, via)
        return None if further is None else (record.into, further)
    if not via or via[-1] in {*record.absorbed, customer.customer_id}:
        return None
    sent_on = 0 if route is None else route.times
    return None if sent_on >= MOST_TIMES_SENT_ON else (via[-1], via[:-1])


def erase(
    batch: Batch,
    customer: Customer,
    until: int,
    at: Position,
    *,
    undo: bool = True,
    after: Silence | None = None,
) -> None:
    """Erase events up to a time, of this customer and of those merged into them.

    If nothing is left, and nobody was merged later, merges are undone. A customer who stays merged
    into another undoes none: only the other knows whether anything is left. undo: whether this
    customer's own merge may be undone. after: the silence before.
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
    stays_merged = bool(record.into) and not merge_undone
    lives = stays_merged or not is_empty(left) or _joined_after(record, until)
    keeper = record.into if stays_merged else customer.customer_id if lives else ""
    for name, merged in record.absorbed.items():
        _send(batch, [name], Erase(until, undo=not lives, keeper=keeper, at=merged.at))
    if not lives:
        record.absorbed = {}
    customer.take(left, config)
    if stays_merged:
        batch.keep(customer, at)
        return
    if lives:
        record.into, record.merged_at = "", -1
        batch.evaluate(customer, record.as_of, at, after=after)
        return
    customer.take(Aggregate(), config)
    record.as_of, record.into, record.merged_at = 0, "", -1
    batch.remove(customer, "erased", "", until, at, after=after)


def erase_merged(batch: Batch, customer: Customer, other: str) -> None:
    """Erase the other customer of a merge that happened before this customer's erasure.

    Both were one by then, so the erasure was of both, although the merge came to be known later.
    """
    batch.outputs.forgotten += 1
    via = (customer.customer_id,)
    _send(batch, [other], Erase(customer.record.erased_at, undo=False, via=via))


def be_erased(batch: Batch, customer: Customer, message: Erase, at: Position) -> None:
    """Do what another partition's erasure asks for, or send it on after a merge.

    Raises
    ------
    Refused
        if the message has followed too many merges.
    """
    record = customer.record
    if message.via and record.erased_at < message.until:
        via = follow_merge(customer, message.via)
        if via is not None:
            batch.outputs.accepted += 1
            _send(batch, [record.into], msgspec.structs.replace(message, via=via))
            return
    erase(batch, customer, message.until, at, undo=message.undo)
    if message.keeper not in ("", customer.customer_id) and not record.into:
        _close(batch, customer, message.keeper, message.at, at)


def _joined_after(record: CustomerRecord, moment: int) -> bool:
    """Return whether somebody was merged into the customer after a time, so that they exist."""
    return any(merged.at > moment for merged in record.absorbed.values())


def ask_for(batch: Batch, customer: Customer, data: CustomerMerged, merged_at: int) -> None:
    """Ask the merged customer's partition to hand over their state.

    Raises
    ------
    Refused
        if too many have been merged into this customer.
    """
    record, outputs = customer.record, batch.outputs
    if data.merged_from == customer.customer_id or data.merged_from in record.absorbed:
        outputs.duplicates += 1
        return
    if len(record.absorbed) >= MOST_MERGED or _merged_bytes(record.absorbed) >= MOST_MERGED_BYTES:
        raise _too_many_merged("data.customer_id", record.absorbed)
    outputs.accepted += 1
    _send(batch, [data.merged_from], Release(customer.customer_id, merged_at))


def hand_over(batch: Batch, customer: Customer, message: Release, at: Position) -> None:
    """Close this customer's record, and send its state to the customer who stays."""
    record, outputs = customer.record, batch.outputs
    if message.target in (customer.customer_id, record.into):
        outputs.duplicates += 1
        return
    outputs.accepted += 1
    if (via := follow_merge(customer, message.via)) is not None:
        _send(batch, [record.into], Release(message.target, message.at, via))
        return
    _close(batch, customer, message.target, message.at, at)


def _close(batch: Batch, customer: Customer, into: str, merged_at: int, at: Position) -> None:
    record = customer.record
    silence = batch.silence(customer, merged_at, at.here)
    record.as_of = record.as_of or merged_at
    record.into, record.merged_at = into, merged_at
    state = encode_message(_state(customer))
    batch.remove(customer, "merged", into, record.as_of, at, after=silence, handover=state)


def send_state(batch: Batch, customer: Customer) -> None:
    """Send the state of a closed record to the customer who stays."""
    state = encode_message(_state(customer))
    batch.outputs.handovers.append((customer.record.into.encode(), state))


def _state(customer: Customer) -> Absorb:
    record = customer.record
    merged = MergedCustomer(record.version, record.merged_at)
    return Absorb(
        customer.customer_id,
        record.aggregate,
        record.as_of,
        merged,
        dict(record.absorbed),
        erased_at=record.erased_at,
    )


def take_over(batch: Batch, customer: Customer, message: Absorb, at: Position) -> None:
    """Take over the state of a customer who was merged into this one.

    Raises
    ------
    Refused
        if too many have been merged into this one, or the message has followed too many merges; the
        other customer then continues separately.
    """
    record, outputs, config = customer.record, batch.outputs, batch.context.economics
    try:
        via = follow_merge(customer, message.via)
    except Refused:
        _send(batch, [message.source], Return(message.via[0], message.merged.at))
        raise
    if via is not None:
        _send(batch, [record.into], msgspec.structs.replace(message, via=via))
        outputs.accepted += 1
        return
    known = message.source in record.absorbed or _joined_after(record, record.erased_at)
    if message.merged.at <= record.erased_at and not known:
        # This customer was erased before the state arrived: erase the state where it came from.
        _send(batch, [message.source], Erase(record.erased_at))
        outputs.forgotten += 1
        return
    incoming = message.aggregate
    if record.erased_at >= 0:
        incoming = without(incoming, record.erased_at)
    join = merge if message.source in record.absorbed else absorb
    state = join(record.aggregate, incoming, config)
    absorbed = {**record.absorbed, **message.absorbed, message.source: message.merged}
    if len(absorbed) > MOST_MERGED or _merged_bytes(absorbed) > MOST_MERGED_BYTES:
        # Several handovers were in flight at once, or this one brought merged customers of its own.
        _send(batch, [message.source], Return(customer.customer_id, message.merged.at))
        raise _too_many_merged(None, record.absorbed)
    erases = message.erased_at > record.erased_at
    if (
        customer.present
        and state == record.aggregate
        and absorbed == record.absorbed
        and not erases
    ):
        outputs.duplicates += 1
        return
    # The merge is an event like others, at its own time.
    as_of = max(message.as_of, message.merged.at)
    silence = batch.silence(customer, as_of, at.here)
    record.absorbed = dict(sorted(absorbed.items()))
    record.as_of = max(record.as_of, as_of)
    customer.take(state, config)
    if erases:
        erase(batch, customer, message.erased_at, at, after=silence)
        return
    outputs.accepted += 1
    batch.evaluate(customer, as_of, at, "merge", after=silence)


def take_back(batch: Batch, customer: Customer, message: Return, at: Position) -> None:
    """Reopen this customer's record: the customer who was to take it over could not."""
    record = customer.record
    if record.into != message.source or record.merged_at != message.at:
        batch.outputs.duplicates += 1
        return
    batch.outputs.accepted += 1
    record.into, record.merged_at = "", -1
    batch.evaluate(customer, record.as_of, at, "merge")


def _merged_bytes(absorbed: Mapping[str, MergedCustomer]) -> int:
    return sum(len(name.encode()) + _MERGED_BYTES for name in absorbed)


def _too_many_merged(field: str | None, absorbed: Mapping[str, MergedCustomer]) -> Refused:
    return Refused(
        Reason.BEYOND_MEMORY,
        field,
        f"{len(absorbed)} customers with ids of {sum(map(len, absorbed))} characters have been "
        "merged into this one, which is as many as are remembered; the other stays a customer of "
        "its own. Check whether this id stands for somebody",
    )


def _send(batch: Batch, customers: Iterable[str], message: Message) -> None:
    encoded = encode_message(message)
    batch.outputs.messages += [(customer.encode(), encoded) for customer in customers]
