"""Keeping a state small: the oldest entries become sums.

At most `Economics.remembered` orders, refunds, opened tickets and tickets without their opening are
kept one by one. The oldest beyond that are added to `Settled`, and its boundaries move forward.
"""

from __future__ import annotations

from itertools import islice

from models.aggregate.cancellations import cancelled_orders, forget_settled, note_cancelled
from models.aggregate.state import Aggregate, DayTotals, Order, Refund, Settled, Ticket
from models.aggregate.versions import versions_of
from models.economics import Economics

LONGEST_WINDOW = 365
"""Days for which settled sums are kept by the day."""

CEILING = 2**62
"""Settled money never exceeds this, so that hostile amounts cannot overflow the stored integers."""


def settle_all(state: Aggregate, config: Economics) -> None:
    """Settle or forget what exceeds the number of remembered entries of each kind, in place."""
    settle_orders(state, config)
    settle_refunds(state, config)
    settle_tickets(state, config)
    if state.settled is not None:
        forget_settled(state, state.settled, config.remembered)


def settle_orders(state: Aggregate, config: Economics) -> None:
    """Settle the oldest orders beyond those that are remembered, in place."""
    if len(state.orders) <= config.remembered:
        return
    settled = _settled(state)
    while len(state.orders) > config.remembered:
        settle_order(state, settled, next(iter(state.orders)))
    forget_settled(state, settled, config.remembered)
    prune_days(settled)


def settle_refunds(state: Aggregate, config: Economics) -> None:
    """Settle the oldest refunds beyond those that are remembered, in place."""
    if len(state.refunds) <= config.remembered:
        return
    settled = _settled(state)
    void = cancelled_orders(state)
    while len(state.refunds) > config.remembered:
        key = next(iter(state.refunds))
        refund = state.refunds.pop(key)
        settled.refunds_until = max(settled.refunds_until, (refund.time, key))
        if refund.order not in void:
            _add_refund(settled, refund)
    prune_days(settled)


def settle_tickets(state: Aggregate, config: Economics) -> None:
    """Settle the oldest tickets beyond those that are remembered, in place.

    A ticket without its opening is settled only if there are too many such: what it was is still to
    be told.
    """
    limit = config.remembered
    if len(state.tickets) <= limit:
        return
    unopened = [key for key, ticket in state.tickets.items() if ticket.opened is None]
    opened = (key for key, ticket in state.tickets.items() if ticket.opened is not None)
    chosen = list(islice(opened, max(len(state.tickets) - len(unopened) - limit, 0)))
    chosen += unopened[: max(len(unopened) - limit, 0)]
    if not chosen:
        return
    settled = _settled(state)
    for key in chosen:
        _settle_ticket(settled, key, state.tickets.pop(key), config)
    prune_days(settled)


def _settled(state: Aggregate) -> Settled:
    settled = state.settled
    if settled is None:
        settled = state.settled = Settled()
    return settled


def prune_days(settled: Settled) -> None:
    """Drop the totals of days that no window can reach any more."""
    days = settled.days
    if days:
        oldest = next(reversed(days)) - LONGEST_WINDOW
        while (first := next(iter(days))) <= oldest:
            del days[first]


def _day(settled: Settled, day: int) -> DayTotals:
    totals = settled.days.get(day)
    if totals is None:
        last = next(reversed(settled.days), None)
        totals = settled.days[day] = DayTotals()
        if last is not None and day < last:
            settled.days = dict(sorted(settled.days.items()))
    return totals


def settle_order(state: Aggregate, settled: Settled, key: int) -> None:
    """Settle an order: its versions, whether it is cancelled, and what it was worth."""
    # None of its versions can be told from another order any more.
    latest = versions_of(state, key)[-1].time
    settled.orders_until = max(settled.orders_until, (latest, key))
    state.superseded.pop(key, None)
    order = state.orders.pop(key)
    cancelled = state.cancelled.pop(key, None)
    if cancelled is None:
        _add_order(settled, order)
    else:
        note_cancelled(settled.cancelled, key, cancelled)


def _add_order(settled: Settled, order: Order) -> None:
    """Count an order in the sums, at whatever time it was."""
    uncosted = order.gross if order.cost < 0 else 0
    cost = max(order.cost, 0)
    totals = _day(settled, order.day)
    if settled.orders == 0 or (
        totals.orders == 0 and order.day not in (settled.first_day, settled.last_day)
    ):
        settled.purchase_days += 1
    if settled.orders == 0 or order.day < settled.first_day:
        settled.first_day, settled.first_day_gross = order.day, 0
    if order.day == settled.first_day:
        settled.first_day_gross = min(settled.first_day_gross + order.gross, CEILING)
    settled.last_day = max(settled.last_day, order.day)
    settled.orders += 1
    settled.gross = min(settled.gross + order.gross, CEILING)
    settled.uncosted = min(settled.uncosted + uncosted, CEILING)
    settled.cost = min(settled.cost + cost, CEILING)
    totals.orders += 1
    totals.gross = min(totals.gross + order.gross, CEILING)
    totals.uncosted = min(totals.uncosted + uncosted, CEILING)
    totals.cost = min(totals.cost + cost, CEILING)


def _add_refund(settled: Settled, refund: Refund) -> None:
    """Count a refund in the sums."""
    settled.refunds += 1
    settled.refunded = min(settled.refunded + refund.amount, CEILING)
    settled.recovered = min(settled.recovered + refund.recovered, CEILING)
    totals = _day(settled, refund.day)
    totals.refunded = min(totals.refunded + refund.amount, CEILING)
    totals.recovered = min(totals.recovered + refund.recovered, CEILING)


def _settle_ticket(settled: Settled, key: int, ticket: Ticket, config: Economics) -> None:
    settled.tickets_until = max(settled.tickets_until, (ticket.latest_opening, key))
    settled.contacts += 1
    settled.support_cost = min(settled.support_cost + contact_cost(ticket, config), CEILING)
    if ticket.opened is not None and ticket.opened.complaint:
        settled.complaints += 1
        settled.last_complaint = max(settled.last_complaint, ticket.opened.time)
    _day(settled, ticket.first.day).contacts += 1


def contact_cost(ticket: Ticket, config: Economics) -> int:
    """Cost of a contact in money units: as told, by its minutes, or by its channel."""
    resolved = ticket.resolved
    if resolved is not None:
        if resolved.cost >= 0:
            return resolved.cost
        if resolved.decaminutes >= 0:
            return resolved.decaminutes * config.minute_units // 10
    channel = ticket.opened.channel if ticket.opened is not None else -1
    return config.contact_units[channel]
