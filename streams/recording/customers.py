"""Which records are about some customers."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from streams.recording.format import Recorded

WHOLE_ROLES = frozenset({"clock", "models"})
"""Roles of topics that are about nobody, and are recorded whole."""


_FIELDS = ("customer_id", "merged_from")


class _Named(msgspec.Struct):
    """Where an event says whose it is: in its data, which is all of a binary event's value.

    Of any type: beside the data, these are fields that publishers may use for what they like.
    """

    customer_id: Any = None
    merged_from: Any = None
    data: Any = None


_decode = msgspec.json.Decoder(_Named).decode


class OfCustomers:
    """Some customers, and which records are about them.

    An event is, when its key or `customer_id` is, or the one it is merged from. A record that is no
    event is known by its key alone.
    """

    def __init__(self, customers: Collection[str]) -> None:
        self._customers = frozenset(customers)
        self._keys = frozenset(name.encode() for name in customers)

    def __len__(self) -> int:
        return len(self._customers)

    def concern(self, role: str, record: Recorded) -> bool:
        """Whether a record of a topic with this role is about one of them."""
        if role in WHOLE_ROLES or record.key in self._keys:
            return True
        try:
            named = _decode(record.value or b"")
        except (msgspec.MsgspecError, UnicodeDecodeError):
            return False
        said = [named.customer_id, named.merged_from]
        if isinstance(named.data, dict):
            said += [named.data.get(field) for field in _FIELDS]
        return not self._customers.isdisjoint(each for each in said if isinstance(each, str))
