"""Joining the states of two identities that turned out to be one customer.

Two states of one identity are joined by `fold.merge`, which believes that what one has settled the
other has too. Two identities have each settled their own: their sums are added.
"""

from __future__ import annotations

from copy import deepcopy

from models.aggregate.fold import merge
from models.aggregate.join import join_settled_cancellations, joined, tidy
from models.aggregate.settle import CEILING, prune_days, settle_all, settle_order
from models.aggregate.state import Aggregate, DayTotals, Settled
from models.economics import Economics

_SUMS = (
    "orders", "gross", "uncosted", "cost", "refunds", "refunded", "recovered", "contacts",
    "complaints", "support_cost",
)  # fmt: skip


def absorb(state: Aggregate, other: Aggregate, config: Economics) -> Aggregate:
    """The state of one customer who was known as two, leaving both arguments as they are.

    Exact when neither has settled anything. Otherwise sums are exact, except that purchase days on
    which both identities bought, more than a year before the last settled one, count for each. What
    one remembers and the other has settled, having been sent under both identities, counts twice.
    """
    if state.settled is None and other.settled is None:
        return merge(state, other, config)
    settled = _added(state.settled or Settled(), other.settled or Settled())
    both = joined(state, other)
    both.settled = settled
    tidy(both)
    # Days count in the order of orders: none that is remembered may lie before a settled one.
    until = settled.orders_until
    for key in [key for key, order in both.orders.items() if (order.time, key) <= until]:
        settle_order(both, settled, key)
    settle_all(both, config)
    prune_days(settled)
    return both


def _added(left: Settled, right: Settled) -> Settled:
    both = deepcopy(left)
    for name in _SUMS:
        setattr(both, name, min(getattr(left, name) + getattr(right, name), CEILING))
    for name in ("orders_until", "refunds_until", "tickets_until", "last_complaint"):
        setattr(both, name, max(getattr(left, name), getattr(right, name)))
    for day, totals in right.days.items():
        held = both.days.get(day, DayTotals())
        both.days[day] = DayTotals(
            *(
                min(getattr(held, field) + getattr(totals, field), CEILING)
                for field in DayTotals.__struct_fields__
            )
        )
    both.days = dict(sorted(both.days.items()))
    join_settled_cancellations(both, right)
    if left.orders and right.orders:
        shared = sum(
            1
            for day, totals in left.days.items()
            if totals.orders and day in right.days and right.days[day].orders
        )
        both.purchase_days = min(left.purchase_days + right.purchase_days, CEILING) - shared
        first = min(left, right, key=lambda settled: settled.first_day)
        both.first_day, both.first_day_gross = first.first_day, first.first_day_gross
        if left.first_day == right.first_day:
            gross = left.first_day_gross + right.first_day_gross
            both.first_day_gross = min(gross, CEILING)
        both.last_day = max(left.last_day, right.last_day)
    elif right.orders:
        for name in ("purchase_days", "first_day", "first_day_gross", "last_day"):
            setattr(both, name, getattr(right, name))
    return both
