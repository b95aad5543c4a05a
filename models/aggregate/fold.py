"""Folding events into an aggregate, and merging two aggregates.

Every event becomes one register under a fingerprint of its (source, id), and registers join by
taking the newer version. Hence any order, any duplication and any split-and-merge of the same
events gives the same state, as long as no event is older than what was settled.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import datetime
from enum import Enum
from typing import Any, TypeVar

from models.aggregate.settle import settle, settle_all
from models.aggregate.state import (
    Acquisition,
    Aggregate,
    Opened,
    Order,
    Rated,
    Refund,
    Resolved,
    Survey,
    Ticket,
    fingerprint,
    newer,
)
from models.contracts import (
    CustomerAcquired,
    Envelope,
    OrderCancelled,
    OrderPlaced,
    OrderRefunded,
    SurveyAnswered,
    TicketOpened,
    TicketRated,
    TicketResolved,
    money_units,
)
from models.economics import CHANNELS, Economics

Value = TypeVar("Value")


class Effect(Enum):
    """What an event did to an aggregate."""

    APPLIED = "applied"
    """It is part of the state now."""
    APPENDED = "appended"
    """Applied, and it is a new order that is the latest of all."""
    DUPLICATE = "duplicate"
    """The state held this already, or something newer about the same thing."""
    TOO_OLD = "too-old"
    """It is older than what the state remembers one by one: it was not applied."""


def milliseconds(moment: datetime) -> int:
    """Milliseconds since 1970 of an aware datetime."""
    return round(moment.timestamp() * 1000)


def _in_order(entries: dict[int, Value], time_of: Callable[[Value], int]) -> dict[int, Value]:
    return dict(sorted(entries.items(), key=lambda item: (time_of(item[1]), item[0])))


def _order_time(order: Order) -> int:
    return order.time


def _refund_time(refund: Refund) -> int:
    return refund.time


def _ticket_time(ticket: Ticket) -> int:
    return ticket.first.time


def _insert(
    entries: dict[int, Value], key: int, value: Value, time_of: Callable[[Value], int]
) -> None:
    """Set an entry and keep the order by (time, key); appending the newest is the usual case."""
    entries.pop(key, None)
    last = next(reversed(entries), None)
    entries[key] = value
    if last is not None and (time_of(entries[last]), last) > (time_of(value), key):
        ordered = _in_order(entries, time_of)
        entries.clear()
        entries.update(ordered)


def _apply_order(state: Aggregate, event: Envelope, time: int, config: Economics) -> Effect:
    data: OrderPlaced = event.data
    key = fingerprint(event.source, data.order_id)
    gross = config.convert(money_units(data.total), data.currency)
    cost = (
        -1
        if data.cost_of_goods is None
        else config.convert(money_units(data.cost_of_goods), data.currency)
    )
    incoming = Order(data.revision or 0, time, gross, cost, config.day(time))
    known = state.orders.get(key)
    if state.settled is not None and (time, key) <= state.settled.orders_until:
        # Also a revision that would move a remembered order back there: days count in their order.
        return Effect.TOO_OLD
    effect = _join(state.orders, key, known, incoming, _order_time)
    if known is None and key == next(reversed(state.orders)) and key not in state.cancelled:
        return Effect.APPENDED
    return effect


def _join(
    entries: dict[int, Any], key: int, known: Any, incoming: Any, time_of: Callable[[Any], int]
) -> Effect:
    if known is not None and known >= incoming:
        return Effect.DUPLICATE
    _insert(entries, key, incoming, time_of)
    return Effect.APPLIED


def _has_settled_orders(state: Aggregate) -> bool:
    return state.settled is not None and state.settled.orders_until[0] >= 0


def _apply_cancellation(state: Aggregate, event: Envelope, time: int, _config: Economics) -> Effect:
    data: OrderCancelled = event.data
    key = fingerprint(event.source, data.order_id)
    known = state.cancelled.get(key)
    if known is None and key not in state.orders and _has_settled_orders(state):
        return Effect.TOO_OLD
    if known is not None and known <= time:
        return Effect.DUPLICATE
    _insert(state.cancelled, key, time, int)
    return Effect.APPLIED


def _apply_refund(state: Aggregate, event: Envelope, time: int, config: Economics) -> Effect:
    data: OrderRefunded = event.data
    key = fingerprint(event.source, data.refund_id)
    order = 0 if data.order_id is None else fingerprint(event.source, data.order_id)
    amount = config.convert(money_units(data.amount), data.currency)
    recovered = (
        0
        if data.cost_recovered is None
        else config.convert(money_units(data.cost_recovered), data.currency)
    )
    incoming = Refund(time, order, amount, recovered, config.day(time))
    known = state.refunds.get(key)
    if known is None and state.settled is not None and (time, key) <= state.settled.refunds_until:
        return Effect.TOO_OLD
    return _join(state.refunds, key, known, incoming, _refund_time)


def _apply_ticket(state: Aggregate, event: Envelope, time: int, config: Economics) -> Effect:
    data: TicketOpened | TicketResolved | TicketRated = event.data
    key = fingerprint(event.source, data.ticket_id)
    day = config.day(time)
    known = state.tickets.get(key)
    if known is None and state.settled is not None and (time, key) <= state.settled.tickets_until:
        return Effect.TOO_OLD
    ticket = known or Ticket()
    part: Opened | Resolved | Rated
    if isinstance(data, TicketOpened):
        complaint = data.complaint or data.topic in config.complaint_topics
        channel = CHANNELS.index(data.channel)
        part = Opened(time, channel, complaint, day)
        joined = Ticket(newer(ticket.opened, part), ticket.resolved, ticket.rated)
    elif isinstance(data, TicketResolved):
        cost = (
            -1
            if data.cost is None or data.currency is None
            else config.convert(money_units(data.cost), data.currency)
        )
        decaminutes = -1 if data.handling_minutes is None else round(data.handling_minutes * 10)
        part = Resolved(time, cost, decaminutes, day)
        joined = Ticket(ticket.opened, newer(ticket.resolved, part), ticket.rated)
    else:
        score = (data.score - data.scale.min) / (data.scale.max - data.scale.min)
        part = Rated(time, score, day)
        joined = Ticket(ticket.opened, ticket.resolved, newer(ticket.rated, part))
    if joined == ticket:
        return Effect.DUPLICATE
    _insert(state.tickets, key, joined, _ticket_time)
    return Effect.APPLIED


def _apply_survey(state: Aggregate, event: Envelope, time: int, _config: Economics) -> Effect:
    data: SurveyAnswered = event.data
    score = (data.score - data.scale.min) / (data.scale.max - data.scale.min)
    return _join_register(state.surveys, data.kind, Survey(time, score))


def _apply_acquisition(state: Aggregate, event: Envelope, time: int, config: Economics) -> Effect:
    data: CustomerAcquired = event.data
    cost = config.convert(money_units(data.cost), data.currency)
    incoming = Acquisition(time, cost)
    return _join_register(state.acquisitions, fingerprint(data.customer_id), incoming)


def _join_register(entries: dict[Any, Any], key: Any, incoming: Any) -> Effect:
    known = entries.get(key)
    if known is not None and known >= incoming:
        return Effect.DUPLICATE
    entries[key] = incoming
    if known is None and len(entries) > 1:
        ordered = dict(sorted(entries.items()))
        entries.clear()
        entries.update(ordered)
    return Effect.APPLIED


FOLDS: Mapping[str, Callable[[Aggregate, Envelope, int, Economics], Effect]] = {
    "order.placed": _apply_order,
    "order.cancelled": _apply_cancellation,
    "order.refunded": _apply_refund,
    "ticket.opened": _apply_ticket,
    "ticket.resolved": _apply_ticket,
    "ticket.rated": _apply_ticket,
    "survey.answered": _apply_survey,
    "customer.acquired": _apply_acquisition,
}
"""What each event type does to the state: the map to start reading from."""


def fold(
    state: Aggregate, event: Envelope, config: Economics, occurred: int | None = None
) -> Effect:
    """Fold one event into a state, in place.

    occurred: milliseconds since 1970 of the event's own time, where the caller has them already.
    """
    time = milliseconds(event.data.occurred_at) if occurred is None else occurred
    effect = FOLDS[event.type](state, event, time, config)
    if effect is Effect.APPLIED or effect is Effect.APPENDED:
        settle(state, config)
    return effect


def merge(left: Aggregate, right: Aggregate, config: Economics) -> Aggregate:
    """The state of both sets of events together, leaving both arguments as they are.

    Two states that have both settled merge exactly when one continues the other; the one that
    settled more is believed about everything at or before its boundaries.
    """
    settled = max(
        (s for s in (left.settled, right.settled) if s is not None),
        key=lambda s: (s.size, s.orders_until, s.refunds_until, s.tickets_until),
        default=None,
    )
    merged = Aggregate(
        orders=_joined(left.orders, right.orders, newer),
        cancelled=_joined(left.cancelled, right.cancelled, min),
        refunds=_joined(left.refunds, right.refunds, newer),
        tickets=_joined(left.tickets, right.tickets, _join_tickets),
        surveys=dict(sorted(_joined(left.surveys, right.surveys, newer).items())),
        acquisitions=dict(sorted(_joined(left.acquisitions, right.acquisitions, newer).items())),
        settled=deepcopy(settled),
    )
    merged.orders = _in_order(merged.orders, _order_time)
    merged.refunds = _in_order(merged.refunds, _refund_time)
    merged.tickets = _in_order(merged.tickets, _ticket_time)
    merged.cancelled = _in_order(merged.cancelled, int)
    settle_all(merged, config)
    return merged


def _joined(
    left: Mapping[Any, Any], right: Mapping[Any, Any], join: Callable[[Any, Any], Any]
) -> dict[Any, Any]:
    both = dict(left)
    for key, value in right.items():
        both[key] = join(both[key], value) if key in both else value
    return both


def _join_tickets(left: Ticket, right: Ticket) -> Ticket:
    return Ticket(
        newer(left.opened, right.opened),
        newer(left.resolved, right.resolved),
        newer(left.rated, right.rated),
    )
