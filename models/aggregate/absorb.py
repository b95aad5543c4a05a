"""Joining the states of two identities that turned out to be one customer.

Two states of one identity are joined by `fold.merge`, which believes that what one has settled the
other has too. Two identities have each settled their own: their sums are added.
"""

from __future__ import annotations

from copy import deepcopy

from models.aggregate.fold import merge
from models.aggregate.settle import add_order, add_refund, add_ticket, prune_days
from models.aggregate.state import Aggregate, DayTotals, Settled
from models.economics import Economics

_SUMS = (
    "orders", "gross", "uncosted", "cost", "refunds", "refunded", "recovered", "contacts",
    "complaints", "support_cost",
)  # fmt: skip


def absorb(state: Aggregate, other: Aggregate, config: Economics) -> Aggregate:
    """The state of one customer who was known as two, leaving both arguments as they are.

    Exact when neither has settled anything. Otherwise sums are exact, and purchase days on which
    both identities bought, more than a year before the last settled one, count for each.
    """
    if state.settled is None and other.settled is None:
        return merge(state, other, config)
    settled = _added(state.settled or Settled(), other.settled or Settled())
    left, right = (_with_settled(each, settled, config) for each in (state, other))
    prune_days(settled)
    return merge(left, right, config)


def _with_settled(state: Aggregate, settled: Settled, config: Economics) -> Aggregate:
    """The remembered entries of a state; those within the common boundaries go into the sums."""
    kept = Aggregate(
        cancelled=state.cancelled, surveys=state.surveys, acquisitions=state.acquisitions,
        settled=settled,
    )  # fmt: skip
    for key, order in state.orders.items():
        if (order.time, key) > settled.orders_until:
            kept.orders[key] = order
        elif key not in state.cancelled:
            add_order(settled, order)
    for key, refund in state.refunds.items():
        if (refund.time, key) > settled.refunds_until:
            kept.refunds[key] = refund
        elif refund.order not in state.cancelled:
            add_refund(settled, refund)
    for key, ticket in state.tickets.items():
        if (ticket.first.time, key) > settled.tickets_until:
            kept.tickets[key] = ticket
        else:
            add_ticket(settled, ticket, config)
    return kept


def _added(left: Settled, right: Settled) -> Settled:
    both = deepcopy(left)
    for name in _SUMS:
        setattr(both, name, getattr(left, name) + getattr(right, name))
    for name in ("orders_until", "refunds_until", "tickets_until", "last_complaint"):
        setattr(both, name, max(getattr(left, name), getattr(right, name)))
    for day, totals in right.days.items():
        held = both.days.get(day, DayTotals())
        both.days[day] = DayTotals(
            *(
                getattr(held, field) + getattr(totals, field)
                for field in DayTotals.__struct_fields__
            )
        )
    both.days = dict(sorted(both.days.items()))
    if left.orders and right.orders:
        shared = sum(
            1
            for day, totals in left.days.items()
            if totals.orders and day in right.days and right.days[day].orders
        )
        both.purchase_days = left.purchase_days + right.purchase_days - shared
        first = min(left, right, key=lambda settled: settled.first_day)
        both.first_day, both.first_day_gross = first.first_day, first.first_day_gross
        if left.first_day == right.first_day:
            both.first_day_gross = left.first_day_gross + right.first_day_gross
        both.last_day = max(left.last_day, right.last_day)
    elif right.orders:
        for name in ("purchase_days", "first_day", "first_day_gross", "last_day"):
            setattr(both, name, getattr(right, name))
    return both
