"""Read aggregates of schema 2, which held days and converted amounts in place of what was said.

Amounts count as in the reporting currency (`HOME`), and a refund that recovered nothing as one that
does not say. Compacted support costs keep their sum.
"""

from __future__ import annotations

from typing import Any

import msgspec

from models.aggregate.compacted import Compacted, DayTotals, Money, Moneys
from models.aggregate.state import Aggregate
from models.currencies import HOME
from models.events.acquisitions import Acquisition
from models.events.orders import Order
from models.events.refunds import Refund
from models.events.surveys import Survey
from models.events.tickets import Opened, Rated, Resolved, Ticket


class _DayTotals(msgspec.Struct, array_like=True):
    orders: int = 0
    gross: int = 0
    uncosted: int = 0
    cost: int = 0
    refunded: int = 0
    recovered: int = 0
    contacts: int = 0


class _Compacted(msgspec.Struct, array_like=True):
    orders_until: tuple[int, int] = (-1, 0)
    refunds_until: tuple[int, int] = (-1, 0)
    tickets_until: tuple[int, int] = (-1, 0)
    orders: int = 0
    purchase_days: int = 0
    first_day: int = 0
    last_day: int = 0
    first_day_gross: int = 0
    gross: int = 0
    uncosted: int = 0
    cost: int = 0
    refunds: int = 0
    refunded: int = 0
    recovered: int = 0
    contacts: int = 0
    complaints: int = 0
    last_complaint: int = 0
    support_cost: int = 0
    days: dict[int, _DayTotals] = msgspec.field(default_factory=dict)
    cancelled: dict[int, int] = msgspec.field(default_factory=dict)
    cancellations_until: int = -1


_Order = tuple[int, int, int, int, int]
_Ticket = tuple[
    tuple[int, int, bool, int] | None,
    tuple[int, int, int, int] | None,
    tuple[int, float, int] | None,
]


class _Aggregate(msgspec.Struct, array_like=True):
    """An aggregate of schema 2, as stored."""

    orders: dict[int, _Order] = msgspec.field(default_factory=dict)
    cancelled: dict[int, int] = msgspec.field(default_factory=dict)
    refunds: dict[int, tuple[int, int, int, int, int]] = msgspec.field(default_factory=dict)
    tickets: dict[int, _Ticket] = msgspec.field(default_factory=dict)
    surveys: dict[str, tuple[int, float]] = msgspec.field(default_factory=dict)
    acquisitions: dict[int, tuple[int, int]] = msgspec.field(default_factory=dict)
    compacted: _Compacted | None = None
    superseded: dict[int, tuple[_Order, ...]] = msgspec.field(default_factory=dict)


_decode_parts = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode
_decode_aggregate = msgspec.msgpack.Decoder(_Aggregate).decode
_encode = msgspec.msgpack.Encoder().encode


def upgraded(data: bytes | memoryview, place: int) -> bytes:
    """Return an encoded list with the aggregate at this place in today's schema.

    Raises
    ------
    msgspec.MsgspecError
        if the bytes are damaged.
    """
    parts = _decode_parts(data)
    if place < len(parts):
        parts[place] = msgspec.Raw(_encode(_upgraded(_decode_aggregate(parts[place]))))
    return _encode(parts)


def _upgraded(old: _Aggregate) -> Aggregate:
    return Aggregate(
        orders={key: _order(order) for key, order in old.orders.items()},
        cancelled=old.cancelled,
        refunds={
            key: Refund(time, 0, order, amount, HOME, recovered or -1)
            for key, (time, order, amount, recovered, _) in old.refunds.items()
        },
        tickets={key: _ticket(*ticket) for key, ticket in old.tickets.items()},
        surveys={kind: Survey(time, 0, score) for kind, (time, score) in old.surveys.items()},
        acquisitions={
            key: Acquisition(time, 0, cost, HOME) for key, (time, cost) in old.acquisitions.items()
        },
        compacted=None if old.compacted is None else _compacted(old.compacted),
        superseded={
            key: tuple(_order(order) for order in orders) for key, orders in old.superseded.items()
        },
    )


def _order(old: _Order) -> Order:
    revision, time, gross, cost, _ = old
    return Order(revision, time, 0, gross, HOME, cost)


def _ticket(opened: Any, resolved: Any, rated: Any) -> Ticket:
    return Ticket(
        None if opened is None else Opened(opened[0], 0, opened[1], opened[2], 0),
        None if resolved is None else Resolved(resolved[0], 0, resolved[1], HOME, resolved[2]),
        None if rated is None else Rated(rated[0], 0, rated[1]),
    )


def _compacted(old: _Compacted) -> Compacted:
    same = (
        "orders_until", "refunds_until", "tickets_until", "orders", "purchase_days", "first_day",
        "last_day", "refunds", "contacts", "complaints", "last_complaint", "cancelled",
        "cancellations_until",
    )  # fmt: skip
    return Compacted(
        **{name: getattr(old, name) for name in same},
        first_day_gross={HOME: old.first_day_gross} if old.orders else {},
        money=_money(old, old.support_cost),
        days={
            day: DayTotals(totals.orders, totals.contacts, _money(totals))
            for day, totals in old.days.items()
        },
    )


def _money(of: _Compacted | _DayTotals, support: int = 0) -> Moneys:
    sums = of.gross, of.uncosted, of.cost, of.refunded, of.recovered
    return {HOME: Money(*sums, support=support)} if any((*sums, support)) else {}
