"""What the two peers keep and compute per customer: sums and one simple formula."""

from typing import Any

from models.contracts import Envelope, OrderPlaced, decode, money_units

Headers = list[tuple[str, bytes]]
Customer = dict[str, Any]

MARGIN = 0.3
HORIZON_DAYS = 365


def order_of(key: bytes, value: bytes, headers: Headers) -> Envelope:
    """Return the order in a record; raises Refused, or TypeError for another type of event."""
    event = decode(key, value, headers)
    if not isinstance(event.data, OrderPlaced):
        raise TypeError(f"{event.type} {event.id}: this app knows order.placed only")
    return event


def fold(customer: Customer, order: Envelope) -> Customer:
    """Return the customer with one more order."""
    day = order.data.placed_at.toordinal()
    revenue = money_units(order.data.total)
    if not customer:
        return {"orders": 1, "revenue": revenue, "first_day": day, "last_day": day}
    return {
        "orders": customer["orders"] + 1,
        "revenue": customer["revenue"] + revenue,
        "first_day": min(customer["first_day"], day),
        "last_day": max(customer["last_day"], day),
    }


def update(customer_id: str, customer: Customer) -> dict[str, Any]:
    """Return the output for a customer: order value x purchase frequency x horizon x margin."""
    orders, revenue = customer["orders"], customer["revenue"] / 10_000
    days = max(customer["last_day"] - customer["first_day"] + 1, HORIZON_DAYS)
    expected = (revenue / orders) * (orders / days) * HORIZON_DAYS * MARGIN
    return {
        "customer_id": customer_id,
        "orders": orders,
        "revenue": revenue,
        "value": round(revenue * MARGIN + expected, 2),
        "as_of_day": customer["last_day"],
    }
