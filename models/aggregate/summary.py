"""What an aggregate says: the sums and statistics that value and segments are computed from."""

from __future__ import annotations

from collections.abc import Collection

from models.aggregate.cancellations import cancelled_orders
from models.aggregate.settle import contact_cost
from models.aggregate.state import Aggregate, Order, Settled
from models.economics import Economics

MILLION = 1_000_000


class Summary:
    """Sums over one aggregate; money in units, days as ordinals.

    It is always derivable from the aggregate. `add_order` keeps it current for the usual event, a
    new order that is the latest so far, without going through the remembered orders again.
    """

    __slots__ = (
        "acquisition_cost",
        "complaints",
        "contacts",
        "cost",
        "first_day",
        "first_day_gross",
        "gross",
        "last_complaint",
        "last_day",
        "orders",
        "purchase_days",
        "recovered",
        "refunded",
        "refunds",
        "support_cost",
        "uncosted",
    )

    def __init__(self, state: Aggregate, config: Economics) -> None:
        self.acquisition_cost = 0
        self.orders = self.purchase_days = self.first_day = self.last_day = 0
        self.first_day_gross = self.gross = self.uncosted = self.cost = 0
        self.refunds = self.refunded = self.recovered = 0
        self.contacts = self.complaints = self.last_complaint = self.support_cost = 0
        if state.settled is not None:
            self._start_from(state.settled)
        for acquisition in state.acquisitions.values():
            self.acquisition_cost += acquisition.cost
        cancelled = state.cancelled
        self._add_orders(
            [order for key, order in state.orders.items() if key not in cancelled]
            if cancelled
            else state.orders.values()
        )
        void = cancelled_orders(state)
        for refund in state.refunds.values():
            if refund.order not in void:
                self.refunds += 1
                self.refunded += refund.amount
                self.recovered += refund.recovered
        for ticket in state.tickets.values():
            self.contacts += 1
            self.support_cost += contact_cost(ticket, config)
            if ticket.opened is not None and ticket.opened.complaint:
                self.complaints += 1
                self.last_complaint = max(self.last_complaint, ticket.opened.time)

    @property
    def frequency(self) -> int:
        """Repeat purchases: purchase days after the first."""
        return max(self.purchase_days - 1, 0)

    @property
    def repeat_gross(self) -> int:
        """Gross of all purchase days after the first."""
        return self.gross - self.first_day_gross

    def margin(self, config: Economics) -> int:
        """Margin earned so far, net of refunds; rounded down to whole units."""
        earned = self.gross_margin(config)
        return earned - self.refunded + self.recovered

    def gross_margin(self, config: Economics) -> int:
        """Margin of the orders before refunds."""
        costed = self.gross - self.uncosted - self.cost
        return costed + self.uncosted * config.margin_millionths // MILLION

    def add_order(self, order: Order) -> None:
        """Count a new order on the last purchase day or later."""
        if order.day > self.last_day or self.orders == 0:
            if self.orders == 0:
                self.first_day = order.day
            self.last_day = order.day
            self.purchase_days += 1
        if order.day == self.first_day:
            self.first_day_gross += order.gross
        self.orders += 1
        self.gross += order.gross
        if order.cost < 0:
            self.uncosted += order.gross
        else:
            self.cost += order.cost

    def _add_orders(self, orders: Collection[Order]) -> None:
        """Count orders that come in order of time; as `add_order`, in one go."""
        if not orders:
            return
        first_day, last_day, days = self.first_day, self.last_day, self.purchase_days
        first_day_gross = gross = uncosted = cost = 0
        if self.orders == 0:
            first_day = next(iter(orders)).day
        for order in orders:
            if order.day != last_day:
                last_day = order.day
                days += 1
            if order.day == first_day:
                first_day_gross += order.gross
            gross += order.gross
            if order.cost < 0:
                uncosted += order.gross
            else:
                cost += order.cost
        self.first_day, self.last_day, self.purchase_days = first_day, last_day, days
        self.first_day_gross += first_day_gross
        self.orders += len(orders)
        self.gross += gross
        self.uncosted += uncosted
        self.cost += cost

    def _start_from(self, settled: Settled) -> None:
        self.orders = settled.orders
        self.purchase_days = settled.purchase_days
        self.first_day = settled.first_day
        self.last_day = settled.last_day
        self.first_day_gross = settled.first_day_gross
        self.gross = settled.gross
        self.uncosted = settled.uncosted
        self.cost = settled.cost
        self.refunds = settled.refunds
        self.refunded = settled.refunded
        self.recovered = settled.recovered
        self.contacts = settled.contacts
        self.complaints = settled.complaints
        self.last_complaint = settled.last_complaint
        self.support_cost = settled.support_cost
