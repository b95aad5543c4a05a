"""What goes into the engine, and what comes out of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

from models.contracts import Refused
from models.routing import Route


class Record(Protocol):
    """What the engine needs of a Kafka record."""

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


class Update(NamedTuple):
    """A customer's current value, ready to be published and cached."""

    customer_id: str
    key: bytes
    version: int
    clv: float
    segments: tuple[tuple[str, str], ...]
    document: bytes


class Removed(NamedTuple):
    """A customer who is no longer there, as of a version: erased, or merged into another."""

    customer_id: str
    key: bytes
    version: int


class Rerouted(NamedTuple):
    """A record to be sent on to the partition of another key."""

    key: bytes
    record: Record
    route: Route


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that cannot be accepted, and why; route: if it was rerouted."""

    record: Record
    refused: Refused
    route: Route | None = None

    def __post_init__(self) -> None:
        # A traceback holds the frames of the whole batch, and those hold the letter.
        self.refused.__traceback__ = self.refused.__context__ = self.refused.__cause__ = None


@dataclass(slots=True)
class Outputs:
    """What came of a batch: records to store, documents to publish, and counts.

    `accepted + duplicates + replayed + forgotten + rerouted + dead letters` makes `taken`: of the
    records given, so many were worked on. The rest must be given again once what is pending of this
    partition is delivered.

    records: to be stored by key; None takes a key away. segment_changes: documents by customer's
    key, in their order; among them the notices of customers who are gone. messages, handovers: for
    other customers' partitions, by customer's key. forgotten: events of before an erasure.
    erased: customers of whom something was erased, accepted events among them.

    Messages and dead letters must be sent before the records are stored, since a replay does not
    give them again. All else comes of the records, and is sent after them; rerouted records that
    follow a merge before any later records are stored.
    """

    records: dict[bytes, bytes | None] = field(default_factory=dict)
    updates: list[Update] = field(default_factory=list)
    removed: list[Removed] = field(default_factory=list)
    segment_changes: list[tuple[bytes, bytes]] = field(default_factory=list)
    messages: list[tuple[bytes, bytes]] = field(default_factory=list)
    handovers: list[tuple[bytes, bytes]] = field(default_factory=list)
    rerouted: list[Rerouted] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)
    taken: int = 0
    accepted: int = 0
    duplicates: int = 0
    replayed: int = 0
    forgotten: int = 0
    erased: int = 0
    new_customers: int = 0

    def reasons(self) -> Counter[str]:
        """Dead letters by reason."""
        return Counter(letter.refused.reason.value for letter in self.dead_letters)
