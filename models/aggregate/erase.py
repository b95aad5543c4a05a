"""Erasure: a state without what happened until some time."""

from __future__ import annotations

from models.aggregate.state import Aggregate, Settled, Ticket


def without(state: Aggregate, until: int) -> Aggregate:
    """What is left of a state when everything until then is forgotten, as if it had never come.

    until: milliseconds since 1970. Sums that were settled cannot be told apart by time and go as a
    whole; their boundaries stay, so that what they counted is still recognised as old.
    """
    return Aggregate(
        orders={key: order for key, order in state.orders.items() if order.time > until},
        cancelled={key: time for key, time in state.cancelled.items() if time > until},
        refunds={key: refund for key, refund in state.refunds.items() if refund.time > until},
        tickets=_tickets(state, until),
        surveys={kind: survey for kind, survey in state.surveys.items() if survey.time > until},
        acquisitions={key: cost for key, cost in state.acquisitions.items() if cost.time > until},
        settled=_boundaries(state.settled, until),
    )


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
    return dict(sorted(left.items(), key=lambda item: (item[1].first.time, item[0])))


def _boundaries(settled: Settled | None, until: int) -> Settled | None:
    if settled is None:
        return None
    kept = Settled(
        orders_until=settled.orders_until,
        refunds_until=settled.refunds_until,
        tickets_until=settled.tickets_until,
    )
    newest = max(kept.orders_until[0], kept.refunds_until[0], kept.tickets_until[0])
    return kept if newest > until else None
