"""Customers who are erased, and customers who are merged."""

from __future__ import annotations

from collections.abc import Iterable

from models.aggregate.absorb import absorb
from models.aggregate.erase import is_empty, without
from models.aggregate.fold import merge
from models.aggregate.state import Aggregate
from models.contracts import CustomerMerged
from models.customers import Batch, Customer
from models.identity import Absorb, Erase, Message, Release, closes_circle, encode_message


def onward(customer: Customer, via: tuple[str, ...]) -> tuple[str, ...] | None:
    """The way of what is for a merged customer and must follow; None when it has arrived.

    Where merges have made a circle, one customer of it takes everything from now on.
    """
    if not customer.record.into:
        return None
    if closes_circle(customer.customer_id, customer.record.into, via):
        customer.record.into = ""
        return None
    return (*via, customer.customer_id)


def erase(batch: Batch, customer: Customer, until: int, offset: int) -> None:
    """Forget what happened until some time, here and in whoever was merged into this customer."""
    record, outputs = customer.record, batch.outputs
    if record.erased_at >= until:
        outputs.duplicates += 1
        return
    outputs.accepted += 1
    _tell(batch, record.absorbed, Erase(until))
    record.absorbed.clear()
    record.erased_at = until
    left = without(record.aggregate, until)
    if customer.present and not is_empty(left):
        customer.take(left, batch.context.economics)
        batch.evaluate(customer, record.as_of, offset)
        return
    customer.take(Aggregate(), batch.context.economics)
    record.applied.clear()
    record.as_of, record.into = 0, ""
    batch.remove(customer, "erased", "", until, offset)
    batch.remember_erasure(customer)


def ask_for(batch: Batch, customer: Customer, data: CustomerMerged, merged_at: int) -> None:
    """Ask the customer who goes for everything that is known of them."""
    record, outputs = customer.record, batch.outputs
    if data.merged_from == customer.customer_id or data.merged_from in record.absorbed:
        outputs.duplicates += 1
        return
    outputs.accepted += 1
    _tell(batch, [data.merged_from], Release(customer.customer_id, merged_at))


def hand_over(batch: Batch, customer: Customer, message: Release, offset: int) -> None:
    """Send everything that is known of this customer to the one who stays, now and from now on."""
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
    as_of = record.as_of or message.at
    state = Absorb(
        customer.customer_id, record.aggregate, as_of, record.version, dict(record.absorbed)
    )
    _tell(batch, [message.target], state)
    customer.take(Aggregate(), batch.context.economics)
    record.absorbed.clear()
    record.applied[batch.origin] = offset
    record.as_of, record.into = 0, message.target
    batch.remove(customer, "merged", message.target, as_of, offset)


def take_over(batch: Batch, customer: Customer, message: Absorb, offset: int) -> None:
    """Take the state of a customer who turned out to be this one."""
    record, outputs, config = customer.record, batch.outputs, batch.context.economics
    if (via := onward(customer, message.via)) is not None:
        onwards = Absorb(
            message.source,
            message.aggregate,
            message.as_of,
            message.version,
            message.absorbed,
            via,
        )
        _tell(batch, [record.into], onwards)
        outputs.accepted += 1
        return
    incoming = message.aggregate
    if record.erased_at >= 0:
        incoming = without(incoming, record.erased_at)
        if not customer.present and is_empty(incoming):
            # Erased before the state arrived: the erasure follows to where it came from.
            _tell(batch, [message.source, *message.absorbed], Erase(record.erased_at))
            outputs.forgotten += 1
            return
    join = merge if message.source in record.absorbed else absorb
    state = join(record.aggregate, incoming, config)
    absorbed = {**record.absorbed, **message.absorbed, message.source: message.version}
    if customer.present and state == record.aggregate and absorbed == record.absorbed:
        outputs.duplicates += 1
        return
    outputs.accepted += 1
    record.absorbed = dict(sorted(absorbed.items()))
    customer.take(state, config)
    batch.evaluate(customer, message.as_of, offset)


def _tell(batch: Batch, customers: Iterable[str], message: Message) -> None:
    encoded = encode_message(message)
    batch.outputs.messages += [(customer.encode(), encoded) for customer in customers]
