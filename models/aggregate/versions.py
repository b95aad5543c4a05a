"""The versions of an order: the one that counts, and those that an erasure would bring back.

An erasure as of a time leaves the versions that are later, and of these the one of the highest rank
counts. So beside the winner those are kept of which none of higher rank is as late. There are some
only where a revision moved an order back in time.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from models.aggregate.entries import insert, no_time, order_time
from models.aggregate.state import Aggregate, Order

MOST_SUPERSEDED: Final = 4
"""Versions of an order that are kept beside the one that counts."""


def frontier(versions: Iterable[Order]) -> tuple[Order, ...]:
    """The version that counts, and then those that it does not make obsolete, ever later."""
    kept: list[Order] = []
    for version in sorted(versions, reverse=True):
        if not kept or version.time > kept[-1].time:
            kept.append(version)
    return tuple(kept)


def versions_of(state: Aggregate, key: int) -> tuple[Order, ...]:
    """What is kept of a remembered order, or nothing."""
    order = state.orders.get(key)
    return () if order is None else (order, *state.superseded.get(key, ()))


def set_versions(state: Aggregate, key: int, versions: tuple[Order, ...]) -> None:
    """Keep these versions of an order, in place."""
    insert(state.orders, key, versions[0], order_time)
    if len(versions) > 1:
        insert(state.superseded, key, versions[1:], no_time)
    else:
        state.superseded.pop(key, None)
