"""Erasure: a state without what happened until some time."""

from __future__ import annotations

from models.aggregate.cancellations import forget_waiting, joined_cancellations
from models.aggregate.entries import in_order, order_time, ticket_time
from models.aggregate.state import Aggregate, Settled, Ticket
from models.aggregate.versions import versions_of


def without(state: Aggregate, until: int) -> Aggregate:
    """The state as if every event with its own time at or before `until` had never been received.

    until: milliseconds since 1970. Settled sums cannot be told apart by time: they go as a whole,
    and their boundaries with them, so that later events that are sent again count again.
    """
    settled = state.settled
    left = Aggregate(
        cancelled={key: time for key, time in state.cancelled.items() if time > until},
        refunds={key: refund for key, refund in state.refunds.items() if refund.time > until},
        tickets=_tickets(state, until),
        surveys={kind: survey for kind, survey in state.surveys.items() if survey.time > until},
        acquisitions={key: cost for key, cost in state.acquisitions.items() if cost.time > until},
    )
    _leave_orders(left, state, until)
    if settled is not None:
        later = {key: time for key, time in settled.cancelled.items() if time > until}
        left.cancelled = joined_cancellations(left.cancelled, later)
        if settled.cancellations_until > until:
            left.settled = Settled(cancellations_until=settled.cancellations_until)
    forget_waiting(left)
    return left


def _leave_orders(left: Aggregate, state: Aggregate, until: int) -> None:
    left.orders = {key: order for key, order in state.orders.items() if order.time > until}
    for key in state.superseded:
        later = tuple(version for version in versions_of(state, key) if version.time > until)
        if later:
            left.orders[key] = later[0]
        if later[1:]:
            left.superseded[key] = later[1:]
    if state.superseded:
        left.orders = in_order(left.orders, order_time)


def is_empty(state: Aggregate) -> bool:
    """Whether a state knows of nothing."""
    return not (
        state.orders
        or state.cancelled
        or state.refunds
        or state.tickets
        or state.surveys
        or state.acquisitions
        or (state.settled is not None and state.settled.size)
    )


def _tickets(state: Aggregate, until: int) -> dict[int, Ticket]:
    left = {}
    for key, ticket in state.tickets.items():
        parts = [
            part if part is not None and part.time > until else None
            for part in (ticket.opened, ticket.resolved, ticket.rated)
        ]
        if any(parts):
            left[key] = Ticket(*parts)  # type: ignore[arg-type]
    return in_order(left, ticket_time)
