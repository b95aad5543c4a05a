"""Customers that stay decoded between batches: those who buy often need not be read each time."""

from __future__ import annotations

from typing import Final, NamedTuple

from models.aggregate.record import CustomerRecord
from models.aggregate.summary import Summary
from models.economics import Economics

MOST_BYTES: Final = 8 * 1024 * 1024
"""How much may be kept, as encoded; decoded it takes 12 to 14 times as much memory."""


class _Kept(NamedTuple):
    stored: bytes
    record: CustomerRecord
    summary: Summary
    economics: Economics


class Recent:
    """The customers of the last batches, decoded, with their sums.

    It never changes what a batch comes to: a customer is decoded again if the stored bytes are not
    those that were kept. A batch takes customers out, and puts them back when it has succeeded.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self._kept: dict[bytes, _Kept] = {}
        """By key; the one used last is at the end."""
        self._most = most_bytes
        self._size = 0

    def __len__(self) -> int:
        return len(self._kept)

    def take(
        self, key: bytes, stored: bytes, economics: Economics
    ) -> tuple[CustomerRecord, Summary] | None:
        """Take out the customer of a key, if these are the stored bytes and the settings."""
        kept = self._kept.pop(key, None)
        if kept is None:
            return None
        self._size -= len(kept.stored)
        if kept.stored != stored or kept.economics is not economics:
            return None
        return kept.record, kept.summary

    def put(
        self,
        key: bytes,
        stored: bytes,
        record: CustomerRecord,
        summary: Summary,
        economics: Economics,
    ) -> None:
        """Keep a customer who was just stored; nobody else may change the record and its sums."""
        self._kept[key] = _Kept(stored, record, summary, economics)
        self._size += len(stored)
        while self._size > self._most:
            oldest = self._kept.pop(next(iter(self._kept)))
            self._size -= len(oldest.stored)
