"""Makes single events, and holds all that were made for a workload."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from typing import Any

import msgspec

from models.contracts import TOPIC_OF_TYPE
from streams.files.outgoing import OutgoingEvent, cloud_event
from tests.faults.items import Item

SOURCES = ("/shop/eu", "/shop/us", "/shop/jp")
HISTORY_DAYS = 400

MOST_EVENTS = 180
"""Of one customer without a long history: fewer than are remembered one by one, also with what goes
with an erasure, so that nothing is refused as too old."""

JSON_HEADER = [("content-type", b"application/json")]


class Maker:
    """Makes events; each has a position in days, by which they are published."""

    def __init__(
        self,
        dice: random.Random,
        run_id: str,
        now: datetime,
        customers: list[str],
        partitions: int,
    ) -> None:
        self.dice = dice
        self.run_id = run_id
        self.start = now - timedelta(days=HISTORY_DAYS)
        self.customers = customers
        self.partitions = partitions
        self.placed: list[tuple[float, Item]] = []
        self.budget = dict.fromkeys(self.customers, MOST_EVENTS)
        self.erased: list[str] = []
        self.last_position = float(HISTORY_DAYS)
        self.source = SOURCES[0]
        self.serial = 0

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

    def ticket_data(self, ticket: str, days: float, time_field: str) -> dict[str, Any]:
        return {"ticket_id": ticket, time_field: self.at(days)}

    def at(self, days: float) -> str:
        moment = self.start + timedelta(days=days)
        return moment.isoformat(timespec="milliseconds")

    def amount(self, digits: int) -> str:
        units = self.dice.randint(1, 500 * 10**digits)
        return f"{units // 10**digits}.{units % 10**digits:0{digits}d}"

    def currency(self) -> str:
        return self.dice.choices(["USD", "EUR", "GBP", "JPY"], [75, 12, 8, 5])[0]

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
