"""Entries of a kind, kept in order of (time, fingerprint), so that equal states are equal bytes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from models.aggregate.state import Acquisition, Order, Refund, Ticket

Value = TypeVar("Value")


def in_order(entries: dict[int, Value], time_of: Callable[[Value], int]) -> dict[int, Value]:
    """The entries in order of (time, key)."""
    return dict(sorted(entries.items(), key=lambda item: (time_of(item[1]), item[0])))


def insert(
    entries: dict[int, Value], key: int, value: Value, time_of: Callable[[Value], int]
) -> None:
    """Set an entry, in place, and keep the order.

    The newest is appended, and what keeps its time keeps its place: the usual cases. Anything else
    sorts all entries of the kind, which are nearly in order, and bounded in number.
    """
    known = entries.get(key)
    if known is not None:
        if time_of(known) == time_of(value):
            entries[key] = value
            return
        del entries[key]
    last = next(reversed(entries), None)
    entries[key] = value
    if last is not None and (time_of(entries[last]), last) > (time_of(value), key):
        ordered = in_order(entries, time_of)
        entries.clear()
        entries.update(ordered)


def order_time(order: Order) -> int:
    """When an order was placed."""
    return order.time


def refund_time(refund: Refund) -> int:
    """When a refund was given."""
    return refund.time


def ticket_time(ticket: Ticket) -> int:
    """When a contact was, as far as is known."""
    return ticket.first.time


def acquisition_time(acquisition: Acquisition) -> int:
    """When a customer was won."""
    return acquisition.time


def no_time(_value: Any) -> int:
    """For entries that are kept in order of their key alone."""
    return 0
