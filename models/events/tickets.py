"""Contacts with support: `ticket.opened`, `ticket.resolved`, `ticket.rated`."""

from __future__ import annotations

from functools import lru_cache
from itertools import islice
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self

import msgspec
from pydantic import ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from models.aggregate.compacted import (
    CEILING,
    Compacted,
    Money,
    add_money,
    compacted_of,
    prune,
    totals_of,
)
from models.aggregate.registers import Register, fingerprint, insert, newer
from models.currencies import HOME, NUMBERS
from models.economics import CHANNELS, Economics
from models.events.fields import (
    Amount,
    CurrencyCode,
    EventData,
    Id,
    Label,
    MoneyText,
    Time,
    money_units,
)
from models.events.kinds import (
    SEND_IN_ORDER,
    Effect,
    Entries,
    EventType,
    lag_of,
    lost,
    register,
    won,
)
from models.events.scales import Scored

if TYPE_CHECKING:
    from models.aggregate.state import Aggregate
    from models.events.envelope import Envelope

_UNKNOWN_CHANNEL: Final = CHANNELS.index("unknown")

SupportChannel = Literal["email", "phone", "chat", "social", "web"]
Priority = Literal["low", "normal", "high", "urgent"]


class TicketOpened(EventData):
    """A customer asked for help."""

    time_field: ClassVar[str] = "opened_at"

    ticket_id: Id
    opened_at: Time
    channel: SupportChannel
    topic: Label | None = None
    priority: Priority | None = None
    complaint: bool = False


class TicketResolved(EventData):
    """A ticket was closed, with what it took: minutes, money or both."""

    model_config = ConfigDict(json_schema_extra={"dependentRequired": {"cost": ["currency"]}})

    time_field: ClassVar[str] = "resolved_at"

    ticket_id: Id
    resolved_at: Time
    handling_minutes: Amount | None = None
    cost: MoneyText | None = None
    currency: CurrencyCode | None = None

    @model_validator(mode="after")
    def _cost_has_currency(self) -> Self:
        if self.cost is not None and self.currency is None:
            raise PydanticCustomError(
                "cost_without_currency",
                "a currency together with the cost",
                {"field": "currency"},
            )
        return self


class TicketRated(Scored):
    """A customer rated how a ticket was handled."""

    time_field: ClassVar[str] = "rated_at"

    ticket_id: Id
    rated_at: Time


class Opened(Register, array_like=True, frozen=True, order=True, gc=False):
    """When and how a ticket was opened.

    complaint: whether the event says so. topic: a fingerprint of its topic, 0 without one.
    """

    time: int
    lag: int
    channel: int
    complaint: bool
    topic: int


class Resolved(Register, array_like=True, frozen=True, order=True, gc=False):
    """What a ticket took: a cost, or tenths of a minute of handling; -1 if not given."""

    time: int
    lag: int
    cost: int
    currency: int
    decaminutes: int


class Rated(Register, array_like=True, frozen=True, order=True, gc=False):
    """How the customer rated a ticket, from 0 (worst) to 1 (best)."""

    time: int
    lag: int
    score: float


class Ticket(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A support ticket; its three events may arrive in any order."""

    opened: Opened | None = None
    resolved: Resolved | None = None
    rated: Rated | None = None

    @property
    def first(self) -> Opened | Resolved | Rated:
        """The event that dates the contact: the opening, or else the earliest known one."""
        if self.opened is not None:
            return self.opened
        return min(self._followers, key=lambda event: event.time)

    @property
    def latest_opening(self) -> int:
        """When it was opened, or an upper bound of that."""
        if self.opened is not None:
            return self.opened.time
        return max(event.time for event in self._followers)

    @property
    def _followers(self) -> list[Resolved | Rated]:
        return [event for event in (self.resolved, self.rated) if event is not None]


class Tickets(Entries):
    """Tickets by their fingerprint, in order of time (see `Ticket.first`)."""

    field = "tickets"

    def time_of(self, entry: Ticket) -> int:
        """Return when the contact was, as far as is known."""
        return entry.first.time

    def join(self, left: Ticket, right: Ticket) -> Ticket:
        """Take the newer version of each of the three events."""
        return Ticket(
            newer(left.opened, right.opened),
            newer(left.resolved, right.resolved),
            newer(left.rated, right.rated),
        )

    def unknown_to(
        self, believed: Aggregate, other: Aggregate, compacted: Compacted
    ) -> dict[str, Any]:
        """Leave out tickets that may be in the sums: keep those known there or opened later."""
        return {
            self.field: {
                key: ticket
                for key, ticket in other.tickets.items()
                if key in believed.tickets or _opened_later(compacted, key, ticket)
            }
        }

    def without(self, state: Aggregate, until: int) -> dict[str, Any]:
        """Leave out the events at or before a time."""
        left = {}
        for key, ticket in state.tickets.items():
            parts = [
                part if part is not None and part.time > until else None
                for part in (ticket.opened, ticket.resolved, ticket.rated)
            ]
            if any(parts):
                left[key] = Ticket(*parts)  # type: ignore[arg-type]
        return {self.field: self.in_order(left)}

    def compact(self, state: Aggregate, config: Economics) -> None:
        """Compact the oldest tickets above `config.remembered`, in place.

        Tickets without an opening wait for it; they are compacted only if they are too many.
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
        compacted = compacted_of(state)
        for key in chosen:
            _compact(compacted, key, state.tickets.pop(key), config)
        prune(compacted)


TICKETS: Final = Tickets()


def _opened_later(compacted: Compacted, key: int, ticket: Ticket) -> bool:
    if compacted.tickets_until[0] < 0:
        return True
    return ticket.opened is not None and (ticket.opened.time, key) > compacted.tickets_until


def _compact(compacted: Compacted, key: int, ticket: Ticket, config: Economics) -> None:
    compacted.tickets_until = max(compacted.tickets_until, (ticket.latest_opening, key))
    compacted.contacts += 1
    resolved = ticket.resolved
    if resolved is not None and resolved.cost >= 0:
        cost, day = Money(support=resolved.cost), config.day(resolved.time)
        add_money((compacted.money,), resolved.currency, cost, day, config)
    elif resolved is not None and resolved.decaminutes >= 0:
        minutes = compacted.decaminutes + resolved.decaminutes
        compacted.decaminutes = min(minutes, CEILING)
    else:
        channel = _channel(ticket)
        compacted.by_channel[channel] = compacted.by_channel.get(channel, 0) + 1
        compacted.by_channel = dict(sorted(compacted.by_channel.items()))
    if ticket.opened is not None and is_complaint(ticket.opened, config):
        compacted.complaints += 1
        compacted.last_complaint = max(compacted.last_complaint, ticket.opened.time)
    totals_of(compacted, config.day(ticket.first.time)).contacts += 1


def _channel(ticket: Ticket) -> int:
    return _UNKNOWN_CHANNEL if ticket.opened is None else ticket.opened.channel


def contact_cost(ticket: Ticket, config: Economics) -> int:
    """Return the cost of a contact in money units: as given, by its minutes, or by its channel."""
    resolved = ticket.resolved
    if resolved is not None:
        if resolved.cost >= 0:
            return config.convert(resolved.cost, resolved.currency, config.day(resolved.time))
        if resolved.decaminutes >= 0:
            return resolved.decaminutes * config.minute_units // 10
    return config.contact_units[_channel(ticket)]


def is_complaint(opened: Opened, config: Economics) -> bool:
    """Return whether a ticket is a complaint: the event says so, or its topic is one of those."""
    return opened.complaint or (
        opened.topic != 0 and opened.topic in _topic_codes(config.complaint_topics)
    )


@lru_cache(maxsize=8)
def _topic_codes(topics: frozenset[str]) -> frozenset[int]:
    return frozenset(map(topic_code, topics))


def topic_code(topic: str) -> int:
    """Return a fingerprint of a topic: of 32 bits, since few topics are complaints."""
    return fingerprint(topic) & 0xFFFF_FFFF or 1


_IDS: Final = ("ticket_id",)


def _fold(state: Aggregate, event: Envelope, time: int, config: Economics) -> Effect:
    data: TicketOpened | TicketResolved | TicketRated = event.data
    key = fingerprint(event.source, data.ticket_id)
    lag = lag_of(event, time)
    known = state.tickets.get(key)
    if known is None and _may_be_compacted(state, key, data, time):
        return Effect.TOO_OLD
    ticket = known or Ticket()
    before: Opened | Resolved | Rated | None
    part: Opened | Resolved | Rated
    if isinstance(data, TicketOpened):
        topic = 0 if data.topic is None else topic_code(data.topic)
        part = Opened(time, lag, CHANNELS.index(data.channel), data.complaint, topic)
        before = ticket.opened
        updated = Ticket(newer(before, part), ticket.resolved, ticket.rated)
    elif isinstance(data, TicketResolved):
        cost, currency = -1, HOME
        if data.cost is not None and data.currency is not None:
            cost, currency = money_units(data.cost), NUMBERS[data.currency]
        decaminutes = -1 if data.handling_minutes is None else round(data.handling_minutes * 10)
        part = Resolved(time, lag, cost, currency, decaminutes)
        before = ticket.resolved
        updated = Ticket(ticket.opened, newer(before, part), ticket.rated)
    else:
        part = Rated(time, lag, data.share)
        before = ticket.rated
        updated = Ticket(ticket.opened, ticket.resolved, newer(before, part))
    if before is not None and updated == ticket:
        return lost(before, part)
    insert(state.tickets, key, updated, TICKETS.time_of)
    TICKETS.compact(state, config)
    return won(before, part)


def _may_be_compacted(
    state: Aggregate, key: int, data: TicketOpened | TicketResolved | TicketRated, time: int
) -> bool:
    """Return whether an unknown ticket may be in the sums already.

    Only an opening after the boundary rules it out; the other events may be of a ticket of any age.
    """
    if state.compacted is None or state.compacted.tickets_until[0] < 0:
        return False
    return not isinstance(data, TicketOpened) or (time, key) <= state.compacted.tickets_until


def _opening_too_old(data: TicketOpened, config: Economics) -> tuple[str, str]:
    return data.time_field, (
        f"data.{data.time_field} is {data.occurred_at.isoformat()}, not later than tickets that "
        f"are no longer among the last {config.remembered} of the customer; {SEND_IN_ORDER}"
    )


def _may_be_counted(data: TicketResolved | TicketRated, config: Economics) -> tuple[str, str]:
    return "ticket_id", (
        f"data.ticket_id is {data.ticket_id!r}, which is not among the last {config.remembered} "
        "tickets of the customer and may be one that is counted already; publish ticket.opened "
        f"first, and {SEND_IN_ORDER}"
    )


register(
    EventType("ticket.opened", TicketOpened, "support", (), _fold, _opening_too_old, _IDS),
    EventType(
        "ticket.resolved", TicketResolved, "support", ("cost",), _fold, _may_be_counted, _IDS
    ),
    EventType("ticket.rated", TicketRated, "support", (), _fold, _may_be_counted, _IDS),
)
