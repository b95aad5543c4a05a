"""Registers: one entry per order, refund, ticket and so on; the newer of two wins."""

from __future__ import annotations

from collections.abc import Callable
from hashlib import blake2b
from typing import Any, TypeVar

import msgspec


class Register(msgspec.Struct, array_like=True, frozen=True, order=True, gc=False):
    """The content of one event. Of two about the same thing the greater wins, compared as tuples.

    The first fields say what is newer (revision, time, word); the others break ties. Registers hold
    what was said, never what a setting makes of it: times are in milliseconds since 1970, money is
    in units of its currency, a number of `models.currencies.CODES`. lag: how long after its time
    the event was said, in milliseconds, by the envelope; 0 if it does not tell.
    """

    @property
    def word(self) -> tuple[int, ...]:
        """What says which of two is newer: their time, and when they were said."""
        return msgspec.structs.astuple(self)[:2]


def fingerprint(*parts: str) -> int:
    """Return a positive 63-bit fingerprint of some texts.

    The probability that any two of a customer's n ids collide is about n²/2⁶⁴.
    """
    digest = blake2b("\0".join(parts).encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1


Kind = TypeVar("Kind", bound=Register)
Value = TypeVar("Value")


def newer(left: Kind | None, right: Kind | None) -> Kind | None:
    """Return the register that wins; commutative, associative and idempotent."""
    if left is None or right is None:
        return left if right is None else right
    return max(left, right)


def in_order(entries: dict[int, Value], time_of: Callable[[Value], int]) -> dict[int, Value]:
    """Return the entries in order of (time, key)."""
    return dict(sorted(entries.items(), key=lambda item: (time_of(item[1]), item[0])))


def insert(
    entries: dict[int, Value], key: int, value: Value, time_of: Callable[[Value], int]
) -> None:
    """Set an entry, in place, and keep the order.

    Usually the entry is the newest and is appended, or its time has not changed and it keeps its
    place. Otherwise all entries of the kind are sorted; their number is bounded.
    """
    known = entries.get(key)
    if known is not None:
        if time_of(known) == time_of(value):
            entries[key] = value
            return
        del entries[key]
    last = next(reversed(entries), None)
    entries[key] = value
    if last is not None and (time_of(entries[last]), last) > (time_of(value), key):
        ordered = in_order(entries, time_of)
        entries.clear()
        entries.update(ordered)


def no_time(_value: Any) -> int:
    """Return 0: for entries that are ordered by their key alone."""
    return 0
