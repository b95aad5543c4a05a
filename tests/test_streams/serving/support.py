from datetime import UTC, datetime, timedelta

from streams.files.outgoing import cloud_event

TIME = datetime(2026, 1, 3, 10, tzinfo=UTC)
NAMES = [f"c{number:02d}" for number in range(20)]


def order(customer, name, days=0.0, total="40.00"):
    at = TIME + timedelta(days=days)
    return cloud_event(
        "orders", "order.placed", source="/shop", event_id=f"{customer}/{name}", time=at,
        customer_id=customer,
        data={
            "order_id": f"{customer}/{name}", "customer_id": customer, "placed_at": at,
            "currency": "USD", "total": total,
        },
    )  # fmt: skip


def purchases():
    """Twenty customers of rising value, some of them of the same; and one with a slash."""
    events = [order(name, "1", total=f"{10 + number // 3}.00") for number, name in enumerate(NAMES)]
    return [*events, order("a/b ü", "1", total="500.00")]
