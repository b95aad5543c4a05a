"""What two states remember, together."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

import msgspec

from models.aggregate.cancellations import forget_waiting, joined_cancellations, sort_out
from models.aggregate.entries import (
    acquisition_time,
    in_order,
    order_time,
    refund_time,
    ticket_time,
)
from models.aggregate.state import Aggregate, Settled, Ticket, newer
from models.aggregate.versions import MOST_SUPERSEDED, frontier, versions_of

MOST_ACQUISITIONS: Final = 1_000
"""Identities of one customer whose acquisition cost is remembered."""

_NOTHING: Final = Settled()


def believed_first(left: Aggregate, right: Aggregate) -> tuple[Aggregate, Aggregate]:
    """Both states, the one that settled more first."""
    return (right, left) if _settled_until(right) > _settled_until(left) else (left, right)


def _settled_until(state: Aggregate) -> tuple[Any, ...]:
    settled = state.settled or _NOTHING
    return settled.size, settled.orders_until, settled.refunds_until, settled.tickets_until


def unknown_to(believed: Aggregate, other: Aggregate) -> Aggregate:
    """Of another state of the customer, what cannot be in the sums of the one that is believed."""
    settled = believed.settled
    if settled is None:
        return other
    orders, superseded = {}, {}
    for key in other.orders:
        known = believed.orders.get(key)
        versions = versions_of(other, key)
        if known is not None:
            versions = tuple(
                version
                for version in versions
                if (version.time, key) > settled.orders_until or version.time >= known.time
            )
        elif (versions[0].time, key) <= settled.orders_until:
            continue
        if versions:
            orders[key] = versions[0]
        if versions[1:]:
            superseded[key] = versions[1:]
    return msgspec.structs.replace(
        other,
        orders=orders,
        superseded=superseded,
        refunds={
            key: refund
            for key, refund in other.refunds.items()
            if key in believed.refunds or (refund.time, key) > settled.refunds_until
        },
        tickets={
            key: ticket
            for key, ticket in other.tickets.items()
            if key in believed.tickets or _opened_later(settled, key, ticket)
        },
    )


def _opened_later(settled: Settled, key: int, ticket: Ticket) -> bool:
    if settled.tickets_until[0] < 0:
        return True
    return ticket.opened is not None and (ticket.opened.time, key) > settled.tickets_until


def joined(left: Aggregate, right: Aggregate) -> Aggregate:
    """Everything that two states remember, without their sums, leaving both as they are."""
    both = Aggregate(
        cancelled=joined_cancellations(left.cancelled, right.cancelled),
        refunds=in_order(_joined(left.refunds, right.refunds, newer), refund_time),
        tickets=in_order(_joined(left.tickets, right.tickets, _join_tickets), ticket_time),
        surveys=dict(sorted(_joined(left.surveys, right.surveys, newer).items())),
        acquisitions=in_order(
            _joined(left.acquisitions, right.acquisitions, newer), acquisition_time
        ),
    )
    _join_orders(both, left, right)
    return both


def _join_orders(both: Aggregate, left: Aggregate, right: Aggregate) -> None:
    for key in left.orders.keys() | right.orders.keys():
        winner, *superseded = frontier((*versions_of(left, key), *versions_of(right, key)))
        both.orders[key] = winner
        if superseded:
            both.superseded[key] = tuple(superseded[-MOST_SUPERSEDED:])
    both.orders = in_order(both.orders, order_time)
    both.superseded = dict(sorted(both.superseded.items()))


def join_settled_cancellations(settled: Settled, other: Settled) -> None:
    """Add the cancellations that another state knows of settled orders, in place."""
    settled.cancelled = joined_cancellations(settled.cancelled, other.cancelled)
    settled.cancellations_until = max(settled.cancellations_until, other.cancellations_until)


def tidy(state: Aggregate) -> None:
    """Put a joined state's cancellations where they belong, and keep it bounded, in place.

    Nothing can be refused here: of too many acquisitions the oldest are given up.
    """
    sort_out(state)
    forget_waiting(state)
    for key in list(state.acquisitions)[:-MOST_ACQUISITIONS]:
        del state.acquisitions[key]


def _joined(
    left: Mapping[Any, Any], right: Mapping[Any, Any], join: Callable[[Any, Any], Any]
) -> dict[Any, Any]:
    both = dict(left)
    for key, value in right.items():
        both[key] = join(both[key], value) if key in both else value
    return both


def _join_tickets(left: Ticket, right: Ticket) -> Ticket:
    return Ticket(
        newer(left.opened, right.opened),
        newer(left.resolved, right.resolved),
        newer(left.rated, right.rated),
    )
