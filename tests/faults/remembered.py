"""Which events of a long history must be refused, since they are about what nobody remembers.

Written anew from docs/state.md: of each kind the newest 256 things are remembered one by one, older
ones are counted and forgotten. What becomes of an event then depends on what came before it, so
that the events must be given in the order in which they reach the service.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from enum import Enum

from tests.faults.published import Event

REMEMBERED = 256

Name = tuple[str, str]
"""Of an order, a refund or a ticket: its source, and its id there."""

THING = {
    "order.placed": ("orders", "order_id"),
    "order.refunded": ("refunds", "refund_id"),
    "ticket.opened": ("tickets", "ticket_id"),
    "ticket.resolved": ("tickets", "ticket_id"),
    "ticket.rated": ("tickets", "ticket_id"),
}


class Outcome(Enum):
    """What must become of an event."""

    ACCEPTED = "accepted"
    """It counts, or is recognised as a duplicate: no dead letter."""
    REFUSED = "refused"
    """It is beyond memory: a dead letter."""
    EITHER = "either"
    """A duplicate of what is counted and forgotten: a dead letter or nothing, and never counted."""


class Undecided(Exception):
    """The documented rules leave open what becomes of an event: a workload must not have it."""


def is_long(events: Sequence[Event]) -> bool:
    """Whether one customer's events are about more things of a kind than are remembered."""
    names: dict[str, set[Name]] = {"orders": set(), "refunds": set(), "tickets": set()}
    for event in events:
        if event.kind in THING:
            kind, field = THING[event.kind]
            names[kind].add((event.source, event.data[field]))
    cancelled = {
        (e.source, e.data["order_id"]) for e in events if e.kind == "order.cancelled"
    }  # fmt: skip
    return any(len(each) > REMEMBERED for each in (*names.values(), cancelled))


def sift(events: Sequence[Event]) -> list[Outcome]:
    """What must become of each of one customer's events, which arrive in this order.

    Raises
    ------
    Undecided
        where that is not documented, or depends on how equal times are ordered.
    """
    memory = _Memory()
    outcomes = []
    for event in events:
        outcome = memory.outcome(event)
        if outcome is Outcome.ACCEPTED:
            memory.take(event)
        outcomes.append(outcome)
    return outcomes


class _Things:
    """The things of one kind: those that are remembered with their time, and the forgotten."""

    def __init__(self) -> None:
        self.time_of: dict[Name, int] = {}
        self.forgotten: set[Name] = set()
        self.kept_apart: set[Name] = set()
        """Tickets without their opening, which do not count among the others."""
        self.until = -1
        """The time of the newest that was ever forgotten."""

    def note(self, name: Name, time: int) -> None:
        """Remember a thing under its time, and forget the oldest if there are too many."""
        self.time_of[name] = time
        counted = [each for each in self.time_of if each not in self.kept_apart]
        if len(self.kept_apart) > REMEMBERED:
            raise Undecided(f"more than {REMEMBERED} tickets without their opening")
        if len(counted) <= REMEMBERED:
            return
        oldest = min(counted, key=self.time_of.__getitem__)
        time = self.time_of.pop(oldest)
        if time in self.time_of.values():
            raise Undecided(f"two things are of {time}: nothing says which is forgotten first")
        self.until = max(self.until, time)
        self.forgotten.add(oldest)


class _Memory:
    """What the service remembers of one customer."""

    def __init__(self) -> None:
        self.orders, self.refunds, self.tickets = _Things(), _Things(), _Things()
        self.cancelled: set[Name] = set()
        self.revisions: dict[Name, tuple[int, int]] = {}
        self.taken: set[tuple[str, str, str]] = set()

    def outcome(self, event: Event) -> Outcome:
        if event.kind == "order.cancelled":
            return self._cancellation((event.source, event.data["order_id"]))
        if event.kind not in THING:
            return Outcome.ACCEPTED
        kind, field = THING[event.kind]
        things: _Things = getattr(self, kind)
        name = event.source, event.data[field]
        is_old = event.time <= things.until
        if event.kind == "order.refunded":
            self._check_decided((event.source, event.data.get("order_id") or ""))
        if name in things.time_of:
            # A remembered order is not moved back to where orders are forgotten.
            moves = event.kind == "order.placed" and is_old and not self._is_known(event)
            return Outcome.REFUSED if moves else Outcome.ACCEPTED
        if name in things.forgotten and self._is_known(event):
            return Outcome.EITHER
        if event.kind in ("ticket.resolved", "ticket.rated"):
            # It may be about one of the forgotten, whatever its time.
            return Outcome.REFUSED if things.forgotten else Outcome.ACCEPTED
        if not is_old and name in things.forgotten:
            raise Undecided(f"{event.kind} {name} is forgotten, and told again at a later time")
        return Outcome.REFUSED if is_old else Outcome.ACCEPTED

    def _cancellation(self, order: Name) -> Outcome:
        if order in self.cancelled:
            return Outcome.EITHER
        if order not in self.orders.time_of:
            # It, or a refund of it, may be among the forgotten.
            unclear = self.orders.forgotten or self.refunds.forgotten
            return Outcome.REFUSED if unclear else Outcome.ACCEPTED
        # A refund of it may be among the forgotten, and would have to be void.
        is_old = self.orders.time_of[order] <= self.refunds.until
        return Outcome.REFUSED if is_old else Outcome.ACCEPTED

    def _check_decided(self, order: Name) -> None:
        """Raise Undecided where it may be forgotten that an order was cancelled, of which a refund
        is void."""
        forgotten = self.cancelled - self.orders.time_of.keys()
        if order[1] and order not in self.orders.time_of and len(forgotten) > REMEMBERED:
            raise Undecided(f"a refund of {order}, of which nobody knows whether it was cancelled")

    def take(self, event: Event) -> None:
        self.taken.add(_content(event))
        if event.kind == "order.cancelled":
            self.cancelled.add((event.source, event.data["order_id"]))
            return
        if event.kind not in THING:
            return
        kind, field = THING[event.kind]
        name, time = (event.source, event.data[field]), event.time
        things: _Things = getattr(self, kind)
        if kind == "orders":
            revision = event.data.get("revision") or 0, time
            revision = self.revisions[name] = max(self.revisions.get(name, revision), revision)
            time = revision[1]
        elif kind == "refunds":
            time = max(things.time_of.get(name, time), time)
        elif event.kind == "ticket.opened":
            things.kept_apart.discard(name)
        elif name not in things.time_of:
            things.kept_apart.add(name)
        else:
            # The opening dates a ticket, else the earliest that is known of it.
            known = things.time_of[name]
            time = min(known, time) if name in things.kept_apart else known
        things.note(name, time)

    def _is_known(self, event: Event) -> bool:
        return _content(event) in self.taken


def _content(event: Event) -> tuple[str, str, str]:
    return event.kind, event.source, json.dumps(event.data, sort_keys=True)
