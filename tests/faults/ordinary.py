"""What ordinary customers do in a shop, with the mistakes that come with it."""

from __future__ import annotations

from itertools import accumulate
from typing import Any

from tests.faults.maker import HISTORY_DAYS, SOURCES, Maker
from tests.faults.refused import Refused

LATEST_DAYS = HISTORY_DAYS + 0.5
"""Of what happens to orders: well within the day ahead that is accepted."""

SCALE = {"min": 1, "max": 5}

KINDS = {
    "order": 52, "revision": 6, "duplicate": 5, "same order again": 4, "cancellation": 5,
    "refund": 8, "opening": 7, "resolution": 6, "rating": 3, "survey": 2, "acquisition": 2,
    "refused": 5,
}  # fmt: skip
PLAIN_KINDS = {"order": 90, "opening": 7, "acquisition": 3}

_OWN = ("source", "days", "revision", "cancelled")
"""What is noted of an order beside its data."""


def add_ordinary(maker: Maker, events: int, *, plain: bool, too_large: int) -> None:
    """Make so many events of all customers; plain, too_large: as of a workload."""
    _Ordinary(maker, too_large).make(events, PLAIN_KINDS if plain else KINDS)


class _Ordinary:
    def __init__(self, maker: Maker, too_large: int) -> None:
        self.maker = maker
        self.dice = maker.dice
        self.refused = Refused(maker, too_large)
        self.orders: dict[str, list[dict[str, Any]]] = {c: [] for c in maker.customers}
        self.tickets: dict[str, list[tuple[str, str, float]]] = {c: [] for c in maker.customers}

    def make(self, events: int, kinds: dict[str, int]) -> None:
        # Few customers have most of the events, as in any shop.
        customers = self.maker.customers
        shares = list(accumulate(1 / (1 + rank) ** 0.5 for rank in range(len(customers))))
        plain = kinds is PLAIN_KINDS
        while len(self.maker.placed) < events:
            (customer,) = self.dice.choices(customers, cum_weights=shares)
            if self.maker.budget[customer] == 0:
                continue
            self.maker.budget[customer] -= 1
            (kind,) = self.dice.choices(list(kinds), list(kinds.values()))
            days = self.dice.uniform(0, HISTORY_DAYS)
            if plain:
                self._plain(kind, customer, days)
            else:
                getattr(self, "_" + kind.replace(" ", "_"))(customer, days)

    def _plain(self, kind: str, customer: str, days: float) -> None:
        if kind == "order":
            data = self.maker.order_data(customer, days, f"o{self.maker.next()}")
            data |= {"currency": "USD", "total": self.maker.amount(2)}
            self.maker.put(data, "order.placed", SOURCES[0], customer, days, position=days)
        elif kind == "opening":
            data = self.maker.ticket_data(f"t{self.maker.next()}", days, "opened_at")
            data |= {"channel": "email", "customer_id": customer}
            self.maker.put(data, "ticket.opened", SOURCES[0], customer, days, position=days)
        else:
            self._acquisition(customer, days, position=days)

    def _order(self, customer: str, days: float) -> None:
        # Ids are counted per customer, and not per source: equal ids must not meet.
        source = self.dice.choice(SOURCES)
        data = self.maker.order_data(customer, days, f"o{len(self.orders[customer]) // 2}")
        if any(o["order_id"] == data["order_id"] and o["source"] == source
               for o in self.orders[customer]):  # fmt: skip
            data["order_id"] = f"o{self.maker.next()}x"
        if self.dice.random() < 0.01:
            days = self.dice.uniform(HISTORY_DAYS + 0.1, LATEST_DAYS)
            data["placed_at"] = self.maker.at(days)
        self.orders[customer].append({"source": source, "days": days, "revision": 0, **data})
        self.maker.put(data, "order.placed", source, customer, days)

    def _revision(self, customer: str, days: float) -> None:
        order = self._known(customer)
        if order is None:
            return self._order(customer, days)
        # Higher revisions are later; they are published in any order.
        order["revision"] += self.dice.randint(1, 3)
        order["days"] = min(order["days"] + self.dice.uniform(0.01, 0.2), LATEST_DAYS)
        data = self.maker.order_data(customer, order["days"], order["order_id"])
        data["revision"] = order["revision"]
        return self.maker.put(
            data, "order.placed", order["source"], customer, order["days"],
            position=order["days"] + self.dice.uniform(-5, 5),
        )  # fmt: skip

    def _duplicate(self, customer: str, days: float) -> None:
        if not self.maker.placed:
            return self._order(customer, days)
        position, item = self.dice.choice(self.maker.placed)
        if len(item.event.value) > 10_000:
            return self._order(customer, days)
        owner = self._owner(item.event.value)
        if owner is not None:
            if self.maker.budget[owner] == 0:
                return self._order(customer, days)
            self.maker.budget[owner] -= 1
        position += self.dice.choice([0.0, 0.001, 0.5, 30.0, 200.0])
        self.maker.placed.append((position, item))
        return None

    def _owner(self, value: bytes) -> str | None:
        run_id = self.maker.run_id
        at = value.find(f"{run_id}-".encode())
        name = value[at : at + len(run_id) + 7].decode("utf-8", "replace") if at >= 0 else ""
        return name if name in self.maker.budget else None

    def _same_order_again(self, customer: str, days: float) -> None:
        order = self._known(customer)
        if order is None:
            return self._order(customer, days)
        data = {k: v for k, v in order.items() if k not in _OWN}
        return self.maker.put(
            data, "order.placed", order["source"], customer, order["days"],
            position=order["days"] + self.dice.expovariate(1 / 20),
        )  # fmt: skip

    def _cancellation(self, customer: str, days: float) -> None:
        order = self._known(customer)
        if order is None:
            return self._order(customer, days)
        if "cancelled" not in order:
            order["cancelled"] = order["days"] + self.dice.uniform(0.01, 3)
        when = min(order["cancelled"], LATEST_DAYS)
        data = {"order_id": order["order_id"], "cancelled_at": self.maker.at(when)}
        position = when if self.dice.random() < 0.5 else order["days"] - self.dice.uniform(0, 10)
        return self.maker.put(data, "order.cancelled", order["source"], customer, when, position)

    def _refund(self, customer: str, days: float) -> None:
        order = self._known(customer) if self.dice.random() < 0.8 else None
        refund, currency = f"r{self.maker.next()}", self.maker.currency()
        data: dict[str, Any] = {"refund_id": refund, "currency": currency}
        source = self.dice.choice(SOURCES)
        if order is None:
            data["amount"] = self.maker.amount(2)
        else:
            source = order["source"]
            days = min(order["days"] + self.dice.uniform(0, 0.4), LATEST_DAYS)
            data |= {"order_id": order["order_id"], "currency": order["currency"]}
            data["amount"] = order["total"] if self.dice.random() < 0.5 else self.maker.amount(2)
        if self.dice.random() < 0.3:
            data["cost_recovered"] = self.maker.amount(4)
        data["refunded_at"] = self.maker.at(days)
        self.maker.put(data, "order.refunded", source, customer, days)

    def _opening(self, customer: str, days: float) -> None:
        ticket, source = f"t{len(self.tickets[customer])}", self.dice.choice(SOURCES)
        self.tickets[customer].append((ticket, source, days))
        data = self.maker.ticket_data(ticket, days, "opened_at")
        data["channel"] = self.dice.choice(["email", "phone", "chat", "social", "web"])
        if self.dice.random() < 0.3:
            data["complaint"] = self.dice.random() < 0.5
        if self.dice.random() < 0.2:
            data["topic"] = self.dice.choice(["complaint", "delivery"])
        self.maker.put(data, "ticket.opened", source, customer, days)

    def _resolution(self, customer: str, days: float) -> None:
        ticket, source, days = self._ticket(customer, days)
        data = self.maker.ticket_data(ticket, days, "resolved_at")
        if self.dice.random() < 0.4:
            data |= {"cost": self.maker.amount(2), "currency": self.maker.currency()}
        if self.dice.random() < 0.6:
            data["handling_minutes"] = self.dice.randint(0, 180) / 2
        self.maker.put(data, "ticket.resolved", source, customer, days)

    def _rating(self, customer: str, days: float) -> None:
        ticket, source, days = self._ticket(customer, days)
        data = self.maker.ticket_data(ticket, days, "rated_at")
        data |= {"score": self.dice.randint(1, 5), "scale": SCALE}
        self.maker.put(data, "ticket.rated", source, customer, days)

    def _ticket(self, customer: str, days: float) -> tuple[str, str, float]:
        """A ticket to go on with: one that was opened, or one that nobody heard of."""
        if self.tickets[customer] and self.dice.random() < 0.8:
            ticket, source, opened = self.dice.choice(self.tickets[customer])
            return ticket, source, opened + self.dice.uniform(0, 0.4)
        return f"u{self.maker.next()}", self.dice.choice(SOURCES), days

    def _survey(self, customer: str, days: float) -> None:
        data = {
            "survey_id": f"s{self.maker.next()}", "answered_at": self.maker.at(days),
            "customer_id": customer, "kind": self.dice.choice(["nps", "csat", "ces"]),
            "score": self.dice.randint(1, 5), "scale": SCALE,
        }  # fmt: skip
        self.maker.put(data, "survey.answered", self.dice.choice(SOURCES), customer, days)

    def _acquisition(self, customer: str, days: float, position: float | None = None) -> None:
        data = {
            "customer_id": customer, "acquired_at": self.maker.at(days),
            "cost": self.maker.amount(2),
            "currency": "USD" if position is not None else self.maker.currency(),
        }  # fmt: skip
        self.maker.put(data, "customer.acquired", SOURCES[0], customer, days, position)

    def _refused(self, customer: str, days: float) -> None:
        self.refused.add(customer, days)

    def _known(self, customer: str) -> dict[str, Any] | None:
        orders = self.orders[customer]
        return self.dice.choice(orders) if orders else None
