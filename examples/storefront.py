"""A storefront that publishes its orders: needs aiokafka and nothing of CLV Streams.

    python examples/storefront.py localhost:9092
    python examples/storefront.py localhost:9092 EUR
    python examples/storefront.py localhost:9092 USD 1998-07-01

The second argument is the shop's currency, USD by default. The service refuses an order in another
one, unless it has an exchange rate for it (CLV_ECONOMICS__CURRENCY, CLV_ECONOMICS__EXCHANGE_RATES).
The third one is the day of the order, today by default.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import NamedTuple

from aiokafka import AIOKafkaProducer

TOPIC = "shop.orders"
SOURCE = "/storefront/eu"
HEADERS = [("content-type", b"application/cloudevents+json; charset=utf-8")]


@dataclass(frozen=True)
class Order:
    """An order as the shop's own database has it."""

    number: str
    customer: str
    placed_at: datetime
    total: Decimal
    currency: str = "EUR"


class Message(NamedTuple):
    """A Kafka record."""

    key: bytes
    value: bytes
    headers: list[tuple[str, bytes]]


def order_placed(order: Order) -> Message:
    """The CloudEvent of an order, keyed by its customer.

    The id follows from the order: publishing it twice after a crash counts once.
    """
    event = {
        "specversion": "1.0",
        "id": f"order-{order.number}-placed",
        "source": SOURCE,
        "type": "order.placed",
        "time": order.placed_at.isoformat(),
        "datacontenttype": "application/json",
        "data": {
            "order_id": order.number,
            "customer_id": order.customer,
            "placed_at": order.placed_at.isoformat(),
            "currency": order.currency,
            "total": str(order.total),
        },
    }
    return Message(order.customer.encode(), json.dumps(event).encode(), HEADERS)


async def publish(servers: str, orders: Iterable[Order]) -> None:
    """Publish orders; returns when the broker has them all."""
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all")
    await producer.start()
    try:
        messages = map(order_placed, orders)
        sent = [
            await producer.send(TOPIC, key=key, value=value, headers=headers)
            for key, value, headers in messages
        ]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()


def main(servers: str, currency: str = "USD", day: str | None = None) -> None:
    """Publish an order of the customer c1, placed now or on a day."""
    placed_at = datetime.now(UTC) if day is None else datetime.fromisoformat(f"{day}T12:00:00Z")
    order = Order("1001", "c1", placed_at, Decimal("40.00"), currency)
    asyncio.run(publish(servers, [order]))


if __name__ == "__main__":
    if len(sys.argv) not in {2, 3, 4}:
        sys.exit(f"usage: {sys.argv[0]} BROKER [CURRENCY [DAY]]")
    main(*sys.argv[1:])
