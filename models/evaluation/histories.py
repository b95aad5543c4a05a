"""What really happened: the purchase days and the money of every customer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from models.aggregate.cancellations import cancelled_orders
from models.aggregate.state import Aggregate
from models.economics import MONEY_SCALE, Economics

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Outcomes:
    """What customers did in the days after a split; one entry per customer, but for by_day.

    purchases: days with an order. revenue: orders less refunds, by their own days, in currency.
    days_to_next: from the split to the next purchase, inf without one. by_day: purchases of all on
    the first, second, … day after the split.
    """

    purchases: Floats
    revenue: Floats
    days_to_next: Floats
    by_day: Floats


@dataclass(frozen=True, slots=True)
class Histories:
    """Purchase days and money of all customers, in columns.

    place: the number of each customer by key. buyer, bought_on: one entry per purchase day, in
    order of both. payer, paid_on, paid: money by day, refunds negative. Days are ordinals.
    """

    place: dict[bytes, int]
    buyer: Ints
    bought_on: Ints
    payer: Ints
    paid_on: Ints
    paid: Floats

    @classmethod
    def of(cls, states: Iterable[tuple[bytes, Aggregate]], economics: Economics) -> Self:
        """Read the histories from states; customers with compacted registers are left out."""
        place: dict[bytes, int] = {}
        days: list[tuple[int, int]] = []
        money: list[tuple[int, int, int]] = []
        for key, state in states:
            if state.compacted is not None:
                continue
            number = place[key] = len(place)
            void = cancelled_orders(state)
            bought = set[int]()
            for order_key, order in state.orders.items():
                if order_key not in void:
                    day = economics.day(order.time)
                    bought.add(day)
                    amount = economics.convert(order.gross, order.currency, day)
                    money.append((number, day, amount))
            days += ((number, day) for day in sorted(bought))
            for refund in state.refunds.values():
                if refund.order not in void:
                    day = economics.day(refund.time)
                    amount = economics.convert(refund.amount, refund.currency, day)
                    money.append((number, day, -amount))
        buyer, bought_on = np.array(days, dtype=np.int64).reshape(-1, 2).T
        payer, paid_on, paid = np.array(money, dtype=np.int64).reshape(-1, 3).T
        return cls(place, buyer, bought_on, payer, paid_on, paid / MONEY_SCALE)

    def numbers(self, keys: Sequence[bytes]) -> Ints:
        """Return the numbers of these customers; -1 for one who is not here."""
        return np.array([self.place.get(key, -1) for key in keys], dtype=np.int64)

    def revenue(self, numbers: Ints, after: int, until: int) -> Floats:
        """Return what customers paid after one day and until another, net of refunds."""
        within = (self.paid_on > after) & (self.paid_on <= until)
        total = np.bincount(self.payer[within], self.paid[within], minlength=len(self.place))
        return total.astype(np.float64)[numbers]

    def purchases(self, numbers: Ints, after: int, until: int) -> Floats:
        """Return on how many days after one day and until another customers bought."""
        within = (self.bought_on > after) & (self.bought_on <= until)
        total = np.bincount(self.buyer[within], minlength=len(self.place))
        return total[numbers].astype(np.float64)

    def outcomes(self, numbers: Ints, split: int, until: int) -> Outcomes:
        """Return the outcomes of customers from the day after a split until a day."""
        within = (self.bought_on > split) & (self.bought_on <= until)
        buyer, ahead = self.buyer[within], self.bought_on[within] - split
        next_one = np.full(len(self.place), np.inf)
        np.minimum.at(next_one, buyer, ahead)
        asked = np.zeros(len(self.place), dtype=np.bool_)
        asked[numbers] = True
        by_day = np.bincount(ahead[asked[buyer]] - 1, minlength=until - split)
        return Outcomes(
            self.purchases(numbers, split, until),
            self.revenue(numbers, split, until),
            next_one[numbers],
            by_day.astype(np.float64),
        )
