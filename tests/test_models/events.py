"""Hypothesis strategies and builders for events, shared by the tests of the core."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from hypothesis import strategies as st

from models.contracts import Envelope, decode

START = datetime(2026, 1, 1, 12, tzinfo=UTC)
_scale = {"min": 1, "max": 5}


class KafkaRecord(NamedTuple):
    """A record as the engine sees it."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes], ...] = ()


def at(days: float) -> str:
    """RFC 3339 text of so many days after the start."""
    return (START + timedelta(days=days)).isoformat()


def milliseconds(days: float) -> int:
    """The same moment in milliseconds since 1970."""
    return round((START + timedelta(days=days)).timestamp() * 1000)


def body(type_: str, data: dict[str, Any], source: str = "/shop", id_: str = "e") -> bytes:
    """A CloudEvent in structured JSON."""
    return json.dumps(
        {"specversion": "1.0", "id": id_, "source": source, "type": type_, "data": data}
    ).encode()


def event(type_: str, data: dict[str, Any], source: str = "/shop") -> Envelope:
    """A decoded event of customer c1."""
    return decode(b"c1", body(type_, {"customer_id": "c1", **data}, source), ())


def placed(order: str, days: float, total: str = "40.00", **more: Any) -> Envelope:
    """An order."""
    data = {"order_id": order, "placed_at": at(days), "currency": "USD", "total": total, **more}
    return event("order.placed", data)


def refunded(refund: str, days: float, amount: str, **more: Any) -> Envelope:
    """A refund."""
    data = {
        "refund_id": refund, "refunded_at": at(days), "currency": "USD", "amount": amount, **more,
    }  # fmt: skip
    return event("order.refunded", data)


def cancelled(order: str, days: float) -> Envelope:
    """A cancellation."""
    return event("order.cancelled", {"order_id": order, "cancelled_at": at(days)})


def opened(ticket: str, days: float, channel: str = "email", complaint: bool = False) -> Envelope:
    """A ticket's opening."""
    data = {"ticket_id": ticket, "opened_at": at(days), "channel": channel, "complaint": complaint}
    return event("ticket.opened", data)


def resolved(ticket: str, days: float, **more: Any) -> Envelope:
    """A ticket's resolution."""
    return event("ticket.resolved", {"ticket_id": ticket, "resolved_at": at(days), **more})


def rated(ticket: str, days: float, score: int = 4) -> Envelope:
    """A ticket's rating, from 1 to 5."""
    data = {"ticket_id": ticket, "rated_at": at(days), "score": score, "scale": _scale}
    return event("ticket.rated", data)


def survey(kind: str, days: float, score: int, scale: dict[str, int]) -> Envelope:
    """An answer to a survey."""
    data = {"survey_id": kind, "answered_at": at(days), "kind": kind}
    return event("survey.answered", {**data, "score": score, "scale": scale})


def acquired(customer: str, days: float, cost: str = "5.00", **more: Any) -> Envelope:
    """What winning a customer cost, under one of the customer's ids."""
    data = {
        "customer_id": customer, "acquired_at": at(days), "cost": cost, "currency": "USD", **more,
    }  # fmt: skip
    return decode(customer.encode(), body("customer.acquired", data), ())


_days = st.integers(0, 900).map(lambda quarter: quarter / 4)
_money = st.integers(0, 5_000_000).map(lambda units: f"{units // 10_000}.{units % 10_000:04d}")
_orders = st.integers(0, 8).map(lambda n: f"o{n}")
_tickets = st.integers(0, 5).map(lambda n: f"t{n}")
_sources = st.sampled_from(["/shop/eu", "/shop/us"])


@st.composite
def events(draw: st.DrawFn) -> Envelope:
    """Any event that the fold handles; few ids, so that events meet each other."""
    kind = draw(st.sampled_from(sorted(_BUILDERS)))
    return event(kind, _BUILDERS[kind](draw), draw(_sources))


_BUILDERS = {
    "order.placed": lambda draw: {
        "order_id": draw(_orders), "placed_at": at(draw(_days)), "currency": "USD",
        "total": draw(_money), "revision": draw(st.none() | st.integers(0, 3)),
        "cost_of_goods": draw(st.none() | _money),
    },
    "order.cancelled": lambda draw: {"order_id": draw(_orders), "cancelled_at": at(draw(_days))},
    "order.refunded": lambda draw: {
        "refund_id": draw(st.integers(0, 5).map(str)), "order_id": draw(st.none() | _orders),
        "amount": draw(_money), "currency": "USD", "cost_recovered": draw(st.none() | _money),
        "refunded_at": at(draw(_days)),
    },
    "ticket.opened": lambda draw: {
        "ticket_id": draw(_tickets), "opened_at": at(draw(_days)),
        "channel": draw(st.sampled_from(["email", "phone", "web"])),
        "complaint": draw(st.booleans()),
    },
    "ticket.resolved": lambda draw: {
        "ticket_id": draw(_tickets), "resolved_at": at(draw(_days)),
        "handling_minutes": draw(st.none() | st.integers(0, 90)),
    },
    "ticket.rated": lambda draw: {
        "ticket_id": draw(_tickets), "rated_at": at(draw(_days)),
        "score": draw(st.integers(1, 5)), "scale": _scale,
    },
    "survey.answered": lambda draw: {
        "survey_id": draw(st.integers(0, 3).map(str)), "answered_at": at(draw(_days)),
        "kind": draw(st.sampled_from(["nps", "csat"])),
        "score": draw(st.integers(1, 5)), "scale": _scale,
    },
    "customer.acquired": lambda draw: {
        "acquired_at": at(draw(_days)), "cost": draw(_money), "currency": "USD",
        "channel": draw(st.none() | st.sampled_from(["search", "letter"])),
    },
}  # fmt: skip
