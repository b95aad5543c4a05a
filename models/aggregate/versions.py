"""The versions of an order: the current one, and those that an erasure would bring back.

An erasure as of a time removes the versions up to it; of the later ones, the newest revision
counts. Example: revision 1 is dated June, revision 2 moves the order to May. Revision 2 is current,
but an erasure as of 31 May brings revision 1 back, so both are kept. A version that is no later
than a newer revision is dropped.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Final

from models.aggregate.registers import insert, no_time

if TYPE_CHECKING:
    from models.aggregate.state import Aggregate
    from models.events.orders import Order

MOST_SUPERSEDED: Final = 4
"""Versions of an order that are kept beside the current one."""


def frontier(versions: Iterable[Order]) -> tuple[Order, ...]:
    """Return the current version, then those that an erasure would bring back, in order of time."""
    kept: list[Order] = []
    for version in sorted(versions, key=_rank, reverse=True):
        if not kept or version.time > kept[-1].time:
            kept.append(version)
    return tuple(kept)


def versions_of(state: Aggregate, key: int) -> tuple[Order, ...]:
    """Return all kept versions of an order, the current one first; empty if it is unknown."""
    order = state.orders.get(key)
    return () if order is None else (order, *state.superseded.get(key, ()))


def set_versions(state: Aggregate, key: int, versions: tuple[Order, ...]) -> None:
    """Set the versions of an order, the current one first, in place."""
    insert(state.orders, key, versions[0], _time)
    if len(versions) > 1:
        insert(state.superseded, key, versions[1:], no_time)
    else:
        state.superseded.pop(key, None)


def _rank(order: Order) -> tuple[int, ...]:
    return order.rank


def _time(order: Order) -> int:
    return order.time
