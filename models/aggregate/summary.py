"""Sums and statistics of an aggregate, from which value and segments are computed."""

from __future__ import annotations

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Collection
from typing import Final, NamedTuple

from models.aggregate.cancellations import cancelled_orders
from models.aggregate.compacted import Compacted
from models.aggregate.daily import Daily
from models.aggregate.state import Aggregate
from models.calendar import EPOCH_ORDINAL, MILLISECONDS_A_DAY, month_of, utc_day
from models.currencies import HOME
from models.economics import Economics
from models.events.orders import Order
from models.events.refunds import Refund, compacted_goods, order_of, recovered_goods
from models.events.tickets import contact_cost, is_complaint

MILLION = 1_000_000

RETURN_PERIOD = 30 * 86_400_000
"""Milliseconds after an order within which a full refund makes it a return."""


class Returned(NamedTuple):
    """Orders that were returned: refunded in full soon after. They say nothing of future orders.

    Of the remembered orders and refunds; a compacted one is no return. Money in units. days:
    purchase days that had no other order.
    """

    days: int = 0
    gross: int = 0
    uncosted: int = 0
    cost: int = 0


class Complained(NamedTuple):
    """Purchase days that were followed by a complaint before the next one, among those remembered.

    before: of all but the last. first: whether the first is among these. last: whether a complaint
    followed the last purchase day.
    """

    before: int = 0
    first: int = 0
    last: int = 0


_NONE_RETURNED, _NONE_COMPLAINED = Returned(), Complained()


SUMS: Final = (
    "acquisition_cost",
    "complained",
    "complaints",
    "contacts",
    "cost",
    "first_day",
    "first_day_gross",
    "gross",
    "last_complaint",
    "last_day",
    "months",
    "orders",
    "purchase_days",
    "recovered",
    "refunded",
    "refunds",
    "returned",
    "support_cost",
    "uncosted",
)
"""What a summary has; compiled, a class does not say it."""


class Summary:
    """Sums over one aggregate; money in units, days as ordinals.

    months: purchase days by calendar month, see `models.calendar.month_of`.

    `add_order` updates it for the usual event, a new order that is the latest so far, without
    reading all registers again. daily: sums by the day, once somebody has asked for windows.
    """

    __slots__ = (*SUMS, "daily")

    def __init__(self, state: Aggregate, config: Economics) -> None:
        self.daily: Daily | None = None
        self.acquisition_cost = 0
        self.orders = self.purchase_days = self.first_day = self.last_day = 0
        self.first_day_gross = self.gross = self.uncosted = self.cost = 0
        self.months: dict[int, int] = {}
        self.refunds = self.refunded = self.recovered = 0
        self.contacts = self.complaints = self.last_complaint = self.support_cost = 0
        self.returned, self.complained = _NONE_RETURNED, _NONE_COMPLAINED
        if not (
            state.orders or state.refunds or state.tickets or state.acquisitions or state.compacted
        ):
            return
        if state.compacted is not None:
            self._start_from(state.compacted, config)
        for acquisition in state.acquisitions.values():
            self.acquisition_cost += config.convert(
                acquisition.cost, acquisition.currency, config.day(acquisition.time)
            )
        void = cancelled_orders(state)
        self._add_orders(
            [order for key, order in state.orders.items() if key not in void]
            if state.cancelled
            else state.orders.values(),
            state.compacted,
            config,
        )
        for refund in state.refunds.values():
            if refund.order not in void:
                self.refunds += 1
                self.refunded += config.convert(
                    refund.amount, refund.currency, config.day(refund.time)
                )
                self.recovered += recovered_goods(refund, order_of(state, refund), config)
        if state.refunds:
            self.returned = _returned(state, void, config)
        for ticket in state.tickets.values():
            self.contacts += 1
            self.support_cost += contact_cost(ticket, config)
            if ticket.opened is not None and is_complaint(ticket.opened, config):
                self.complaints += 1
                self.last_complaint = max(self.last_complaint, ticket.opened.time)
        if self.complaints and self.orders:
            self.complained = _complained(state, void, self.first_day, config)

    @property
    def frequency(self) -> int:
        """Repeat purchases: purchase days after the first."""
        return max(self.purchase_days - 1, 0)

    @property
    def repeat_gross(self) -> int:
        """Gross of all purchase days after the first."""
        return self.gross - self.first_day_gross

    @property
    def kept_days(self) -> int:
        """Purchase days with an order that was not returned."""
        return self.purchase_days - self.returned.days

    @property
    def kept_gross(self) -> int:
        """Gross of the orders that were not returned."""
        return self.gross - self.returned.gross

    def margin(self, config: Economics) -> int:
        """Return the margin earned so far, net of refunds, rounded down to whole units."""
        earned = self.gross_margin(config)
        return earned - self.refunded + self.recovered

    def gross_margin(self, config: Economics) -> int:
        """Return the margin of the orders before refunds."""
        return _margin(self.gross, self.uncosted, self.cost, config)

    def refund_loss(self, config: Economics) -> int:
        """Return what refunds cost beside the margin of returned orders, which they took back."""
        returned = self.returned
        taken_back = _margin(returned.gross, returned.uncosted, returned.cost, config)
        return self.refunded - self.recovered - taken_back

    def add_order(self, order: Order, config: Economics) -> bool:
        """Count a new order; return False, and do nothing, if that takes a look at all of them.

        It does if its day is before the last one, and for a customer who has complained or has
        returned an order: another one on that day makes it a purchase day again, and a return is
        known as such only while it is remembered.
        """
        day = config.day(order.time)
        if self.complaints or self.returned is not _NONE_RETURNED:
            return False
        if self.orders and day < self.last_day:
            return False
        if day > self.last_day or self.orders == 0:
            if self.orders == 0:
                self.first_day = day
            self.last_day = day
            self.purchase_days += 1
            month = month_of(day)
            self.months[month] = self.months.get(month, 0) + 1
        gross = config.convert(order.gross, order.currency, day)
        if day == self.first_day:
            self.first_day_gross += gross
        self.orders += 1
        self.gross += gross
        cost = -1
        if order.cost < 0:
            self.uncosted += gross
        else:
            cost = config.convert(order.cost, order.currency, day)
            self.cost += cost
        if self.daily is not None and not self.daily.add_order(day, gross, cost):
            self.daily = None
        return True

    def _add_orders(
        self, orders: Collection[Order], compacted: Compacted | None, config: Economics
    ) -> None:
        """Count orders, which are in order of time; compacted: what has been counted before."""
        if not orders:
            return
        day_of, home = config.day, (HOME, config.home)
        known = {} if compacted is None else compacted.days
        days: dict[int, int] = {}
        gross = uncosted = cost = 0
        in_utc = day_of is utc_day
        for order in orders:
            amount, time = order.gross, order.time
            # Written out: most of a frequent buyer's orders are read again in each batch.
            day = time // MILLISECONDS_A_DAY + EPOCH_ORDINAL if in_utc else day_of(time)
            if order.currency not in home:
                amount = config.convert(amount, order.currency, day)
            days[day] = days.get(day, 0) + amount
            gross += amount
            if order.cost < 0:
                uncosted += amount
            else:
                cost += config.convert(order.cost, order.currency, day)
        first, last = min(days), max(days)
        if self.orders == 0:
            self.first_day, self.last_day = first, last
            new = list(days)
        else:
            new = [day for day in days if day not in known or not known[day].orders]
            if first < self.first_day:
                self.first_day, self.first_day_gross = first, 0
            self.last_day = max(self.last_day, last)
        self.purchase_days += len(new)
        months = self.months
        for day in new:
            month = month_of(day)
            months[month] = months.get(month, 0) + 1
        self.first_day_gross += days.get(self.first_day, 0)
        self.orders += len(orders)
        self.gross += gross
        self.uncosted += uncosted
        self.cost += cost

    def _start_from(self, compacted: Compacted, config: Economics) -> None:
        day = compacted.last_day
        self.orders = compacted.orders
        self.purchase_days = compacted.purchase_days
        self.first_day = compacted.first_day
        self.last_day = compacted.last_day
        self.months = dict(compacted.months)
        first = compacted.first_day_gross.items()
        self.first_day_gross = sum(config.convert(gross, number, day) for number, gross in first)
        for currency, money in compacted.money.items():
            self.gross += config.convert(money.gross, currency, day)
            self.uncosted += config.convert(money.uncosted, currency, day)
            self.cost += config.convert(money.cost, currency, day)
            self.refunded += config.convert(money.refunded, currency, day)
            self.recovered += compacted_goods(money, currency, day, config)
            self.support_cost += config.convert(money.support, currency, day)
        self.support_cost += compacted.decaminutes * config.minute_units // 10
        self.support_cost += sum(
            contacts * config.contact_units[channel]
            for channel, contacts in compacted.by_channel.items()
        )
        self.refunds = compacted.refunds
        self.contacts = compacted.contacts
        self.complaints = compacted.complaints
        self.last_complaint = compacted.last_complaint


def _margin(gross: int, uncosted: int, cost: int, config: Economics) -> int:
    return gross - uncosted - cost + uncosted * config.margin_millionths // MILLION


def _returned(state: Aggregate, void: Collection[int], config: Economics) -> Returned:
    """Sum the remembered orders that were returned."""
    refunds: defaultdict[int, list[Refund]] = defaultdict(list)
    for refund in state.refunds.values():
        order = state.orders.get(refund.order)
        if order and refund.order not in void and refund.time <= order.time + RETURN_PERIOD:
            refunds[refund.order].append(refund)
    keys = {key for key, those in refunds.items() if _covers(those, state.orders[key], config)}
    if not keys:
        return _NONE_RETURNED
    days, kept = set[int](), set[int]()
    gross = uncosted = cost = 0
    for key, order in state.orders.items():
        day = config.day(order.time)
        if key in keys:
            days.add(day)
            amount = config.convert(order.gross, order.currency, day)
            gross += amount
            if order.cost < 0:
                uncosted += amount
            else:
                cost += config.convert(order.cost, order.currency, day)
        elif key not in void:
            kept.add(day)
    if state.compacted is not None:
        kept |= {day for day, totals in state.compacted.days.items() if totals.orders}
    return Returned(len(days - kept), gross, uncosted, cost)


def _covers(refunds: list[Refund], order: Order, config: Economics) -> bool:
    """Return whether refunds give the whole price of an order back."""
    if all(refund.currency == order.currency for refund in refunds):
        return sum(refund.amount for refund in refunds) >= order.gross
    given = sum(
        config.convert(each.amount, each.currency, config.day(each.time)) for each in refunds
    )
    return given >= config.convert(order.gross, order.currency, config.day(order.time))


def _complained(
    state: Aggregate, void: Collection[int], first_day: int, config: Economics
) -> Complained:
    last, followed = complaints_after(state, void, first_day, config)
    end = int(last in followed)
    return Complained(len(followed) - end, int(first_day in followed and last > first_day), end)


def complaints_after(
    state: Aggregate, void: Collection[int], first_day: int, config: Economics
) -> tuple[int, dict[int, int]]:
    """Return the last purchase day, and of each that a complaint followed before the next one, on
    which day the first of them came. void: cancelled orders. first_day: the first purchase day."""
    days = {config.day(order.time) for key, order in state.orders.items() if key not in void}
    if state.compacted is not None and state.compacted.orders:
        days |= {day for day, totals in state.compacted.days.items() if totals.orders}
        days.add(state.compacted.last_day)
    days.add(first_day)
    purchases = sorted(days)
    followed: dict[int, int] = {}
    for ticket in state.tickets.values():
        if ticket.opened is not None and is_complaint(ticket.opened, config):
            day = config.day(ticket.opened.time)
            place = bisect_right(purchases, day) - 1
            if place >= 0:
                bought = purchases[place]
                followed[bought] = min(day, followed.get(bought, day))
    return purchases[-1], followed
