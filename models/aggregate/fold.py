"""The algebra of aggregates: fold an event, merge two states, erase events up to a time.

Every event becomes one register under a fingerprint of its (source, id), and the newer of two
registers wins. Therefore the same events give the same state in any order, with any duplicates, and
split and merged in any way, as long as nothing was compacted. After a compaction, an event that may
be a duplicate, or that would change compacted sums, is refused as too old.

Each kind of event has its file in `models/events/`.
"""

from __future__ import annotations

from copy import deepcopy
from typing import Any, Final

import msgspec

from models.aggregate.cancellations import (
    forget_compacted,
    forget_waiting,
    join_compacted_cancellations,
)
from models.aggregate.compacted import Compacted
from models.aggregate.state import Aggregate
from models.calendar import milliseconds
from models.economics import Economics
from models.events.acquisitions import ACQUISITIONS
from models.events.envelope import Envelope
from models.events.kinds import EVENTS, Effect, Entries
from models.events.orders import ORDERS
from models.events.refunds import REFUNDS, forget_sold
from models.events.surveys import SURVEYS
from models.events.tickets import TICKETS

__all__ = [
    "Effect",
    "compact_all",
    "fold",
    "is_empty",
    "joined",
    "merge",
    "milliseconds",
    "without",
]

ENTRIES: Final[tuple[Entries, ...]] = (ORDERS, REFUNDS, TICKETS, SURVEYS, ACQUISITIONS)
"""Every kind of entry, in the order of compaction: orders come before refunds."""

_NOTHING: Final = Compacted()


def fold(
    state: Aggregate, event: Envelope, config: Economics, occurred: int | None = None
) -> Effect:
    """Fold one event into a state, in place.

    occurred: the event's own time in milliseconds since 1970, if the caller has computed it.
    """
    time = milliseconds(event.data.occurred_at) if occurred is None else occurred
    do = EVENTS[event.type].fold
    if do is None:
        raise TypeError(f"{event.type} concerns identities; it is not folded into a state")
    return do(state, event, time, config)


def merge(left: Aggregate, right: Aggregate, config: Economics) -> Aggregate:
    """Return the state of both sets of events together; neither argument is changed.

    If both states are compacted, the one that compacted more wins: events of the other at or before
    its boundaries count as contained in its sums. This is exact if one state continues the other.
    """
    believed, other = _believed_first(left, right)
    merged = joined(believed, _unknown_to(believed, other))
    if believed.compacted is not None:
        merged.compacted = deepcopy(believed.compacted)
    if other.compacted is not None:
        merged.compacted = merged.compacted or Compacted()
        join_compacted_cancellations(merged.compacted, other.compacted)
        merged.compacted.sold = {**other.compacted.sold, **merged.compacted.sold}
    compact_all(merged, config)
    return merged


def joined(left: Aggregate, right: Aggregate) -> Aggregate:
    """Return the registers of two states together, without sums; neither argument is changed."""
    fields: dict[str, Any] = {}
    for kind in ENTRIES:
        fields |= kind.joined(left, right)
    return Aggregate(**fields)


def without(state: Aggregate, until: int) -> Aggregate:
    """Return the state without every event whose own time is at or before `until`.

    until: milliseconds since 1970. Compacted sums cannot be split by time: they are dropped as a
    whole, with their boundaries, so that later events count again when they are sent again.
    """
    fields: dict[str, Any] = {}
    for kind in ENTRIES:
        fields |= kind.without(state, until)
    left = Aggregate(**fields)
    compacted = state.compacted
    if compacted is not None and compacted.cancellations_until > until:
        left.compacted = Compacted(cancellations_until=compacted.cancellations_until)
    forget_waiting(left)
    return left


def is_empty(state: Aggregate) -> bool:
    """Return whether a state holds no events."""
    compacted = state.compacted
    known = any(getattr(state, kind.field) for kind in ENTRIES) or state.cancelled
    return not known and (compacted is None or not compacted.size)


def compact_all(state: Aggregate, config: Economics) -> None:
    """Compact or drop what exceeds the bounds of a joined state, in place."""
    for kind in ENTRIES:
        kind.tidy(state)
    for kind in ENTRIES:
        kind.compact(state, config)
    if state.compacted is not None:
        forget_compacted(state, state.compacted, config.remembered)
        forget_sold(state, state.compacted)


def _believed_first(left: Aggregate, right: Aggregate) -> tuple[Aggregate, Aggregate]:
    """Return both states, the one that compacted more first."""
    return (right, left) if _compacted_until(right) > _compacted_until(left) else (left, right)


def _compacted_until(state: Aggregate) -> tuple[Any, ...]:
    compacted = state.compacted or _NOTHING
    return compacted.size, compacted.orders_until, compacted.refunds_until, compacted.tickets_until


def _unknown_to(believed: Aggregate, other: Aggregate) -> Aggregate:
    """Return the entries of `other` that cannot be in the sums of `believed`."""
    if believed.compacted is None:
        return other
    fields: dict[str, Any] = {}
    for kind in ENTRIES:
        fields |= kind.unknown_to(believed, other, believed.compacted)
    return msgspec.structs.replace(other, **fields)
