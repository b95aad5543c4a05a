"""Builders of the events that publishers send, one method for each type."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Awaitable, Callable
from decimal import Decimal
from typing import Any

from models.contracts import EVENT, EVENT_TYPES, TOPIC_OF_TYPE, Envelope
from models.documents import CONTENT_TYPE
from models.events.fields import EventData
from streams.files.outgoing import OutgoingEvent
from streams.simulation.clock import Clock, Moment
from streams.testing.usage import Usage, awaited

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


class _Publisher:
    """Publishes the events of one kind of publisher."""

    def __init__(self, writer: Writer, usage: Usage) -> None:
        self._writer = writer
        self._usage = usage

    async def _publish(
        self,
        event_type: str,
        customer: str,
        at: Moment | None,
        data: dict[str, Any],
        more: dict[str, Any],
    ) -> Envelope:
        envelope = {name: more.pop(name) for name in ("event_id", "source") if name in more}
        known = EVENT_TYPES[event_type].model_fields
        if unknown := sorted(set(more) - set(known)):
            raise TypeError(f"{event_type} has no {', '.join(unknown)}; it has {', '.join(known)}")
        return await self._writer.event(event_type, customer, at, data | more, **envelope)

    def _optional(self, amount: Money | None, currency: str) -> str | None:
        return None if amount is None else self._writer.money(amount, currency)[0]


class Orders(_Publisher):
    """What storefronts say about orders."""

    @awaited
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
            "cost_of_goods": self._optional(cost_of_goods, currency),
        }
        return await self._publish("order.placed", customer, at, data, more)

    @awaited
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
            "cost_recovered": self._optional(cost_recovered, currency),
        }
        return await self._publish("order.refunded", customer, at, data, more)

    @awaited
    async def cancelled(
        self, customer: str, order: str, *, at: Moment | None = None, **more: Any
    ) -> Envelope:
        """`order.cancelled`."""
        return await self._publish("order.cancelled", customer, at, {"order_id": order}, more)


class Support(_Publisher):
    """What help desks and surveys say."""

    @awaited
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
        return await self._publish("ticket.opened", customer, at, data, more)

    @awaited
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
        return await self._publish("ticket.resolved", customer, at, data, more)

    @awaited
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
        return await self._publish("ticket.rated", customer, at, data, more)

    @awaited
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
        survey = survey or self._writer.number("survey")
        data = {"survey_id": survey, "kind": kind, **_score(score, scale)}
        return await self._publish("survey.answered", customer, at, data, more)


class Customers(_Publisher):
    """What is said about customers themselves."""

    @awaited
    async def acquired(
        self, customer: str, cost: Money, *, at: Moment | None = None, **more: Any
    ) -> Envelope:
        """`customer.acquired`; more: channel, campaign."""
        amount, currency = self._writer.money(cost, more.pop("currency", None))
        data = {"cost": amount, "currency": currency}
        return await self._publish("customer.acquired", customer, at, data, more)

    @awaited
    async def merged(
        self, customer: str, merged_from: str, *, at: Moment | None = None, **more: Any
    ) -> Envelope:
        """`customer.merged`: `customer` stays, `merged_from` goes."""
        data = {"merged_from": merged_from}
        return await self._publish("customer.merged", customer, at, data, more)

    @awaited
    async def erased(self, customer: str, *, at: Moment | None = None, **more: Any) -> Envelope:
        """`customer.erased`."""
        return await self._publish("customer.erased", customer, at, {}, more)


def _score(score: float, scale: tuple[float, float]) -> dict[str, Any]:
    low, high = scale
    return {"score": float(score), "scale": {"min": float(low), "max": float(high)}}
