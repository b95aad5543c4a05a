"""The interface of event types, which each file of this package implements, and their registry.

A file contains the data of its events (pydantic), the registers that they become (msgspec), the
function that folds an event into a state, and how entries join, are compacted and are erased
(`Entries`). At its end it registers its event types; `models/events/__init__.py` imports it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Any, ClassVar, Final

from models.aggregate.registers import Register, in_order, newer
from models.calendar import milliseconds
from models.events.fields import EventData

if TYPE_CHECKING:
    from models.aggregate.compacted import Compacted
    from models.aggregate.state import Aggregate
    from models.economics import Economics
    from models.events.envelope import Envelope


class Effect(Enum):
    """What an event did to an aggregate."""

    APPLIED = "applied"
    """The state has changed."""
    APPENDED = "appended"
    """Applied, and the event is a new order, later than all others."""
    CONTESTED = "contested"
    """Applied, in place of other content about the same thing that was said at the same time."""
    DUPLICATE = "duplicate"
    """The state held this already, or something newer about the same thing."""
    OUTDONE = "outdone"
    """Not applied: other content about the same thing, said at the same time, counts instead."""
    TOO_OLD = "too-old"
    """At or before the compaction boundary, or beyond another bound: it was not applied."""

    @property
    def changed(self) -> bool:
        """Whether the state has changed."""
        return self is _APPENDED or self is _APPLIED or self is _CONTESTED


_APPLIED, _APPENDED, _CONTESTED = Effect.APPLIED, Effect.APPENDED, Effect.CONTESTED


def won(known: Register | None, incoming: Register) -> Effect:
    """Return the effect of a register that takes the place of a known one."""
    contested = known is not None and known.word == incoming.word
    return Effect.CONTESTED if contested else Effect.APPLIED


def lost(known: Register, incoming: Register) -> Effect:
    """Return the effect of a register that does not take the place of a known one."""
    outdone = known != incoming and known.word == incoming.word
    return Effect.OUTDONE if outdone else Effect.DUPLICATE


def lag_of(event: Envelope, time: int) -> int:
    """Return how long after its own time an event was said, by the envelope; 0 if it is not."""
    said = event.time
    if said is None or said == event.data.occurred_at:
        return 0
    return milliseconds(said) - time


Fold = Callable[["Aggregate", "Envelope", int, "Economics"], Effect]
"""Fold an event into a state, in place; the number is the event's time in ms since 1970."""

SEND_IN_ORDER: Final = "send histories in the order of time, or raise the number remembered"
"""What a publisher can do about an event that is too old."""

Doubt = Callable[["Aggregate", "Envelope"], tuple[str, str] | None]
"""Return the field of the event's data, and in words what the publisher should look at, or None.

It is asked about an event that was applied; the state is the one afterwards.
"""

TooOld = Callable[[Any, "Economics"], tuple[str, str]]
"""Return the field of the event's data, and in words why the event is too old."""


@dataclass(frozen=True)
class EventType:
    """One type of event.

    topic: role of the input topic. amounts: fields of its data that are money in its currency.
    fold, too_old: None for merges and erasures, which the engine handles. ids: fields of its data
    that identify something besides the customer, first what the event is about. doubt: finds what
    is suspicious about an event that counts.
    """

    name: str
    data: type[EventData]
    topic: str
    amounts: tuple[str, ...] = ()
    fold: Fold | None = None
    too_old: TooOld | None = None
    ids: tuple[str, ...] = ()
    doubt: Doubt | None = None


class Entries:
    """How an aggregate keeps one kind of entry.

    By default the entries are registers by fingerprint, in order of time; the newer of two wins,
    and none is ever compacted.
    """

    field: ClassVar[str]

    def time_of(self, entry: Any) -> int:
        """Return the entry's time, in milliseconds since 1970."""
        time: int = entry.time
        return time

    def in_order(self, entries: dict[Any, Any]) -> dict[Any, Any]:
        """Return the entries in the order in which they are stored."""
        return in_order(entries, self.time_of)

    def join(self, left: Any, right: Any) -> Any:
        """Join two entries about the same thing."""
        return newer(left, right)

    def joined(self, left: Aggregate, right: Aggregate) -> dict[str, Any]:
        """Return this kind's fields of two states together; neither is changed."""
        both = dict(getattr(left, self.field))
        for key, entry in getattr(right, self.field).items():
            both[key] = self.join(both[key], entry) if key in both else entry
        return {self.field: self.in_order(both)}

    def unknown_to(
        self, believed: Aggregate, other: Aggregate, compacted: Compacted
    ) -> dict[str, Any]:
        """Return this kind's fields of `other`, without what `believed` may have compacted."""
        del believed, compacted
        return {self.field: getattr(other, self.field)}

    def without(self, state: Aggregate, until: int) -> dict[str, Any]:
        """Return this kind's fields without entries at or before a time."""
        entries = getattr(state, self.field)
        return {
            self.field: {
                key: entry for key, entry in entries.items() if self.time_of(entry) > until
            }
        }

    def compact(self, state: Aggregate, config: Economics) -> None:
        """Compact the oldest entries above `config.remembered`, in place."""

    def tidy(self, state: Aggregate) -> None:
        """Drop what exceeds the bounds after a join, where nothing can be refused, in place."""


EVENTS: Final[dict[str, EventType]] = {}
"""Every event type by its name."""

TYPES_OF_TOPIC: Final[dict[str, tuple[str, ...]]] = {}
"""The event types of each input topic, by the topic's role."""

TOPIC_OF_TYPE: Final[dict[str, str]] = {}
"""The role of each event type's input topic."""

EVENT_TYPES: Final[dict[str, type[EventData]]] = {}
"""The model of each event type's data."""

BACKFILL: Final = "backfill"
"""Role of the topic for history, whose segment changes are not published one by one.

They are published as one change, with the customer's next event that is no history, or a tick.
"""

IDENTITIES: Final = "identities"
"""Role of the topic for merging and erasing customers."""

CHANGED: Final[list[Callable[[], None]]] = []
"""Functions to call when a type is registered or removed."""


def register(*types: EventType) -> None:
    """Add event types to the maps above."""
    for each in types:
        EVENTS[each.name] = each
        EVENT_TYPES[each.name] = each.data
        TOPIC_OF_TYPE[each.name] = each.topic
    _sort()
    for build in CHANGED:
        build()


def unregister(name: str) -> None:
    """Remove an event type."""
    del EVENTS[name], EVENT_TYPES[name], TOPIC_OF_TYPE[name]
    _sort()
    for build in CHANGED:
        build()


def _sort() -> None:
    TYPES_OF_TOPIC.clear()
    for name, role in TOPIC_OF_TYPE.items():
        TYPES_OF_TOPIC[role] = (*TYPES_OF_TOPIC.get(role, ()), name)
    TYPES_OF_TOPIC[BACKFILL] = tuple(
        name for name, role in TOPIC_OF_TYPE.items() if role != IDENTITIES
    )
