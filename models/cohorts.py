"""Customers by the month of their first order: what they brought, what winning them cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import date
from typing import NamedTuple

from models.aggregate.cancellations import cancelled_orders
from models.aggregate.past import known_since
from models.aggregate.state import Aggregate
from models.aggregate.summary import MILLION, Summary
from models.calendar import month_of
from models.economics import Economics, from_units
from models.events.refunds import order_of, recovered_goods
from models.events.tickets import contact_cost


class Cohort(NamedTuple):
    """The customers who ordered first in a month; money in the reporting currency.

    month: "2026-07"; empty for those without an order. realised: less the acquisition cost, as of
    a customer. paid_back: after how many months the cohort had earned its acquisition cost; None
    if it has not, or had none. by_month: what it had earned, before the acquisition cost, by the
    end of the first month, the second and so on. at_latest: customers of whom a part of what they
    earned is dated by its latest day, since it was compacted.
    """

    month: str
    customers: int
    realised: float
    expected: float
    acquisition_cost: float
    paid_back: int | None
    by_month: tuple[float, ...]
    at_latest: int


class Cohorts:
    """Sums over customers; money in units."""

    def __init__(self, economics: Economics) -> None:
        self.economics = economics
        self._sums: dict[int, _Sums] = {}

    def add(self, state: Aggregate, summary: Summary, clv: float) -> None:
        """Add a customer; clv: as published last."""
        config = self.economics
        month = month_of(summary.first_day) if summary.orders else _NONE
        sums = self._sums.setdefault(month, _Sums())
        net = summary.margin(config) - summary.support_cost
        sums.customers += 1
        sums.net += net
        sums.acquisition_cost += summary.acquisition_cost
        sums.expected += clv - from_units(net - summary.acquisition_cost)
        if month == _NONE:
            return
        earned = _by_month(state, config)
        if (since := known_since(state)) is not None:
            sums.at_latest += 1
            # What was compacted had been earned by then.
            earned[month_of(config.day(since))] += net * MILLION - earned.total()
        for number, amount in earned.items():
            sums.earned[max(number - month, 0)] += amount

    def cohorts(self, until: int) -> list[Cohort]:
        """Return the cohorts by month; until: the ordinal of the day up to which is summed."""
        last = month_of(until)
        return [_cohort(month, sums, last) for month, sums in sorted(self._sums.items())]


_NONE = -1


class _Sums:
    """earned: before the acquisition cost, by months since the first, in millionths of units."""

    def __init__(self) -> None:
        self.customers = self.net = self.acquisition_cost = self.at_latest = 0
        self.expected = 0.0
        self.earned: Counter[int] = Counter()


def _by_month(state: Aggregate, config: Economics) -> Counter[int]:
    """Return what the registers earned by month, in millionths of units."""
    earned: Counter[int] = Counter()
    void = cancelled_orders(state)
    for key, order in state.orders.items():
        if key not in void:
            day = config.day(order.time)
            gross = config.convert(order.gross, order.currency, day)
            if order.cost < 0:
                earned[month_of(day)] += gross * config.margin_millionths
            else:
                cost = config.convert(order.cost, order.currency, day)
                earned[month_of(day)] += (gross - cost) * MILLION
    for refund in state.refunds.values():
        if refund.order not in void:
            day = config.day(refund.time)
            amount = config.convert(refund.amount, refund.currency, day)
            back = recovered_goods(refund, order_of(state, refund), config)
            earned[month_of(day)] -= (amount - back) * MILLION
    for ticket in state.tickets.values():
        earned[month_of(config.day(ticket.first.time))] -= contact_cost(ticket, config) * MILLION
    return earned


def _cohort(month: int, sums: _Sums, last: int) -> Cohort:
    by_month = tuple(_cumulated(sums, last - month + 1)) if month != _NONE else ()
    cost = from_units(sums.acquisition_cost)
    paid = (number for number, sum_ in enumerate(by_month, 1) if sum_ >= cost)
    return Cohort(
        "" if month == _NONE else date(month // 12, month % 12 + 1, 1).isoformat()[:7],
        sums.customers,
        from_units(sums.net - sums.acquisition_cost),
        sums.expected,
        cost,
        next(paid, None) if cost else None,
        by_month,
        sums.at_latest,
    )


def _cumulated(sums: _Sums, months: int) -> Iterator[float]:
    total = 0
    for number in range(months):
        total += sums.earned[number]
        yield from_units(total // MILLION)
