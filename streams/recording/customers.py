"""Which records are about some customers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from models.contracts import CustomerMerged, Refused, decode
from models.events.kinds import IDENTITIES
from streams.kafka.partitions import LogRecord
from streams.recording.format import Recorded

WHOLE_ROLES = frozenset({"clock", "models"})
"""Roles of topics that are about nobody, and are recorded whole."""

MOST_NAMES = 10
"""Names of customers that a message shows."""

_FIELDS = ("customer_id", "merged_from")


class _Named(msgspec.Struct):
    """Where an event names its customers: in its data, or at the top of a binary event's value.

    Any: beside the data, publishers may use these names for anything.
    """

    customer_id: Any = None
    merged_from: Any = None
    data: Any = None


_decode = msgspec.json.Decoder(_Named).decode


class OfCustomers:
    """Tells which records are about some customers, and which of these occurred in none.

    merged: the others that are one customer with these, whose records are theirs too.

    An event is about its key, its `customer_id` and the customer it is merged from; a record that
    is no event, about its key.
    """

    def __init__(self, customers: Collection[str], merged: Collection[str] = ()) -> None:
        self.asked = frozenset(customers)
        self.merged = tuple(sorted(set(merged) - self.asked))
        self._customers = self.asked.union(merged)
        self._keys: dict[bytes | None, str] = {name.encode(): name for name in self._customers}
        self._absent = set(customers)
        self._apart: set[str] = set()

    def __len__(self) -> int:
        return len(self.asked)

    def concern(self, role: str, record: Recorded) -> bool:
        """Whether a record of a topic with this role is about one of them."""
        if role in WHOLE_ROLES:
            return True
        by_key = self._keys.get(record.key)
        if by_key is not None and not self._absent and role != IDENTITIES:
            return True
        found = self._customers.intersection(_names_in(record.value))
        if by_key is not None:
            found |= {by_key}
        self._absent -= found
        if found and role == IDENTITIES:
            self._apart.update(set(merged_in(record)) - self._customers)
        return bool(found)

    @property
    def apart(self) -> tuple[str, ...]:
        """Others whom recorded merges name, sorted: their own events are not recorded."""
        return tuple(sorted(self._apart))

    @property
    def absent(self) -> tuple[str, ...]:
        """Those that no record so far was about, sorted."""
        return tuple(sorted(self._absent))


def some_of(names: Collection[str]) -> str:
    """The first of these names in quotes, and how many more there are."""
    shown = ", ".join(repr(name) for name in list(names)[:MOST_NAMES])
    more = len(names) - MOST_NAMES
    return f"{shown} and {more:,} more" if more > 0 else shown


def merged_in(record: Recorded | LogRecord) -> tuple[str, ...]:
    """The two customers that a record of the identities topic merges; () if it merges none."""
    if not isinstance(record.value, bytes | None):
        return ()
    try:
        event = decode(record.key, record.value, record.headers)
    except Refused:
        return ()
    data = event.data
    return (data.customer_id, data.merged_from) if isinstance(data, CustomerMerged) else ()


def _names_in(value: bytes | None) -> list[str]:
    """The customers that an event names; none for what is no event."""
    try:
        named = _decode(value or b"")
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return []
    said = [named.customer_id, named.merged_from]
    if isinstance(named.data, dict):
        said += [named.data.get(field) for field in _FIELDS]
    return [each for each in said if isinstance(each, str)]
