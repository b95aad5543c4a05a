"""Cancellations: of remembered orders, of orders still to come, and of settled ones."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from models.aggregate.entries import in_order, insert
from models.aggregate.state import Aggregate, Settled
from models.economics import MOST_REMEMBERED

MOST_WAITING: Final = 2 * MOST_REMEMBERED
"""Cancellations without their order that an erasure or a merge may leave."""


def cancelled_orders(state: Aggregate) -> Collection[int]:
    """All orders that are known to be cancelled: what is refunded of them is void."""
    settled = state.settled
    if settled is None or not settled.cancelled:
        return state.cancelled
    return state.cancelled.keys() | settled.cancelled.keys()


def waiting(state: Aggregate) -> list[int]:
    """Cancellations whose order has not come, the oldest first."""
    return [key for key in state.cancelled if key not in state.orders]


def may_be_cancelled(state: Aggregate, order: int) -> bool:
    """Whether an order may be one whose cancellation was forgotten."""
    settled = state.settled
    return (
        settled is not None
        and settled.cancellations_until >= 0
        and order != 0
        and order not in state.orders
        and order not in state.cancelled
        and order not in settled.cancelled
    )


def note_cancelled(entries: dict[int, int], key: int, time: int) -> bool:
    """Note a cancellation, in place; whether that says more than what was known.

    The latest one is kept: whether there is one later than an erasure is what counts.
    """
    known = entries.get(key)
    if known is not None and known >= time:
        return False
    insert(entries, key, time, int)
    return True


def forget_settled(state: Aggregate, settled: Settled, most: int) -> None:
    """Of more than so many settled cancellations forget the oldest that no refund names."""
    _forget(state, settled, settled.cancelled, list(settled.cancelled), most)


def forget_waiting(state: Aggregate) -> None:
    """Of more than `MOST_WAITING` cancellations that wait, forget the oldest, in place."""
    candidates = waiting(state)
    if len(candidates) > MOST_WAITING:
        settled = state.settled = state.settled or Settled()
        _forget(state, settled, state.cancelled, candidates, MOST_WAITING)


def _forget(
    state: Aggregate, settled: Settled, entries: dict[int, int], candidates: list[int], most: int
) -> None:
    excess = len(candidates) - most
    if excess <= 0:
        return
    named = {refund.order for refund in state.refunds.values()}
    for key in [key for key in candidates if key not in named][:excess]:
        time = entries.pop(key)
        settled.cancellations_until = max(settled.cancellations_until, time)


def sort_out(state: Aggregate) -> None:
    """Have each cancellation with its order, where two states were joined, in place."""
    settled = state.settled
    if settled is None:
        return
    for key in [key for key in settled.cancelled if key in state.orders]:
        note_cancelled(state.cancelled, key, settled.cancelled.pop(key))
    for key in [key for key in waiting(state) if key in settled.cancelled]:
        note_cancelled(settled.cancelled, key, state.cancelled.pop(key))


def joined_cancellations(left: dict[int, int], right: dict[int, int]) -> dict[int, int]:
    """The cancellations of two states, the latest of each order, in order of time."""
    both = dict(left)
    for key, time in right.items():
        both[key] = max(both.get(key, time), time)
    return in_order(both, int)
