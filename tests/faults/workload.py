"""A known set of events with everything in it that goes wrong in a shop, from a seed."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import accumulate
from typing import Any, NamedTuple

import msgspec

from models.contracts import TOPIC_OF_TYPE
from streams.files.outgoing import OutgoingEvent, cloud_event
from streams.kafka.partitions import home_partition
from tests.faults.erasures import AROUND_DAYS, erase_midway
from tests.faults.long_histories import add_long_histories, names_of_long
from tests.faults.misrouting import Routes

SOURCES = ("/shop/eu", "/shop/us", "/shop/jp")
HISTORY_DAYS = 400
LATEST_DAYS = HISTORY_DAYS + 0.5
"""Of what happens to orders: well within the day ahead that is accepted."""

MOST_EVENTS = 180
"""Of one customer without a long history: fewer than are remembered one by one, also with what goes
with an erasure, so that nothing is refused as too old."""

SCALE = {"min": 1, "max": 5}
JSON_HEADER = [("content-type", b"application/json")]
WITHOUT_RATE = "CHF"

KINDS = {
    "order": 52, "revision": 6, "duplicate": 5, "same order again": 4, "cancellation": 5,
    "refund": 8, "opening": 7, "resolution": 6, "rating": 3, "survey": 2, "acquisition": 2,
    "refused": 5,
}  # fmt: skip
PLAIN_KINDS = {"order": 90, "opening": 7, "acquisition": 3}

REFUSED_KINDS = (
    "bytes", "broken json", "no event", "unknown type", "missing field", "money as number",
    "negative money", "no rate", "future", "nobody's", "empty", "too large", "wrong topic",
    "placeholder",
)  # fmt: skip


_OWN = ("source", "days", "revision", "cancelled")
"""What is noted of an order beside its data."""


class Item(NamedTuple):
    """An event to publish; partition: None for the one where Kafka's default would put it."""

    event: OutgoingEvent
    partition: int | None


class Placed(NamedTuple):
    """An item at a place in the order of publishing: 0 is the beginning of the run, 1 its end."""

    share: float
    item: Item


class Workload:
    """The events of one run, in the order of publishing; the same for the same arguments.

    customers: their ids begin with `run_id` and have one length, so that none contains another.
    now: the time of the run. Nothing lies more than 15 hours after it but events that must be
    refused, and those lie more than 30, so that it does not matter when in the run they arrive.
    events: of ordinary customers. plain: unique orders, tickets and acquisitions only, in order,
    under their own keys, and nothing of what follows. identity: customers are merged and erased
    too. too_large: how many records of more than a MiB; they compress well, and must be published
    compressed. long_histories: how many customers there are beside the others with more of a kind
    than is remembered. erased_midway: how many of the ordinary ones are erased as of a time between
    their events.
    """

    def __init__(
        self,
        seed: int,
        customers: int,
        events: int,
        run_id: str,
        *,
        now: datetime | None = None,
        partitions: int = 4,
        plain: bool = False,
        identity: bool = False,
        too_large: int = 2,
        long_histories: int = 0,
        erased_midway: int = 0,
    ) -> None:
        if events > customers * MOST_EVENTS // 2:
            raise ValueError(
                f"{events} events of {customers} customers: at most {MOST_EVENTS // 2} each on "
                "average, or a customer's past is no longer remembered one by one"
            )
        now = datetime.now(UTC) if now is None else now
        self.run_id = run_id
        self.now = now.replace(microsecond=0)
        self.customers = [f"{run_id}-{number:06d}" for number in range(customers)]
        self.long: list[str] = []
        maker = Maker(random.Random(seed), self, partitions, too_large)
        maker.make(events, PLAIN_KINDS if plain else KINDS)
        if not plain:
            maker.erase_midway(erased_midway)
        if identity:
            maker.change_identities()
        if not plain:
            maker.misplace()
            self.long = names_of_long(run_id, long_histories, partitions)
            add_long_histories(maker, self.long)
        self.items: list[Item] = [item for _, item in sorted(maker.placed, key=lambda p: p[0])]

    @property
    def events(self) -> list[OutgoingEvent]:
        """All events in the order of publishing."""
        return [item.event for item in self.items]

    def add(self, more: list[Placed]) -> None:
        """Publish these too."""
        placed = [Placed(n / len(self.items), item) for n, item in enumerate(self.items)]
        # In the order in which they are given where they are at one place.
        self.items = [item for _, item in sorted([*placed, *more], key=lambda each: each.share)]

    def batches(self, size: int) -> Iterator[list[Item]]:
        """The items in order, so many at a time."""
        for start in range(0, len(self.items), size):
            yield self.items[start : start + size]


class Maker:
    """Makes events; each has a position in days, by which they are published."""

    def __init__(
        self, dice: random.Random, workload: Workload, partitions: int, too_large: int
    ) -> None:
        self.dice = dice
        self.run_id = workload.run_id
        self.now = workload.now
        self.start = workload.now - timedelta(days=HISTORY_DAYS)
        self.customers = workload.customers
        self.partitions = partitions
        self.too_large = too_large
        self.placed: list[tuple[float, Item]] = []
        self.budget = dict.fromkeys(self.customers, MOST_EVENTS)
        self.orders: dict[str, list[dict[str, Any]]] = {c: [] for c in self.customers}
        self.tickets: dict[str, list[tuple[str, str, float]]] = {c: [] for c in self.customers}
        self.erased: list[str] = []
        self.last_position = float(HISTORY_DAYS)
        self.source = SOURCES[0]
        self.serial = 0

    def make(self, events: int, kinds: dict[str, int]) -> None:
        # Few customers have most of the events, as in any shop.
        shares = list(accumulate(1 / (1 + rank) ** 0.5 for rank in range(len(self.customers))))
        plain = kinds is PLAIN_KINDS
        while len(self.placed) < events:
            (customer,) = self.dice.choices(self.customers, cum_weights=shares)
            if self.budget[customer] == 0:
                continue
            self.budget[customer] -= 1
            (kind,) = self.dice.choices(list(kinds), list(kinds.values()))
            days = self.dice.uniform(0, HISTORY_DAYS)
            if plain:
                self._plain(kind, customer, days)
            else:
                getattr(self, "_" + kind.replace(" ", "_"))(customer, days)

    def _plain(self, kind: str, customer: str, days: float) -> None:
        if kind == "order":
            data = self.order_data(customer, days, f"o{self.next()}")
            data |= {"currency": "USD", "total": self.amount(2)}
            self.put(data, "order.placed", SOURCES[0], customer, days, position=days)
        elif kind == "opening":
            data = self._ticket_data(f"t{self.next()}", days, "opened_at") | {"channel": "email"}
            data["customer_id"] = customer
            self.put(data, "ticket.opened", SOURCES[0], customer, days, position=days)
        else:
            self._acquisition(customer, days, position=days)

    def _order(self, customer: str, days: float) -> None:
        # Ids are counted per customer, and not per source: equal ids must not meet.
        source = self.dice.choice(SOURCES)
        data = self.order_data(customer, days, f"o{len(self.orders[customer]) // 2}")
        if any(o["order_id"] == data["order_id"] and o["source"] == source
               for o in self.orders[customer]):  # fmt: skip
            data["order_id"] = f"o{self.next()}x"
        if self.dice.random() < 0.01:
            days = self.dice.uniform(HISTORY_DAYS + 0.1, LATEST_DAYS)
            data["placed_at"] = self.at(days)
        self.orders[customer].append({"source": source, "days": days, "revision": 0, **data})
        self.put(data, "order.placed", source, customer, days)

    def _revision(self, customer: str, days: float) -> None:
        order = self._known(customer)
        if order is None:
            return self._order(customer, days)
        # Higher revisions are later; they are published in any order.
        order["revision"] += self.dice.randint(1, 3)
        order["days"] = min(order["days"] + self.dice.uniform(0.01, 0.2), LATEST_DAYS)
        data = self.order_data(customer, order["days"], order["order_id"])
        data["revision"] = order["revision"]
        return self.put(
            data, "order.placed", order["source"], customer, order["days"],
            position=order["days"] + self.dice.uniform(-5, 5),
        )  # fmt: skip

    def _duplicate(self, customer: str, days: float) -> None:
        if not self.placed:
            return self._order(customer, days)
        position, item = self.dice.choice(self.placed)
        if len(item.event.value) > 10_000:
            return self._order(customer, days)
        owner = self._owner(item.event.value)
        if owner is not None:
            if self.budget[owner] == 0:
                return self._order(customer, days)
            self.budget[owner] -= 1
        position += self.dice.choice([0.0, 0.001, 0.5, 30.0, 200.0])
        self.placed.append((position, item))
        return None

    def _owner(self, value: bytes) -> str | None:
        at = value.find(f"{self.run_id}-".encode())
        name = value[at : at + len(self.run_id) + 7].decode("utf-8", "replace") if at >= 0 else ""
        return name if name in self.budget else None

    def _same_order_again(self, customer: str, days: float) -> None:
        order = self._known(customer)
        if order is None:
            return self._order(customer, days)
        data = {k: v for k, v in order.items() if k not in _OWN}
        return self.put(
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
        data = {"order_id": order["order_id"], "cancelled_at": self.at(when)}
        position = when if self.dice.random() < 0.5 else order["days"] - self.dice.uniform(0, 10)
        return self.put(data, "order.cancelled", order["source"], customer, when, position)

    def _refund(self, customer: str, days: float) -> None:
        order = self._known(customer) if self.dice.random() < 0.8 else None
        data: dict[str, Any] = {"refund_id": f"r{self.next()}", "currency": self.currency()}
        source = self.dice.choice(SOURCES)
        if order is None:
            data["amount"] = self.amount(2)
        else:
            source = order["source"]
            days = min(order["days"] + self.dice.uniform(0, 0.4), LATEST_DAYS)
            data |= {"order_id": order["order_id"], "currency": order["currency"]}
            data["amount"] = order["total"] if self.dice.random() < 0.5 else self.amount(2)
        if self.dice.random() < 0.3:
            data["cost_recovered"] = self.amount(4)
        data["refunded_at"] = self.at(days)
        self.put(data, "order.refunded", source, customer, days)

    def _opening(self, customer: str, days: float) -> None:
        ticket, source = f"t{len(self.tickets[customer])}", self.dice.choice(SOURCES)
        self.tickets[customer].append((ticket, source, days))
        data = self._ticket_data(ticket, days, "opened_at")
        data["channel"] = self.dice.choice(["email", "phone", "chat", "social", "web"])
        if self.dice.random() < 0.3:
            data["complaint"] = self.dice.random() < 0.5
        if self.dice.random() < 0.2:
            data["topic"] = self.dice.choice(["complaint", "delivery"])
        self.put(data, "ticket.opened", source, customer, days)

    def _resolution(self, customer: str, days: float) -> None:
        ticket, source, days = self._ticket(customer, days)
        data = self._ticket_data(ticket, days, "resolved_at")
        if self.dice.random() < 0.4:
            data |= {"cost": self.amount(2), "currency": self.currency()}
        if self.dice.random() < 0.6:
            data["handling_minutes"] = self.dice.randint(0, 180) / 2
        self.put(data, "ticket.resolved", source, customer, days)

    def _rating(self, customer: str, days: float) -> None:
        ticket, source, days = self._ticket(customer, days)
        data = self._ticket_data(ticket, days, "rated_at")
        data |= {"score": self.dice.randint(1, 5), "scale": SCALE}
        self.put(data, "ticket.rated", source, customer, days)

    def _ticket(self, customer: str, days: float) -> tuple[str, str, float]:
        """A ticket to go on with: one that was opened, or one that nobody heard of."""
        if self.tickets[customer] and self.dice.random() < 0.8:
            ticket, source, opened = self.dice.choice(self.tickets[customer])
            return ticket, source, opened + self.dice.uniform(0, 0.4)
        return f"u{self.next()}", self.dice.choice(SOURCES), days

    def _survey(self, customer: str, days: float) -> None:
        data = {
            "survey_id": f"s{self.next()}", "answered_at": self.at(days), "customer_id": customer,
            "kind": self.dice.choice(["nps", "csat", "ces"]), "score": self.dice.randint(1, 5),
            "scale": SCALE,
        }  # fmt: skip
        self.put(data, "survey.answered", self.dice.choice(SOURCES), customer, days)

    def _acquisition(self, customer: str, days: float, position: float | None = None) -> None:
        data = {
            "customer_id": customer, "acquired_at": self.at(days), "cost": self.amount(2),
            "currency": "USD" if position is not None else self.currency(),
        }  # fmt: skip
        self.put(data, "customer.acquired", SOURCES[0], customer, days, position)

    def _refused(self, customer: str, days: float) -> None:
        kind = self.dice.choice(REFUSED_KINDS)
        if kind == "too large":
            if self.too_large == 0:
                kind = "bytes"
            else:
                self.too_large -= 1
        data = self.order_data(customer, days, f"refused{self.next()}")
        event_type = "order.placed"
        if kind == "unknown type":
            event_type = "order.shipped"
        elif kind == "missing field":
            del data[self.dice.choice(["order_id", "placed_at", "currency", "total"])]
        elif kind == "money as number":
            data["total"] = 12.5
        elif kind == "negative money":
            data["total"] = "-12.50"
        elif kind == "no rate":
            data["currency"] = WITHOUT_RATE
        elif kind == "placeholder":
            data["order_id"] = self.dice.choice(["null", "N/A", "Undefined"])
        elif kind == "future":
            days = HISTORY_DAYS + 1.25 + self.dice.random() * 3
            data["placed_at"] = self.at(days)
        elif kind == "nobody's":
            data = self._ticket_data(f"t{self.next()}", days, "opened_at") | {"channel": "web"}
            event_type = "ticket.opened"
        event = self.event(data, event_type, SOURCES[0], customer, days)
        text = event.value
        damaged = {
            "bytes": b"\xff\xfe\x00" + self.dice.randbytes(20) + text,
            "broken json": text[: self.dice.randint(1, len(text) - 1)],
            "no event": b'["%s", %d]' % (customer.encode(), self.next()),
            "empty": b"",
            "too large": text + b" " * (1_048_577 - len(text) + self.dice.randint(0, 99)),
        }
        key = None if kind == "nobody's" else event.key
        position = min(days, HISTORY_DAYS)
        event = event._replace(value=damaged.get(kind, text), key=key)
        if kind == "wrong topic":
            event = event._replace(topic=self.dice.choice(["support", "customers", "identities"]))
        self.placed.append((position, Item(event, self._home(event.key))))

    def erase_midway(self, count: int) -> None:
        """Erase some customers as of a time between their events."""
        self.erased = self.dice.sample(self.customers, count)
        for customer in self.erased:
            erase_midway(self, customer, 2 * AROUND_DAYS, HISTORY_DAYS - 2 * AROUND_DAYS)

    def change_identities(self) -> None:
        """Erase some customers and merge some others; no customer is both."""
        # Of three who become one nothing is to be beyond memory.
        others = [
            customer
            for customer in self.customers
            if customer not in self.erased and self.budget[customer] >= MOST_EVENTS // 2
        ]
        chosen = self.dice.sample(others, max(len(self.customers) // 4, 5))
        third = len(chosen) // 3
        erased, chained, pairs = chosen[:third], chosen[third : 2 * third], chosen[2 * third :]
        for number, customer in enumerate(erased):
            # Every other one has no life after it, and an erasure reaches no further than now.
            days = HISTORY_DAYS if number % 2 == 0 else self.dice.uniform(100, 300)
            if days == HISTORY_DAYS:
                self._drop_after(customer, days)
            data = {"customer_id": customer, "erased_at": self.at(days)}
            position = self.dice.uniform(0, HISTORY_DAYS)
            self.put(data, "customer.erased", SOURCES[0], customer, days, position)
        for first, second, third_one in zip(*[iter(chained)] * 3, strict=False):
            self._merge(first, second)
            self._merge(second, third_one)
        for stays, goes in zip(*[iter(pairs)] * 2, strict=False):
            self._merge(stays, goes)

    def _drop_after(self, customer: str, days: float) -> None:
        """Take back a customer's events that are later than this."""
        last, key = self.start + timedelta(days=days), customer.encode()
        self.placed = [
            each for each in self.placed if each[1].event.key != key or each[1].event.time <= last
        ]

    def _merge(self, stays: str, goes: str) -> None:
        days = self.dice.uniform(0, HISTORY_DAYS)
        data = {"customer_id": stays, "merged_from": goes, "merged_at": self.at(days)}
        position = self.dice.uniform(0, HISTORY_DAYS)
        self.put(data, "customer.merged", SOURCES[0], stays, days, position)

    def misplace(self) -> None:
        """Give some events the key of somebody else, no key, or a partition that is not theirs."""
        routes = Routes(self.dice, self.customers, SOURCES, self.partitions)
        for number, (position, item) in enumerate(self.placed):
            event, partition = item
            if partition is None:
                partition = routes.partition(event)
            chance = self.dice.random()
            says_customer = b'"customer_id"' in event.value
            if says_customer and chance < 0.02:
                event = event._replace(key=self.dice.choice(self.customers).encode())
            elif says_customer and chance < 0.03:
                event = event._replace(key=None)
            elif chance > 0.97 and event.key is not None:
                home = home_partition(event.key, self.partitions)
                partition = (home + self.dice.randint(1, self.partitions - 1)) % self.partitions
            self.placed[number] = position, Item(event, partition)

    def put(
        self,
        data: dict[str, Any],
        event_type: str,
        source: str,
        customer: str,
        days: float,
        position: float | None = None,
    ) -> None:
        if position is None and "customer_id" not in data and self.dice.random() < 0.5:
            data["customer_id"] = customer
        event = self.event(data, event_type, source, customer, days)
        if position is None:
            position, chance = days, self.dice.random()
            if chance < 0.03:
                position = days + 365
            elif chance < 0.25:
                position += self.dice.uniform(-20, 20)
            if self.dice.random() < 0.1:
                event = self.binary(event)
        self.placed.append((position, Item(event, None)))

    def event(
        self, data: dict[str, Any], event_type: str, source: str, customer: str, days: float
    ) -> OutgoingEvent:
        topic = TOPIC_OF_TYPE.get(event_type, "orders")
        return cloud_event(
            topic, event_type, source=source, event_id=f"{self.run_id}/{self.next()}",
            time=self.start + timedelta(days=days), data=data, customer_id=customer,
        )  # fmt: skip

    def order_data(self, customer: str, days: float, order_id: str) -> dict[str, Any]:
        data: dict[str, Any] = {
            "order_id": order_id, "customer_id": customer, "placed_at": self.at(days),
            "currency": self.currency(), "total": self.amount(2),
        }  # fmt: skip
        if self.dice.random() < 0.4:
            data["cost_of_goods"] = self.amount(4)
        return data

    def _ticket_data(self, ticket: str, days: float, time_field: str) -> dict[str, Any]:
        return {"ticket_id": ticket, time_field: self.at(days)}

    def _known(self, customer: str) -> dict[str, Any] | None:
        orders = self.orders[customer]
        return self.dice.choice(orders) if orders else None

    def at(self, days: float) -> str:
        moment = self.start + timedelta(days=days)
        return moment.isoformat(timespec="milliseconds")

    def amount(self, digits: int) -> str:
        units = self.dice.randint(1, 500 * 10**digits)
        return f"{units // 10**digits}.{units % 10**digits:0{digits}d}"

    def currency(self) -> str:
        return self.dice.choices(["USD", "EUR", "GBP", "JPY"], [75, 12, 8, 5])[0]

    def _home(self, key: bytes | None) -> int | None:
        return None if key is None else home_partition(key, self.partitions)

    def next(self) -> int:
        self.serial += 1
        return self.serial

    def new_id(self, prefix: str) -> str:
        """An id that nothing else has."""
        return f"{prefix}{self.next()}"

    def any_source(self) -> str:
        """One of the shops."""
        return self.dice.choice(SOURCES)

    def place(self, position: float, event: OutgoingEvent, partition: int | None) -> None:
        """Publish an event at this point of the order, where it is said."""
        self.placed.append((position, Item(event, partition)))

    @staticmethod
    def day_of_step(step: int, steps: int) -> float:
        """One of so many moments in the order of time, all of them different."""
        return HISTORY_DAYS * step / steps

    def under_another_id(self, event: OutgoingEvent) -> OutgoingEvent:
        """The same event as another CloudEvent, which must be in structured mode."""
        document = msgspec.json.decode(event.value) | {"id": f"{self.run_id}/{self.next()}"}
        return event._replace(value=msgspec.json.encode(document))

    @staticmethod
    def binary(event: OutgoingEvent) -> OutgoingEvent:
        """The same event with its attributes in headers, and its data alone as the value."""
        document = msgspec.json.decode(event.value)
        data = msgspec.json.encode(document.pop("data"))
        document.pop("datacontenttype")
        attributes = [(f"ce_{name}", text.encode()) for name, text in document.items()]
        others = [header for header in event.headers if header[0] != JSON_HEADER[0][0]]
        return event._replace(value=data, headers=JSON_HEADER + attributes + others)
