"""The engine's input, a Kafka record, and its outputs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from models.contracts import Refused
from models.routing import Route


class Record(Protocol):
    """A Kafka record, as far as the engine reads it."""

    @property
    def offset(self) -> int:
        """Offset within its topic-partition."""

    @property
    def timestamp(self) -> int:
        """Milliseconds since 1970, as set by the publisher or the broker."""

    @property
    def key(self) -> bytes | None:
        """The customer id in UTF-8, or None."""

    @property
    def value(self) -> bytes | None:
        """The event, or None."""

    @property
    def headers(self) -> Sequence[tuple[str, bytes]]:
        """Kafka headers."""


class CurrentValue(NamedTuple):
    """A customer's current value, ready to be published and cached."""

    customer_id: str
    key: bytes
    version: int
    clv: float
    segments: tuple[tuple[str, str], ...]
    document: bytes


class Removed(NamedTuple):
    """A customer who was erased or merged into another, as of a version."""

    customer_id: str
    key: bytes
    version: int


class Rerouted(NamedTuple):
    """A misrouted record, to be sent on to the partition of another key."""

    key: bytes
    record: Record
    route: Route


@dataclass(frozen=True, slots=True)
class RefusedRecord:
    """An input record that was refused, and the reason; route: if it was rerouted.

    Also a record that was not refused, with the notice about it.
    """

    record: Record
    refused: Refused
    route: Route | None = None

    def __post_init__(self) -> None:
        # The traceback would keep the frames of the whole batch alive, in a reference cycle.
        self.refused.__traceback__ = self.refused.__context__ = self.refused.__cause__ = None


@dataclass(slots=True)
class Outputs:
    """The outputs of a batch: records to store, documents to publish, and counts.

    taken: how many of the given records were processed; it is the sum of `accepted`, `duplicates`,
    `replayed`, `forgotten`, rerouted records and dead letters. The caller gives the others again
    after the pending outputs of this partition are delivered.

    records: to store by key; None deletes the key. segment_changes: documents in order, by
    customer's key; removals are among them. messages, handovers: for customers in other partitions,
    by customer's key. forgotten: events dated before an erasure. erased: accepted erasures.
    notices: about records that are among `accepted` or `duplicates`. accepted_types: of events that
    `process` accepted, by type. dues: when to look again at customers who were scored, by key, in
    milliseconds since 1970; NEVER where nobody is to look.

    Messages, dead letters and notices must be sent before the records are stored, because a
    replayed record does not produce them again. The other outputs are sent after the records. A
    rerouted record that follows a merge is sent before any later record is stored.
    """

    records: dict[bytes, bytes | None] = field(default_factory=dict)
    updates: list[CurrentValue] = field(default_factory=list)
    removed: list[Removed] = field(default_factory=list)
    segment_changes: list[tuple[bytes, bytes]] = field(default_factory=list)
    messages: list[tuple[bytes, bytes]] = field(default_factory=list)
    handovers: list[tuple[bytes, bytes]] = field(default_factory=list)
    rerouted: list[Rerouted] = field(default_factory=list)
    dead_letters: list[RefusedRecord] = field(default_factory=list)
    notices: list[RefusedRecord] = field(default_factory=list)
    dues: dict[bytes, int] = field(default_factory=dict)
    taken: int = 0
    accepted: int = 0
    accepted_types: Counter[str] = field(default_factory=Counter)
    duplicates: int = 0
    replayed: int = 0
    forgotten: int = 0
    erased: int = 0
    new_customers: int = 0

    def reasons(self) -> Counter[str]:
        """Dead letters by reason."""
        return Counter(letter.refused.reason.value for letter in self.dead_letters)

    def notice_reasons(self) -> Counter[str]:
        """Notices by reason."""
        return Counter(notice.refused.reason.value for notice in self.notices)
