"""A customer's state as it was before a time, by the facts that it holds."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from models.aggregate.registers import Kind, in_order
from models.aggregate.state import Aggregate
from models.aggregate.versions import versions_of
from models.events.orders import Order
from models.events.tickets import Ticket


def known_before(state: Aggregate, time: int) -> Aggregate:
    """Return the state of what happened before a time, in milliseconds since 1970.

    state: without compacted registers, whose times are not known one by one. An order that was
    revised counts as its newest version that was placed before. Surveys are left out.
    """
    orders: dict[int, Order] = {}
    superseded: dict[int, tuple[Order, ...]] = {}
    for key in state.orders:
        placed = tuple(version for version in versions_of(state, key) if version.time < time)
        if placed:
            orders[key] = placed[0]
        if placed[1:]:
            superseded[key] = placed[1:]
    tickets = {key: _ticket_before(ticket, time) for key, ticket in state.tickets.items()}
    return Aggregate(
        orders=in_order(orders, lambda order: order.time),
        cancelled={key: at for key, at in state.cancelled.items() if at < time},
        refunds=_before(state.refunds, time),
        tickets=in_order(
            {key: ticket for key, ticket in tickets.items() if ticket != Ticket()},
            lambda ticket: ticket.first.time,
        ),
        acquisitions=_before(state.acquisitions, time),
        superseded=superseded,
    )


def known_since(state: Aggregate) -> int | None:
    """Return the first moment as of which the past is known, in milliseconds since 1970.

    None: from the customer's first event on. What was compacted cannot be split by time, so that
    nothing is known before its newest entry.
    """
    compacted = state.compacted
    if compacted is None:
        return None
    boundaries = (compacted.orders_until, compacted.refunds_until, compacted.tickets_until)
    return max(
        compacted.cancellations_until,
        *(time for time, _ in boundaries),
        *compacted.cancelled.values(),
    )


def state_at(state: Aggregate, moment: int) -> Aggregate:
    """Return the state as of a moment: what happened until then, and what was compacted.

    Of the surveys of one kind only the last is known. Raises ValueError for a moment before
    `known_since`.
    """
    since = known_since(state)
    if since is not None and moment < since:
        raise ValueError(f"the past is known from {since} on, not as of {moment}")
    surveys = {name: each for name, each in state.surveys.items() if each.time <= moment}
    return msgspec.structs.replace(
        known_before(state, moment + 1), surveys=surveys, compacted=state.compacted
    )


def times_of(state: Aggregate) -> Iterator[int]:
    """Yield the times at which what is known of a customer changes, in no order."""
    for key in state.orders:
        yield from (version.time for version in versions_of(state, key))
    yield from state.cancelled.values()
    for entries in (state.refunds, state.acquisitions):
        yield from (entry.time for entry in entries.values())
    for ticket in state.tickets.values():
        parts = (ticket.opened, ticket.resolved, ticket.rated)
        yield from (part.time for part in parts if part is not None)


def _before(entries: dict[int, Kind], time: int) -> dict[int, Kind]:
    return {key: entry for key, entry in entries.items() if entry.time < time}  # type: ignore[attr-defined]


def _ticket_before(ticket: Ticket, time: int) -> Ticket:
    parts = msgspec.structs.asdict(ticket).items()
    return Ticket(**{name: each for name, each in parts if each and each.time < time})
