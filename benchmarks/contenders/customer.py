"""What the peers keep and compute per customer: sums and one simple formula."""

from datetime import datetime
from typing import Any

from models.contracts import (
    Envelope,
    OrderPlaced,
    OrderRefunded,
    TicketOpened,
    decode,
    money_units,
)

Headers = list[tuple[str, bytes]]
Customer = dict[str, Any]

MARGIN = 0.3
CONTACT = 5.0
HORIZON_DAYS = 365
UNITS = 10_000
"""Parts of a unit of money."""


def event_of(key: bytes, value: bytes, headers: Headers | None) -> Envelope:
    """Return the event in a record; raises Refused."""
    return decode(key, value, headers or [])


def fold(customer: Customer, event: Envelope) -> Customer:
    """Return the customer with one more event; TypeError for a type that the peers do not know."""
    now = customer or {"orders": 0, "revenue": 0, "refunded": 0, "contacts": 0}
    match event.data:
        case OrderPlaced(total=total, placed_at=placed_at):
            day = _day(placed_at)
            return {
                **now,
                "orders": now["orders"] + 1,
                "revenue": now["revenue"] + money_units(total),
                "first_day": min(now.get("first_day", day), day),
                "last_day": max(now.get("last_day", day), day),
            }
        case OrderRefunded(amount=amount):
            return {**now, "refunded": now["refunded"] + money_units(amount)}
        case TicketOpened():
            return {**now, "contacts": now["contacts"] + 1}
    raise TypeError(f"{event.type} {event.id}: the peers do not know this type")


def _day(moment: datetime) -> int:
    return moment.toordinal()


def update(customer_id: str, customer: Customer) -> dict[str, Any]:
    """Return the output for a customer: order value x purchase frequency x horizon x margin."""
    gross, refunded = customer["revenue"] / UNITS, customer["refunded"] / UNITS
    orders, contacts = customer["orders"], customer["contacts"]
    expected = 0.0
    if orders:
        days = max(customer["last_day"] - customer["first_day"] + 1, HORIZON_DAYS)
        expected = (gross - refunded) / orders * (orders / days) * HORIZON_DAYS * MARGIN
    return {
        "customer_id": customer_id,
        "orders": orders,
        "revenue": gross,
        "refunded": refunded,
        "contacts": contacts,
        "value": round((gross - refunded) * MARGIN - contacts * CONTACT + expected, 2),
    }
