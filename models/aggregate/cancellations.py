"""Cancellations of orders in registers, of compacted orders, and of orders not yet received."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

from models.aggregate.compacted import Compacted
from models.aggregate.registers import in_order, insert
from models.economics import MOST_REMEMBERED

if TYPE_CHECKING:
    from models.aggregate.state import Aggregate

MOST_WAITING: Final = 2 * MOST_REMEMBERED
"""How many cancellations without their order an erasure or a merge may leave."""


def cancelled_orders(state: Aggregate) -> Collection[int]:
    """Return the keys of all cancelled orders; refunds of them are void.

    An order that was placed again by a later word than the cancellation counts again.
    """
    compacted, orders = state.compacted, state.orders
    if not state.cancelled:
        return () if compacted is None else compacted.cancelled
    cancelled = {
        key
        for key, at in state.cancelled.items()
        if (order := orders.get(key)) is None or order.said <= at
    }
    if compacted is not None:
        cancelled |= compacted.cancelled.keys()
    return cancelled


def waiting(state: Aggregate) -> list[int]:
    """Return the cancellations whose order has not been received, the oldest first."""
    return [key for key in state.cancelled if key not in state.orders]


def may_be_cancelled(state: Aggregate, order: int) -> bool:
    """Return whether this order's cancellation may be among those that were dropped."""
    compacted = state.compacted
    return (
        compacted is not None
        and compacted.cancellations_until >= 0
        and order != 0
        and order not in state.orders
        and order not in state.cancelled
        and order not in compacted.cancelled
    )


def note_cancelled(entries: dict[int, int], key: int, time: int) -> bool:
    """Note a cancellation, in place; return whether it is later than the one known.

    The latest one is kept, because it decides whether a cancellation outlives an erasure.
    """
    known = entries.get(key)
    if known is not None and known >= time:
        return False
    insert(entries, key, time, int)
    return True


def forget_compacted(state: Aggregate, compacted: Compacted, most: int) -> None:
    """Drop the oldest cancellations of compacted orders above `most`, except those with refunds."""
    _forget(state, compacted, compacted.cancelled, list(compacted.cancelled), most)


def forget_waiting(state: Aggregate) -> None:
    """Drop the oldest cancellations without an order above `MOST_WAITING`, in place."""
    candidates = waiting(state)
    if len(candidates) > MOST_WAITING:
        compacted = state.compacted = state.compacted or Compacted()
        _forget(state, compacted, state.cancelled, candidates, MOST_WAITING)


def _forget(
    state: Aggregate,
    compacted: Compacted,
    entries: dict[int, int],
    candidates: list[int],
    most: int,
) -> None:
    excess = len(candidates) - most
    if excess <= 0:
        return
    named = {refund.order for refund in state.refunds.values()}
    for key in [key for key in candidates if key not in named][:excess]:
        time = entries.pop(key)
        compacted.cancellations_until = max(compacted.cancellations_until, time)


def sort_out(state: Aggregate) -> None:
    """Move each cancellation to where its order is, after two states were joined, in place."""
    compacted = state.compacted
    if compacted is None:
        return
    for key in [key for key in compacted.cancelled if key in state.orders]:
        note_cancelled(state.cancelled, key, compacted.cancelled.pop(key))
    for key in [key for key in waiting(state) if key in compacted.cancelled]:
        note_cancelled(compacted.cancelled, key, state.cancelled.pop(key))


def joined_cancellations(left: dict[int, int], right: dict[int, int]) -> dict[int, int]:
    """Return the cancellations of two states, the latest of each order, in order of time."""
    both = dict(left)
    for key, time in right.items():
        both[key] = max(both.get(key, time), time)
    return in_order(both, int)


def cancellations_without(state: Aggregate, until: int) -> dict[int, int]:
    """Return all cancellations later than a time, those of compacted orders included."""
    compacted = {} if state.compacted is None else state.compacted.cancelled
    later = [
        {key: time for key, time in each.items() if time > until}
        for each in (state.cancelled, compacted)
    ]
    return joined_cancellations(*later) if compacted else later[0]


def join_compacted_cancellations(compacted: Compacted, other: Compacted) -> None:
    """Add another state's cancellations of compacted orders, in place."""
    compacted.cancelled = joined_cancellations(compacted.cancelled, other.cancelled)
    compacted.cancellations_until = max(compacted.cancellations_until, other.cancellations_until)
