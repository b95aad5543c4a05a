"""Builders of the events that publishers send, one method for each type."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from models.contracts import EVENT, EVENT_TYPES, TOPIC_OF_TYPE, Envelope
from models.contracts.fields import EventData
from models.documents import CONTENT_TYPE
from streams.files.outgoing import OutgoingEvent
from streams.testing.clock import Clock, Moment

Money = str | int | Decimal
"""An amount: "40.00 EUR", or in the shop's currency "40.00", 40 or Decimal("40.00")."""

_MONEY = re.compile(r"(\S+)(?:\s+([A-Za-z]{3}))?")

Send = Callable[[OutgoingEvent], Awaitable[None]]


class Writer:
    """Makes events and hands them to `send`; ids that are not given are counted."""

    def __init__(self, clock: Clock, currency: str, source: str, send: Send) -> None:
        self.currency = currency
        self._clock = clock
        self._source = source
        self._send = send
        self._counts: Counter[str] = Counter()

    def number(self, what: str) -> str:
        """The next id of a kind: "order-1", "order-2"."""
        self._counts[what] += 1
        return f"{what}-{self._counts[what]}"

    def money(self, amount: Money, currency: str | None = None) -> tuple[str, str]:
        """An amount as decimal text, and its currency.

        currency: that of an amount which names none, the shop's if there is none. Errors:
        TypeError for a float, ValueError for what is no amount, or names another currency.
        """
        if isinstance(amount, float):
            raise TypeError(f'{amount!r} is a float; write "{amount} {self.currency}" instead')
        parts = _MONEY.fullmatch(str(amount).strip())
        if parts is None:
            raise ValueError(f'{amount!r} is no amount; write it as "40.00 {self.currency}"')
        named = (parts[2] or currency or self.currency).upper()
        if currency is not None and currency.upper() != named:
            raise ValueError(f"{amount!r} is not in {currency}, the currency of the whole event")
        return parts[1], named

    async def event(
        self,
        event_type: str,
        customer: str | None,
        at: Moment | None,
        data: dict[str, Any],
        *,
        event_id: str | None = None,
        source: str | None = None,
    ) -> Envelope:
        """Publish an event, keyed by its customer; returns it.

        at: when it happened; now, if it is not given. data: without customer and time; what is
        None is left out. Errors: pydantic's ValidationError for what the contracts refuse.
        """
        moment = self._clock.time if at is None else self._clock.moment(at)
        contract: type[EventData] = EVENT_TYPES[event_type]
        given = {name: value for name, value in data.items() if value is not None}
        event = EVENT.validate_python(
            {
                "specversion": "1.0",
                "id": event_id or self.number("event"),
                "source": source or self._source,
                "type": event_type,
                "time": moment,
                "datacontenttype": "application/json",
                "data": {"customer_id": customer, contract.time_field: moment, **given},
            }
        )
        key = None if customer is None else customer.encode()
        topic = TOPIC_OF_TYPE[event_type]
        value = event.model_dump_json(exclude_none=True).encode()
        await self._send(OutgoingEvent(topic, key, value, [CONTENT_TYPE], moment))
        return event


class Orders:
    """What storefronts say about orders."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def placed(
        self,
        customer: str,
        total: Money,
        *,
        at: Moment | None = None,
        order: str | None = None,
        cost_of_goods: Money | None = None,
        **more: Any,
    ) -> Envelope:
        """`order.placed`; more: items, channel, revision, and event_id and source."""
        amount, currency = self._writer.money(total, more.pop("currency", None))
        data = {
            "order_id": order or self._writer.number("order"),
            "total": amount,
            "currency": currency,
            "cost_of_goods": _optional(self._writer, cost_of_goods, currency),
        }
        return await _publish(self._writer, "order.placed", customer, at=at, data=data, more=more)

    async def refunded(
        self,
        customer: str,
        amount: Money,
        *,
        at: Moment | None = None,
        order: str | None = None,
        refund: str | None = None,
        cost_recovered: Money | None = None,
        **more: Any,
    ) -> Envelope:
        """`order.refunded`; without an order it is a credit."""
        text, currency = self._writer.money(amount, more.pop("currency", None))
        data = {
            "refund_id": refund or self._writer.number("refund"),
            "order_id": order,
            "amount": text,
            "currency": currency,
            "cost_recovered": _optional(self._writer, cost_recovered, currency),
        }
        return await _publish(self._writer, "order.refunded", customer, at=at, data=data, more=more)

    async def cancelled(
        self, customer: str, order: str, *, at: Moment | None = None, **more: Any
    ) -> Envelope:
        """`order.cancelled`."""
        return await _publish(
            self._writer, "order.cancelled", customer, at=at, data={"order_id": order}, more=more
        )


class Support:
    """What help desks and surveys say."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def opened(
        self,
        customer: str,
        *,
        channel: str = "email",
        at: Moment | None = None,
        ticket: str | None = None,
        **more: Any,
    ) -> Envelope:
        """`ticket.opened`; more: topic, priority, complaint."""
        data = {"ticket_id": ticket or self._writer.number("ticket"), "channel": channel}
        return await _publish(self._writer, "ticket.opened", customer, at=at, data=data, more=more)

    async def resolved(
        self,
        customer: str,
        ticket: str,
        *,
        at: Moment | None = None,
        minutes: float | None = None,
        cost: Money | None = None,
        **more: Any,
    ) -> Envelope:
        """`ticket.resolved`, with the minutes or the money it took."""
        amount, currency = None, more.pop("currency", None)
        if cost is not None:
            amount, currency = self._writer.money(cost, currency)
        data = {
            "ticket_id": ticket,
            "handling_minutes": None if minutes is None else float(minutes),
            "cost": amount,
            "currency": currency,
        }
        return await _publish(
            self._writer, "ticket.resolved", customer, at=at, data=data, more=more
        )

    async def rated(
        self,
        customer: str,
        ticket: str,
        score: float,
        *,
        scale: tuple[float, float] = (1, 5),
        at: Moment | None = None,
        **more: Any,
    ) -> Envelope:
        """`ticket.rated`; scale: the worst and the best score."""
        data = {"ticket_id": ticket, **_score(score, scale)}
        return await _publish(self._writer, "ticket.rated", customer, at=at, data=data, more=more)

    async def answered(
        self,
        customer: str,
        score: float,
        *,
        kind: str = "nps",
        scale: tuple[float, float] = (0, 10),
        at: Moment | None = None,
        survey: str | None = None,
        **more: Any,
    ) -> Envelope:
        """`survey.answered`; kind: nps, csat or ces."""
        data = {
            "survey_id": survey or self._writer.number("survey"),
            "kind": kind,
            **_score(score, scale),
        }
        return await _publish(
            self._writer, "survey.answered", customer, at=at, data=data, more=more
        )


class Customers:
    """What is said about customers themselves."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer

    async def acquired(
        self, customer: str, cost: Money, *, at: Moment | None = None, **more: Any
    ) -> Envelope:
        """`customer.acquired`; more: channel, campaign."""
        amount, currency = self._writer.money(cost, more.pop("currency", None))
        data = {"cost": amount, "currency": currency}
        return await _publish(
            self._writer, "customer.acquired", customer, at=at, data=data, more=more
        )

    async def merged(
        self, customer: str, merged_from: str, *, at: Moment | None = None, **more: Any
    ) -> Envelope:
        """`customer.merged`: `customer` stays, `merged_from` goes."""
        data = {"merged_from": merged_from}
        return await _publish(
            self._writer, "customer.merged", customer, at=at, data=data, more=more
        )

    async def erased(self, customer: str, *, at: Moment | None = None, **more: Any) -> Envelope:
        """`customer.erased`."""
        return await _publish(self._writer, "customer.erased", customer, at=at, data={}, more=more)


async def _publish(
    writer: Writer,
    event_type: str,
    customer: str,
    *,
    at: Moment | None,
    data: dict[str, Any],
    more: dict[str, Any],
) -> Envelope:
    envelope = {name: more.pop(name) for name in ("event_id", "source") if name in more}
    known = EVENT_TYPES[event_type].model_fields
    if unknown := sorted(set(more) - set(known)):
        raise TypeError(f"{event_type} has no {', '.join(unknown)}; it has {', '.join(known)}")
    return await writer.event(event_type, customer, at, data | more, **envelope)


def _optional(writer: Writer, amount: Money | None, currency: str) -> str | None:
    if amount is None:
        return None
    return writer.money(amount, currency)[0]


def _score(score: float, scale: tuple[float, float]) -> dict[str, Any]:
    low, high = scale
    return {"score": float(score), "scale": {"min": float(low), "max": float(high)}}
