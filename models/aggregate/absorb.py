"""Join the states of two identities that turned out to be one customer.

`fold.merge` joins two states of one identity: their compacted sums cover the same events. Two
identities have compacted different events, so here the sums are added.
"""

from __future__ import annotations

from collections import Counter
from copy import deepcopy

from models.aggregate.cancellations import join_compacted_cancellations
from models.aggregate.compacted import (
    CEILING,
    Compacted,
    DayTotals,
    add_money,
    add_months,
    prune,
)
from models.aggregate.fold import ENTRIES, compact_all, joined, merge
from models.aggregate.state import Aggregate
from models.calendar import month_of
from models.economics import Economics
from models.events.orders import compact_order

_SUMS = ("orders", "refunds", "contacts", "complaints", "decaminutes")


def absorb(state: Aggregate, other: Aggregate, config: Economics) -> Aggregate:
    """Return the joined state of two identities; neither argument is changed.

    The result is exact if neither state is compacted. Otherwise two things count twice: a purchase
    day of both identities more than a year before the last compacted one, and an event that was
    sent under both identities and is compacted in only one of them.
    """
    if state.compacted is None and other.compacted is None:
        return merge(state, other, config)
    compacted = _added(state.compacted or Compacted(), other.compacted or Compacted(), config)
    both = joined(state, other)
    both.compacted = compacted
    for kind in ENTRIES:
        kind.tidy(both)
    # Purchase days are counted in order of time: no register may be older than a compacted order.
    until = compacted.orders_until
    for key in [key for key, order in both.orders.items() if (order.time, key) <= until]:
        compact_order(both, compacted, key, config)
    compact_all(both, config)
    prune(compacted)
    return both


def _added(left: Compacted, right: Compacted, config: Economics) -> Compacted:
    both = deepcopy(left)
    for name in _SUMS:
        setattr(both, name, min(getattr(left, name) + getattr(right, name), CEILING))
    for name in ("orders_until", "refunds_until", "tickets_until", "last_complaint"):
        setattr(both, name, max(getattr(left, name), getattr(right, name)))
    for currency, money in right.money.items():
        add_money((both.money,), currency, money, right.last_day, config)
    for channel, contacts in right.by_channel.items():
        both.by_channel[channel] = min(both.by_channel.get(channel, 0) + contacts, CEILING)
    both.by_channel = dict(sorted(both.by_channel.items()))
    for day, totals in right.days.items():
        held = both.days.setdefault(day, DayTotals())
        held.orders = min(held.orders + totals.orders, CEILING)
        held.contacts = min(held.contacts + totals.contacts, CEILING)
        for currency, money in totals.money.items():
            add_money((held.money,), currency, money, day, config)
    both.days = dict(sorted(both.days.items()))
    join_compacted_cancellations(both, right)
    both.sold = {**right.sold, **both.sold}
    add_months(both, right.months)
    if left.orders and right.orders:
        shared = [
            day
            for day, totals in left.days.items()
            if totals.orders and day in right.days and right.days[day].orders
        ]
        both.purchase_days = min(left.purchase_days + right.purchase_days, CEILING) - len(shared)
        for day in shared:
            both.months[month_of(day)] -= 1
        first = min(left, right, key=lambda compacted: compacted.first_day)
        both.first_day, both.first_day_gross = first.first_day, dict(first.first_day_gross)
        if left.first_day == right.first_day:
            gross = Counter(left.first_day_gross) + Counter(right.first_day_gross)
            both.first_day_gross = {key: min(gross[key], CEILING) for key in sorted(gross)}
        both.last_day = max(left.last_day, right.last_day)
    elif right.orders:
        for name in ("purchase_days", "first_day", "first_day_gross", "last_day"):
            setattr(both, name, deepcopy(getattr(right, name)))
    return both
