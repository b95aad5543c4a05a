"""Sums by the day of a customer's last year, from which rolling windows are read."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Final

from models.aggregate.cancellations import cancelled_orders
from models.aggregate.compacted import DayTotals
from models.aggregate.state import Aggregate
from models.calendar import EPOCH_ORDINAL, MILLISECONDS_A_DAY, utc_day
from models.currencies import HOME
from models.economics import Economics
from models.events.orders import Order
from models.events.refunds import compacted_goods, order_of, recovered_goods
from models.events.tickets import Ticket

Sums = tuple[int, int, int, int, int]
"""Orders, revenue net of refunds, margin of the orders that told their cost, revenue of the others,
and contacts; money in units of the reporting currency."""

NOTHING: Final[Sums] = (0, 0, 0, 0, 0)

_ORDERS, _REVENUE, _EARNED, _UNCOSTED, _CONTACTS = range(5)

MOST_DAYS: Final = 800
"""Days with an entry, after which it is time to leave out what is older than a year."""


class Daily:
    """Sums of the entries of each day after `since`, an ordinal, in the shop's calendar.

    days: those with an entry, in order. sums: of all entries up to each of these days.
    """

    __slots__ = ("days", "since", "sums")

    def __init__(self, state: Aggregate, since: int, config: Economics) -> None:
        self.since = since
        by_day: dict[int, list[int]] = {}
        void = cancelled_orders(state)
        self._add_orders(by_day, state.orders, void, config)
        if state.refunds:
            self._add_refunds(by_day, state, void, config)
        if state.tickets:
            self._add_tickets(by_day, state.tickets.values(), config)
        if state.compacted is not None:
            self._add_compacted(by_day, state.compacted.days, config)
        self.days: list[int] = sorted(by_day)
        self.sums: list[Sums] = []
        orders = revenue = earned = uncosted = contacts = 0
        for day in self.days:
            more = by_day[day]
            orders += more[_ORDERS]
            revenue += more[_REVENUE]
            earned += more[_EARNED]
            uncosted += more[_UNCOSTED]
            contacts += more[_CONTACTS]
            self.sums.append((orders, revenue, earned, uncosted, contacts))

    def add_order(self, day: int, gross: int, cost: int) -> bool:
        """Add an order; return False, and do nothing, if it must be built again instead.

        day: not before that of any other order. gross, cost: in the reporting currency; a cost of
        -1 is unknown.
        """
        last = self.days[-1] if self.days else self.since + 1
        if day < last or len(self.days) > MOST_DAYS:
            return False
        orders, revenue, earned, uncosted, contacts = self.sums[-1] if self.sums else NOTHING
        if cost < 0:
            uncosted += gross
        else:
            earned += gross - cost
        sums = orders + 1, revenue + gross, earned, uncosted, contacts
        if day == last and self.days:
            self.sums[-1] = sums
        else:
            self.days.append(day)
            self.sums.append(sums)
        return True

    def _add_orders(
        self,
        by_day: dict[int, list[int]],
        orders: dict[int, Order],
        void: Collection[int],
        config: Economics,
    ) -> None:
        """Add orders, which are in order of time; of the void ones none."""
        since, day_of, convert, home = self.since, config.day, config.convert, config.home
        in_utc = day_of is utc_day
        last, sums = 0, list[int]()
        for key, order in reversed(orders.items()):
            time = order.time
            # Written out: this is most of the work for who has many orders.
            day = time // MILLISECONDS_A_DAY + EPOCH_ORDINAL if in_utc else day_of(time)
            if day != last:
                if day < since:
                    break
                if day == since:
                    continue
                last, sums = day, _of(by_day, day)
            if void and key in void:
                continue
            gross, cost, currency = order.gross, order.cost, order.currency
            if currency not in (HOME, home):
                gross = convert(gross, currency, day)
                cost = cost if cost < 0 else convert(cost, currency, day)
            sums[_ORDERS] += 1
            sums[_REVENUE] += gross
            if cost < 0:
                sums[_UNCOSTED] += gross
            else:
                sums[_EARNED] += gross - cost

    def _add_refunds(
        self,
        by_day: dict[int, list[int]],
        state: Aggregate,
        void: Collection[int],
        config: Economics,
    ) -> None:
        for refund in state.refunds.values():
            day = config.day(refund.time)
            if day > self.since and refund.order not in void:
                sums = _of(by_day, day)
                amount = config.convert(refund.amount, refund.currency, day)
                sums[_REVENUE] -= amount
                sums[_EARNED] -= amount - recovered_goods(refund, order_of(state, refund), config)

    def _add_tickets(
        self, by_day: dict[int, list[int]], tickets: Iterable[Ticket], config: Economics
    ) -> None:
        for ticket in tickets:
            day = config.day(ticket.first.time)
            if day > self.since:
                _of(by_day, day)[_CONTACTS] += 1

    def _add_compacted(
        self, by_day: dict[int, list[int]], days: Mapping[int, DayTotals], config: Economics
    ) -> None:
        convert, home = config.convert, (HOME, config.home)
        for day, totals in days.items():
            if day <= self.since:
                continue
            sums = _of(by_day, day)
            sums[_ORDERS] += totals.orders
            sums[_CONTACTS] += totals.contacts
            for currency, money in totals.money.items():
                gross, uncosted, cost = money.gross, money.uncosted, money.cost
                refunded = money.refunded
                if currency not in home:
                    gross, uncosted = (
                        convert(gross, currency, day),
                        convert(uncosted, currency, day),
                    )
                    cost, refunded = convert(cost, currency, day), convert(refunded, currency, day)
                sums[_REVENUE] += gross - refunded
                sums[_UNCOSTED] += uncosted
                sums[_EARNED] += gross - uncosted - cost - refunded
                if money.returned or money.returned_cost or money.recovered:
                    sums[_EARNED] += compacted_goods(money, currency, day, config)


def _of(by_day: dict[int, list[int]], day: int) -> list[int]:
    sums = by_day.get(day)
    if sums is None:
        sums = by_day[day] = [0] * 5
    return sums
