"""Customers who are erased as of a time that lies between their events."""

from __future__ import annotations

import random
from typing import Any

from tests.faults.maker import HISTORY_DAYS, Maker

AROUND_DAYS = 20.0
"""From the erasure to what it must tell apart."""


def erase_midway(maker: Maker, count: int) -> None:
    """Erase so many customers as of a time between their events."""
    maker.erased = maker.dice.sample(maker.customers, count)
    for customer in maker.erased:
        _erase(maker, customer, 2 * AROUND_DAYS, HISTORY_DAYS - 2 * AROUND_DAYS)


def _erase(maker: Maker, customer: str, first_day: float, last_day: float) -> None:
    """Erase a customer as of a moment, and have things happen to them on both sides of it.

    Everything arrives in any order: before the erasure, and after it.
    """
    story = _Story(maker, customer, maker.dice.uniform(first_day, last_day))
    for _ in range(maker.dice.randint(3, 5)):
        story.revised_order()
    for _ in range(maker.dice.randint(2, 4)):
        story.cancelled_again()
    story.ticket()
    story.refund()
    story.acquired_twice()
    story.erasures()


class _Story:
    def __init__(self, maker: Maker, customer: str, erased: float) -> None:
        self.maker = maker
        self.dice: random.Random = maker.dice
        self.customer = customer
        self.erased = erased

    def near(self) -> float:
        return self.erased + self.dice.uniform(-AROUND_DAYS, AROUND_DAYS)

    def put(self, event_type: str, days: float, data: dict[str, Any]) -> None:
        data = {"customer_id": self.customer} | data
        position = self.dice.uniform(0, self.maker.last_position)
        self.maker.put(data, event_type, self.maker.source, self.customer, days, position)

    def order(self, order_id: str, days: float, revision: int = 0) -> None:
        data = self.maker.order_data(self.customer, days, order_id)
        if revision:
            data["revision"] = revision
        self.put("order.placed", days, data)

    def revised_order(self) -> None:
        """Revisions at any times: the higher one may be the earlier."""
        order_id = self.maker.new_id("e")
        for revision in range(self.dice.randint(2, 4)):
            self.order(order_id, self.near(), revision)

    def cancelled_again(self) -> None:
        """An order that is cancelled at several times, or is placed again after it was."""
        order_id = self.maker.new_id("e")
        self.order(order_id, self.near())
        for _ in range(self.dice.randint(1, 3)):
            days = self.near()
            data = {"order_id": order_id, "cancelled_at": self.maker.at(days)}
            self.put("order.cancelled", days, data)

    def ticket(self) -> None:
        ticket = self.maker.new_id("et")
        opened = self.near()
        data = {"ticket_id": ticket, "opened_at": self.maker.at(opened), "channel": "phone"}
        self.put("ticket.opened", opened, data)
        resolved = opened + self.dice.uniform(0, AROUND_DAYS)
        data = {"ticket_id": ticket, "resolved_at": self.maker.at(resolved), "cost": "7.50",
                "currency": "USD"}  # fmt: skip
        self.put("ticket.resolved", resolved, data)

    def refund(self) -> None:
        """One that is told twice, with other amounts."""
        refund = self.maker.new_id("er")
        for _ in range(2):
            days = self.near()
            data = {"refund_id": refund, "currency": "USD", "amount": self.maker.amount(2),
                    "refunded_at": self.maker.at(days)}  # fmt: skip
            self.put("order.refunded", days, data)

    def acquired_twice(self) -> None:
        for _ in range(2):
            days = self.near()
            data = {"acquired_at": self.maker.at(days), "cost": self.maker.amount(2),
                    "currency": "USD"}  # fmt: skip
            self.put("customer.acquired", days, data)

    def erasures(self) -> None:
        """The one that counts, and perhaps one of an earlier time."""
        moments = [self.erased]
        if self.dice.random() < 0.3:
            moments.append(self.erased - self.dice.uniform(1, AROUND_DAYS))
        for moment in moments:
            self.put("customer.erased", moment, {"erased_at": self.maker.at(moment)})
