"""Folding events into an aggregate, and merging two aggregates.

Every event becomes one register under a fingerprint of its (source, id), and registers join by
taking the newer version. Hence any order, any duplication and any split-and-merge of the same
events gives the same state, as long as nothing was settled. Beyond that nothing is guessed: what
cannot be told from a duplicate, or from what would change settled sums, is too old.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from datetime import datetime
from enum import Enum

from models.aggregate.cancellations import (
    may_be_cancelled,
    note_cancelled,
    waiting,
)
from models.aggregate.entries import (
    acquisition_time,
    insert,
    order_time,
    refund_time,
    ticket_time,
)
from models.aggregate.join import (
    MOST_ACQUISITIONS,
    believed_first,
    join_settled_cancellations,
    joined,
    tidy,
    unknown_to,
)
from models.aggregate.settle import settle_all, settle_orders, settle_refunds, settle_tickets
from models.aggregate.state import (
    Acquisition,
    Aggregate,
    Opened,
    Order,
    Rated,
    Refund,
    Resolved,
    Settled,
    Survey,
    Ticket,
    fingerprint,
    newer,
)
from models.aggregate.versions import MOST_SUPERSEDED, frontier, set_versions, versions_of
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


class Effect(Enum):
    """What an event did to an aggregate."""

    APPLIED = "applied"
    """It is part of the state now."""
    APPENDED = "appended"
    """Applied, and it is a new order that is the latest of all."""
    DUPLICATE = "duplicate"
    """The state held this already, or something newer about the same thing."""
    TOO_OLD = "too-old"
    """It is beyond what the state remembers one by one: it was not applied."""


def milliseconds(moment: datetime) -> int:
    """Milliseconds since 1970 of an aware datetime."""
    return round(moment.timestamp() * 1000)


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
    if known is not None and known >= incoming and known.time >= time:
        return Effect.DUPLICATE
    settled = state.settled
    if settled is not None:
        if key in settled.cancelled:
            return Effect.DUPLICATE
        if (time, key) <= settled.orders_until and (known is None or time < known.time):
            # A revision cannot move a remembered order back there: days count in their order.
            return Effect.TOO_OLD
    if known is not None:
        return _apply_revision(state, key, incoming)
    insert(state.orders, key, incoming, order_time)
    is_last = key == next(reversed(state.orders))
    settle_orders(state, config)
    return Effect.APPENDED if is_last and key not in state.cancelled else Effect.APPLIED


def _apply_revision(state: Aggregate, key: int, incoming: Order) -> Effect:
    held = versions_of(state, key)
    kept = frontier((*held, incoming))
    if kept == held:
        return Effect.DUPLICATE
    if len(kept) > 1 + MOST_SUPERSEDED:
        return Effect.TOO_OLD
    set_versions(state, key, kept)
    return Effect.APPLIED


def _apply_cancellation(state: Aggregate, event: Envelope, time: int, config: Economics) -> Effect:
    data: OrderCancelled = event.data
    key = fingerprint(event.source, data.order_id)
    settled = state.settled
    entries = state.cancelled
    if settled is not None and key in settled.cancelled:
        entries = settled.cancelled
    if key not in entries and _is_cancelled_too_late(state, key, config):
        return Effect.TOO_OLD
    return Effect.APPLIED if note_cancelled(entries, key, time) else Effect.DUPLICATE


def _is_cancelled_too_late(state: Aggregate, key: int, config: Economics) -> bool:
    """Whether an order, or a refund of it, may be in the sums; or too many cancellations wait."""
    order, settled = state.orders.get(key), state.settled
    if settled is not None:
        refunds_until, _ = settled.refunds_until
        if order is not None:
            return order.time <= refunds_until
        if settled.orders_until[0] >= 0 or refunds_until >= 0:
            return True
    full = len(state.cancelled) >= config.remembered
    return order is None and full and len(waiting(state)) >= config.remembered


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
    if known is not None and known >= incoming:
        return Effect.DUPLICATE
    settled = state.settled
    if settled is not None:
        if known is None and (time, key) <= settled.refunds_until:
            return Effect.TOO_OLD
        if (known is None or known.order != order) and may_be_cancelled(state, order):
            return Effect.TOO_OLD
    insert(state.refunds, key, incoming, refund_time)
    settle_refunds(state, config)
    return Effect.APPLIED


def _apply_ticket(state: Aggregate, event: Envelope, time: int, config: Economics) -> Effect:
    data: TicketOpened | TicketResolved | TicketRated = event.data
    key = fingerprint(event.source, data.ticket_id)
    day = config.day(time)
    known = state.tickets.get(key)
    if known is None and _may_be_settled(state, key, data, time):
        return Effect.TOO_OLD
    ticket = known or Ticket()
    part: Opened | Resolved | Rated
    if isinstance(data, TicketOpened):
        complaint = data.complaint or data.topic in config.complaint_topics
        channel = CHANNELS.index(data.channel)
        part = Opened(time, channel, complaint, day)
        told = Ticket(newer(ticket.opened, part), ticket.resolved, ticket.rated)
    elif isinstance(data, TicketResolved):
        cost = (
            -1
            if data.cost is None or data.currency is None
            else config.convert(money_units(data.cost), data.currency)
        )
        decaminutes = -1 if data.handling_minutes is None else round(data.handling_minutes * 10)
        part = Resolved(time, cost, decaminutes, day)
        told = Ticket(ticket.opened, newer(ticket.resolved, part), ticket.rated)
    else:
        score = (data.score - data.scale.min) / (data.scale.max - data.scale.min)
        part = Rated(time, score, day)
        told = Ticket(ticket.opened, ticket.resolved, newer(ticket.rated, part))
    if told == ticket:
        return Effect.DUPLICATE
    insert(state.tickets, key, told, ticket_time)
    settle_tickets(state, config)
    return Effect.APPLIED


def _may_be_settled(
    state: Aggregate, key: int, data: TicketOpened | TicketResolved | TicketRated, time: int
) -> bool:
    """Whether a ticket that is not remembered may be in the sums already.

    Only a later opening says that it is not: what follows an opening may be of any age.
    """
    if state.settled is None or state.settled.tickets_until[0] < 0:
        return False
    return not isinstance(data, TicketOpened) or (time, key) <= state.settled.tickets_until


def _apply_survey(state: Aggregate, event: Envelope, time: int, _config: Economics) -> Effect:
    data: SurveyAnswered = event.data
    score = (data.score - data.scale.min) / (data.scale.max - data.scale.min)
    answer = Survey(time, score)
    known = state.surveys.get(data.kind)
    if known is not None and known >= answer:
        return Effect.DUPLICATE
    state.surveys[data.kind] = answer
    if known is None:
        state.surveys = dict(sorted(state.surveys.items()))
    return Effect.APPLIED


def _apply_acquisition(state: Aggregate, event: Envelope, time: int, config: Economics) -> Effect:
    data: CustomerAcquired = event.data
    cost = config.convert(money_units(data.cost), data.currency)
    key = fingerprint(data.customer_id)
    incoming = Acquisition(time, cost)
    known = state.acquisitions.get(key)
    if known is not None and known >= incoming:
        return Effect.DUPLICATE
    if known is None and len(state.acquisitions) >= MOST_ACQUISITIONS:
        return Effect.TOO_OLD
    insert(state.acquisitions, key, incoming, acquisition_time)
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
    return FOLDS[event.type](state, event, time, config)


def merge(left: Aggregate, right: Aggregate, config: Economics) -> Aggregate:
    """The state of both sets of events together, leaving both arguments as they are.

    Two states that have both settled merge exactly when one continues the other; the one that
    settled more is believed about everything that it does not remember, at or before its
    boundaries.
    """
    believed, other = believed_first(left, right)
    merged = joined(believed, unknown_to(believed, other))
    if believed.settled is not None:
        merged.settled = deepcopy(believed.settled)
    if other.settled is not None:
        merged.settled = merged.settled or Settled()
        join_settled_cancellations(merged.settled, other.settled)
    tidy(merged)
    settle_all(merged, config)
    return merged
