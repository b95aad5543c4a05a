"""The size of a record at the broker, in Kafka's record format v2.

Source: Apache Kafka, message format, record batch v2; varints are zigzag-encoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

Headers = Sequence[tuple[str, bytes | None]]

BATCH_OVERHEAD: Final = 61
"""Bytes of a batch before its first record."""

_FIXED: Final = 3
"""Attributes, and the differences of time and offset, of a batch's first record: one byte each."""


def record_size(key: bytes | None, value: bytes | None, headers: Headers) -> int:
    """Return the bytes of an uncompressed batch of this record alone, as a topic's limit counts."""
    body = _FIXED + _field(key) + _field(value) + _varint(len(headers)) + headers_size(headers)
    return BATCH_OVERHEAD + _varint(body) + body


def headers_size(headers: Iterable[tuple[str, bytes | None]]) -> int:
    """Return the bytes of headers; each has two lengths beside its name and its value."""
    return sum(header_size(name, value) for name, value in headers)


def header_size(name: str, value: bytes | None) -> int:
    """Return the bytes of one header; the name is encoded in UTF-8."""
    length = len(name) if name.isascii() else len(name.encode())
    return _varint(length) + length + _field(value)


def _field(data: bytes | None) -> int:
    length = 0 if data is None else len(data)
    return _varint(length) + length


def _varint(length: int) -> int:
    """Return the bytes of an encoded length: zigzag doubles it, and a byte carries seven bits."""
    return length.bit_length() // 7 + 1
