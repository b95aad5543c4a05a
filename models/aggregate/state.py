"""The state of one customer: registers that merge, and what has been settled."""

from __future__ import annotations

from hashlib import blake2b
from typing import TypeVar

import msgspec


class Register(msgspec.Struct, array_like=True, frozen=True, order=True, gc=False):
    """What one event says. Of two about the same thing the greater wins: the fields' order counts.

    It starts with what makes it newer (revision, time) and goes on with its content, so that any
    two that differ have a winner. Times are milliseconds since 1970, days are ordinals, money is in
    units of the reporting currency.
    """


class Order(Register, array_like=True, frozen=True, order=True, gc=False):
    """An order; `cost` of its goods is -1 when the event carried none."""

    revision: int
    time: int
    gross: int
    cost: int
    day: int


class Refund(Register, array_like=True, frozen=True, order=True, gc=False):
    """A refund or credit; `order` is the fingerprint of its order, or 0."""

    time: int
    order: int
    amount: int
    recovered: int
    day: int


class Opened(Register, array_like=True, frozen=True, order=True, gc=False):
    """When and how a ticket was opened."""

    time: int
    channel: int
    complaint: bool
    day: int


class Resolved(Register, array_like=True, frozen=True, order=True, gc=False):
    """What a ticket took: a cost, or tenths of a minute of handling; -1 where not told."""

    time: int
    cost: int
    decaminutes: int
    day: int


class Rated(Register, array_like=True, frozen=True, order=True, gc=False):
    """How the customer rated a ticket, from 0 (worst) to 1 (best)."""

    time: int
    score: float
    day: int


class Survey(Register, array_like=True, frozen=True, order=True, gc=False):
    """The latest answer of a kind, from 0 to 1 on its scale."""

    time: int
    score: float


class Acquisition(Register, array_like=True, frozen=True, order=True, gc=False):
    """What winning the customer cost, by the latest word on it."""

    time: int
    cost: int


class Ticket(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A support ticket; its three events may arrive in any order."""

    opened: Opened | None = None
    resolved: Resolved | None = None
    rated: Rated | None = None

    @property
    def first(self) -> Opened | Resolved | Rated:
        """The event that dates the contact: the opening, else the earliest one known."""
        if self.opened is not None:
            return self.opened
        return min(self._followers, key=lambda event: event.time)

    @property
    def latest_opening(self) -> int:
        """When it was opened, or the latest time at which it can have been."""
        if self.opened is not None:
            return self.opened.time
        return max(event.time for event in self._followers)

    @property
    def _followers(self) -> list[Resolved | Rated]:
        return [event for event in (self.resolved, self.rated) if event is not None]


class DayTotals(msgspec.Struct, array_like=True, gc=False):
    """Settled sums of one calendar day, for the rolling windows."""

    orders: int = 0
    gross: int = 0
    uncosted: int = 0
    cost: int = 0
    refunded: int = 0
    recovered: int = 0
    contacts: int = 0


class Settled(msgspec.Struct, array_like=True, gc=False):
    """Sums over what is no longer remembered one by one.

    The boundaries are the (time, fingerprint) of the newest settled order, refund and ticket; they
    only move forward. An unknown one at or before its boundary cannot be told from a duplicate.

    cancelled: settled orders that are cancelled, with the time of it; what is refunded of them is
    void. cancellations_until: time of the latest cancellation that was forgotten, -1 for none.
    """

    orders_until: tuple[int, int] = (-1, 0)
    refunds_until: tuple[int, int] = (-1, 0)
    tickets_until: tuple[int, int] = (-1, 0)
    orders: int = 0
    purchase_days: int = 0
    first_day: int = 0
    last_day: int = 0
    first_day_gross: int = 0
    gross: int = 0
    uncosted: int = 0
    cost: int = 0
    refunds: int = 0
    refunded: int = 0
    recovered: int = 0
    contacts: int = 0
    complaints: int = 0
    last_complaint: int = 0
    support_cost: int = 0
    days: dict[int, DayTotals] = msgspec.field(default_factory=dict)
    cancelled: dict[int, int] = msgspec.field(default_factory=dict)
    cancellations_until: int = -1

    @property
    def size(self) -> int:
        """How many entities were settled."""
        return self.orders + self.refunds + self.contacts


class Aggregate(msgspec.Struct, array_like=True):
    """One customer's rolling aggregate: a join-semilattice of registers, plus settled sums.

    Keys are 63-bit fingerprints of (source, id). The dictionaries are kept in order of
    (time, fingerprint), so that equal states are equal bytes.

    cancelled: when each order was last cancelled. superseded: of orders that a revision moved back
    in time, the versions that an erasure would bring back, see `models.aggregate.versions`.
    """

    orders: dict[int, Order] = msgspec.field(default_factory=dict)
    cancelled: dict[int, int] = msgspec.field(default_factory=dict)
    refunds: dict[int, Refund] = msgspec.field(default_factory=dict)
    tickets: dict[int, Ticket] = msgspec.field(default_factory=dict)
    surveys: dict[str, Survey] = msgspec.field(default_factory=dict)
    acquisitions: dict[int, Acquisition] = msgspec.field(default_factory=dict)
    settled: Settled | None = None
    superseded: dict[int, tuple[Order, ...]] = msgspec.field(default_factory=dict)


def fingerprint(*parts: str) -> int:
    """A positive 63-bit fingerprint of some texts.

    Two ids of one customer collide with a probability of about n²/2⁶⁴.
    """
    digest = blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


Kind = TypeVar("Kind", bound=Register)


def newer(left: Kind | None, right: Kind | None) -> Kind | None:
    """The register that wins: commutative, associative, idempotent."""
    if left is None or right is None:
        return left if right is None else right
    return max(left, right)
