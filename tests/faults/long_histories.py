"""Customers with more tickets, orders or refunds than are remembered one by one.

All of one customer's history is published in the order of time, to one partition of each topic, so
that nothing but what the workload wants to be refused is beyond memory when it comes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

from streams.files.outgoing import OutgoingEvent
from streams.kafka.partitions import home_partition
from tests.faults.maker import Maker
from tests.faults.misrouting import crc32_partition, is_misrouted
from tests.faults.remembered import REMEMBERED

THINGS = (340, 380)
"""How many there are of the kind that is more than remembered."""

RECENT = 60
"""The last so many things are remembered, whatever else came."""

WELL_FORGOTTEN = REMEMBERED + 20
"""So many things ago nothing is remembered."""

LONGEST_STEPS = 1_500
ATTEMPT = "x-attempt"
"""Header of a record that a publisher sends again: it tells the letters of the two apart."""


class _Thing:
    """An order, a refund or a ticket. said: the events about it; at: when it first happened."""

    def __init__(self, source: str, name: str, at: int, order: _Thing | None = None) -> None:
        self.source = source
        self.name = name
        self.at = at
        self.order = order
        self.said: list[OutgoingEvent] = []
        self.done: set[str] = set()
        self.data: dict[str, Any] = {}


class _History:
    """One customer's events, step by step; the step is the time."""

    weights: ClassVar[Mapping[str, int]]
    main: str
    """The kind of which there are so many."""

    def __init__(self, maker: Maker, customer: str) -> None:
        self.maker = maker
        self.dice = maker.dice
        self.customer = customer
        self.events: list[OutgoingEvent] = []
        self.things: dict[str, list[_Thing]] = {"order": [], "refund": [], "ticket": []}
        self.serial = 0
        self.count = self.dice.randint(*THINGS)
        self.now = 0.0

    def make(self) -> None:
        """Go on until there are enough things, and every rare action has had its turn."""
        names, weights = list(self.weights), list(self.weights.values())
        step, left = 0, set(names)
        while len(self.things[self.main]) < self.count or left:
            step += 1
            if step > LONGEST_STEPS:
                raise AssertionError(f"{left} never came about in {step} steps")
            self.now = self.maker.day_of_step(step, LONGEST_STEPS)
            (name,) = self.dice.choices(names, weights)
            if len(self.things[self.main]) >= self.count:
                name = self.dice.choice(sorted(left))
            action: Callable[[], bool] = getattr(self, name)
            if action():
                left.discard(name)

    def say(self, thing: _Thing, event_type: str, field: str, **more: Any) -> bool:
        """Have something happen to a thing now; `at` in `more` is another day."""
        days = more.pop("at", self.now)
        data = {"customer_id": self.customer, f"{field}_at": self.maker.at(days)} | more
        event = self.maker.event(data, event_type, thing.source, self.customer, days)
        thing.said.append(event)
        self.events.append(event)
        return True

    def new(self, kind: str, order: _Thing | None = None) -> _Thing:
        self.serial += 1
        source = order.source if order is not None else self.maker.any_source()
        thing = _Thing(source, f"{kind[0]}{self.serial}", len(self.things[kind]), order)
        self.things[kind].append(thing)
        return thing

    def unheard_of(self, kind: str) -> _Thing:
        """A thing that is not among those that count."""
        self.serial += 1
        return _Thing(self.maker.any_source(), f"x{kind[0]}{self.serial}", -1)

    def recent(self, kind: str, without: str = "", within: int = RECENT) -> _Thing | None:
        """One of the last things, to which something has not happened yet."""
        those = [t for t in self.things[kind][-within:] if not without or without not in t.done]
        return self.dice.choice(those) if those else None

    def forgotten(self, kind: str, without: str = "") -> _Thing | None:
        """One of the things that nobody remembers, to which something has not happened."""
        those = self.things[kind][:-WELL_FORGOTTEN]
        those = [t for t in those if not without or without not in t.done]
        return self.dice.choice(those) if those else None

    def repeat(self, thing: _Thing | None) -> bool:
        """Publish an event of a thing once more: under its id, or under another one."""
        if thing is None or not thing.said:
            return False
        event = self.dice.choice(thing.said)
        if self.dice.random() < 0.5:
            again = b"%d" % self.maker.next()
            event = event._replace(headers=[*event.headers, (ATTEMPT, again)])
        else:
            event = self.maker.under_another_id(event)
        self.events.append(event)
        return True

    def long_ago(self) -> float:
        """A day on which nothing is remembered any more."""
        return self.dice.uniform(0, 0.5) * self.maker.day_of_step(1, LONGEST_STEPS)


class _Tickets(_History):
    main = "ticket"
    weights: ClassVar = {
        "open": 60, "resolve": 22, "rate": 8, "repeat_recent": 4, "repeat_forgotten": 12,
        "resolve_unheard_of": 2, "resolve_forgotten": 5, "rate_forgotten": 2, "open_late": 2,
    }  # fmt: skip

    def open(self) -> bool:
        channel = self.dice.choice(["email", "phone", "chat", "social", "web"])
        ticket = self.new("ticket")
        return self._open(ticket, channel=channel, complaint=self.dice.random() < 0.2)

    def _open(self, ticket: _Thing, **more: Any) -> bool:
        return self.say(ticket, "ticket.opened", "opened", ticket_id=ticket.name, **more)

    def _resolve(self, ticket: _Thing | None) -> bool:
        if ticket is None:
            return False
        ticket.done.add("resolved")
        more: dict[str, Any] = {"handling_minutes": self.dice.randint(0, 180) / 2}
        if self.dice.random() < 0.4:
            more = {"cost": self.maker.amount(2), "currency": "USD"}
        return self.say(ticket, "ticket.resolved", "resolved", ticket_id=ticket.name, **more)

    def _rate(self, ticket: _Thing | None) -> bool:
        if ticket is None:
            return False
        ticket.done.add("rated")
        more = {"score": self.dice.randint(1, 5), "scale": {"min": 1, "max": 5}}
        return self.say(ticket, "ticket.rated", "rated", ticket_id=ticket.name, **more)

    def resolve(self) -> bool:
        return self._resolve(self.recent("ticket", "resolved"))

    def rate(self) -> bool:
        return self._rate(self.recent("ticket", "rated"))

    def repeat_recent(self) -> bool:
        return self.repeat(self.recent("ticket"))

    def repeat_forgotten(self) -> bool:
        return self.repeat(self.forgotten("ticket", "refused"))

    def resolve_unheard_of(self) -> bool:
        """A contact of which nobody was told that it was opened; later on, refused."""
        return self._resolve(self.unheard_of("ticket"))

    def _late(self, how: Callable[[_Thing | None], bool], what: str) -> bool:
        ticket = self.forgotten("ticket", what)
        if ticket is None:
            return False
        # What is refused is not repeated: that would be refused as well.
        ticket.done.add("refused")
        return how(ticket)

    def resolve_forgotten(self) -> bool:
        return self._late(self._resolve, "resolved")

    def rate_forgotten(self) -> bool:
        return self._late(self._rate, "rated")

    def open_late(self) -> bool:
        if self.forgotten("ticket") is None:
            return False
        return self._open(self.unheard_of("ticket"), channel="email", at=self.long_ago())


class _Orders(_History):
    main = "order"
    weights: ClassVar = {
        "place": 66, "revise": 5, "cancel": 6, "refund": 9, "refund_cancelled": 4,
        "repeat_recent": 4, "repeat_forgotten": 10, "cancel_forgotten": 3, "revise_forgotten": 1,
        "refund_forgotten": 2, "place_late": 1,
    }  # fmt: skip

    def place(self) -> bool:
        order = self.new("order")
        return self._place(order, order_id=order.name, **self._price())

    def _price(self) -> dict[str, Any]:
        price = {"currency": self.maker.currency(), "total": self.maker.amount(2)}
        if self.dice.random() < 0.4:
            price["cost_of_goods"] = self.maker.amount(4)
        return price

    def _place(self, order: _Thing, **more: Any) -> bool:
        days = more.setdefault("at", self.now)
        order.data = more | {"at": days}
        return self.say(order, "order.placed", "placed", **more)

    def _revise(self, order: _Thing | None) -> bool:
        if order is None or not order.data:
            return False
        revision = order.data.get("revision", 0) + 1
        return self._place(order, **{**order.data, **self._price(), "revision": revision})

    def _cancel(self, order: _Thing | None) -> bool:
        if order is None:
            return False
        order.done.add("cancelled")
        return self.say(order, "order.cancelled", "cancelled", order_id=order.name)

    def _refund(self, order: _Thing | None, **more: str) -> bool:
        if order is None:
            return False
        order.done.add("refunded")
        refund = self.new("refund", order)
        if not more and self.dice.random() < 0.3:
            more["cost_recovered"] = self.maker.amount(2)
        more |= {"amount": self.maker.amount(2), "currency": "USD", "order_id": order.name}
        return self.say(refund, "order.refunded", "refunded", refund_id=refund.name, **more)

    def revise(self) -> bool:
        """Not of an order with a refund: a compacted one keeps its share of the former cost."""
        return self._revise(self.recent("order", "refunded"))

    def cancel(self) -> bool:
        return self._cancel(self.recent("order", "cancelled"))

    def refund(self) -> bool:
        return self._refund(self.recent("order", "cancelled"))

    def refund_cancelled(self) -> bool:
        """Void, whether the order is remembered or not."""
        cancelled = [o for o in self.things["order"] if "cancelled" in o.done]
        return self._refund(self.dice.choice(cancelled)) if cancelled else False

    def repeat_recent(self) -> bool:
        return self.repeat(self.recent("order"))

    def repeat_forgotten(self) -> bool:
        return self.repeat(self.forgotten("order", "refused"))

    def cancel_forgotten(self) -> bool:
        order = self.forgotten("order", "cancelled")
        if order is None:
            return False
        order.done.add("refused")
        return self.say(order, "order.cancelled", "cancelled", order_id=order.name)

    def revise_forgotten(self) -> bool:
        order = self.forgotten("order", "cancelled")
        if order is None:
            return False
        order.done.add("refused")
        return self._revise(order)

    def refund_forgotten(self) -> bool:
        """It counts: refunds have a memory of their own. What came back, only the refund knows."""
        return self._refund(self.forgotten("order", "cancelled"), cost_recovered="0")

    def place_late(self) -> bool:
        if self.forgotten("order") is None:
            return False
        order = self.unheard_of("order")
        return self._place(order, order_id=order.name, at=self.long_ago(), **self._price())


class _Refunds(_Orders):
    main = "refund"
    weights: ClassVar = {
        "place": 15, "refund": 40, "credit": 18, "cancel": 4, "refund_cancelled": 6,
        "repeat_recent": 4, "repeat_forgotten": 9, "cancel_with_forgotten_refund": 4,
        "refund_late": 2,
    }  # fmt: skip

    def credit(self) -> bool:
        """A refund of no order."""
        refund = self.new("refund")
        more = {"amount": self.maker.amount(2), "currency": "USD"}
        return self.say(refund, "order.refunded", "refunded", refund_id=refund.name, **more)

    def cancel(self) -> bool:
        """One of the last orders: no refund of it is forgotten."""
        return self._cancel(self.recent("order", "cancelled", within=8))

    def refund(self) -> bool:
        return self._refund(self.recent("order", "cancelled"))

    def repeat_recent(self) -> bool:
        return self.repeat(self.recent("refund"))

    def repeat_forgotten(self) -> bool:
        return self.repeat(self.forgotten("refund"))

    def cancel_with_forgotten_refund(self) -> bool:
        refunds = self.things["refund"][:-WELL_FORGOTTEN]
        orders = [r.order for r in refunds if r.order and "cancelled" not in r.order.done]
        if not orders:
            return False
        order = self.dice.choice(orders)
        return self.say(order, "order.cancelled", "cancelled", order_id=order.name)

    def refund_late(self) -> bool:
        if self.forgotten("refund") is None:
            return False
        refund = self.unheard_of("refund")
        more = {"amount": self.maker.amount(2), "currency": "USD", "at": self.long_ago()}
        return self.say(refund, "order.refunded", "refunded", refund_id=refund.name, **more)


HISTORIES = (_Tickets, _Orders, _Refunds)


def add_long_histories(maker: Maker, customers: list[str]) -> None:
    """Give these customers a long history each, of tickets, orders and refunds in turns."""
    for number, customer in enumerate(customers):
        history = HISTORIES[number % len(HISTORIES)](maker, customer)
        history.make()
        key, partition = _route(maker, customer)
        # So fast that what is worked on again after a crash may be more than is remembered.
        start, length = maker.dice.uniform(0.05, 0.4), maker.dice.uniform(0.05, 0.4)
        for place, event in enumerate(history.events):
            share = start + length * place / len(history.events)
            said = maker.binary(event) if maker.dice.random() < 0.1 else event
            maker.place(share * maker.last_position, said._replace(key=key), partition)


def _route(maker: Maker, customer: str) -> tuple[bytes, int]:
    """The key and the partition of all of a customer's events: mostly not those that are right.

    The partition is said in any case: a publisher that hears of new ones would change over to them.
    """
    key, partitions = customer.encode(), maker.partitions
    chance = maker.dice.random()
    if chance < 0.5:
        return key, crc32_partition(key, partitions)
    if chance < 0.75:
        # As of a publisher that keys by the shop.
        key = maker.dice.choice(maker.customers).encode()
    return key, home_partition(key, partitions)


def names_of_long(run_id: str, count: int, partitions: int) -> list[str]:
    """Ids of so many customers whom librdkafka puts elsewhere than Kafka's default partitioner."""
    names = (f"{run_id}-{number}" for number in range(900_000, 1_000_000))
    misrouted = (name for name in names if is_misrouted(name.encode(), partitions))
    return [next(misrouted) for _ in range(count)]
