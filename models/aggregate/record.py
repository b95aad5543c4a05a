"""What is stored under a customer's key: the aggregate, and what the stream must remember."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final

import msgspec

from models.aggregate.state import Aggregate

SCHEMA_VERSION: Final = 2
"""2: erasure and merges. Records of version 1 are read."""

_FORGOTTEN: Final = b"\0forgotten/"
"""Customer ids have no control characters, so this is the beginning of none."""


class UnreadableRecord(Exception):
    """A stored record cannot be read: written by a newer version, or damaged.

    Newer: run the version that wrote it, or a later one. Damaged: restore the changelog topic.
    """


class CustomerRecord(msgspec.Struct, array_like=True):
    """Aggregate, position and outputs of one customer.

    version: grows by one with each applied event and each passing of time that was published.
    as_of: milliseconds since 1970 up to which the customer was scored.
    applied: last applied offset by "topic/partition"; a record at or before it is a replay.
    segments: current segment by dimension. clv: the last published value.
    erased_at: milliseconds since 1970; whatever happened until then is forgotten, -1 for nothing.
    into: the customer that this one was merged into; such a record has nothing else to tell.
    absorbed: customers that were merged into this one, with the version they had.
    """

    aggregate: Aggregate = msgspec.field(default_factory=Aggregate)
    version: int = 0
    as_of: int = 0
    applied: dict[str, int] = msgspec.field(default_factory=dict)
    segments: dict[str, str] = msgspec.field(default_factory=dict)
    clv: float | None = None
    erased_at: int = -1
    into: str = ""
    absorbed: dict[str, int] = msgspec.field(default_factory=dict)


class Forgotten(msgspec.Struct, array_like=True, frozen=True):
    """What is remembered of an erased customer, under a fingerprint in place of the id.

    Late events until `erased_at` do not bring them back; a new life goes on from `version`.
    """

    erased_at: int
    version: int


_encode = msgspec.msgpack.Encoder().encode
_decode_customer = msgspec.msgpack.Decoder(CustomerRecord).decode
_decode_forgotten = msgspec.msgpack.Decoder(Forgotten).decode
_PREFIX: Final = bytes([SCHEMA_VERSION])


def encode_record(record: CustomerRecord | Forgotten) -> bytes:
    """The record as bytes: one byte of schema version, then MessagePack."""
    return _PREFIX + _encode(record)


def decode_record(data: bytes) -> CustomerRecord:
    """The customer's record of these bytes.

    Raises
    ------
    UnreadableRecord
        when the schema is newer than this program, or the bytes are damaged.
    """
    return _decode(data, _decode_customer)  # type: ignore[no-any-return]


def decode_forgotten(data: bytes) -> Forgotten:
    """What these bytes remember of an erased customer; errors as those of `decode_record`."""
    return _decode(data, _decode_forgotten)  # type: ignore[no-any-return]


def _decode(data: bytes, decoder: Any) -> Any:
    if not data:
        raise UnreadableRecord("the stored record is empty; restore the changelog topic")
    if data[0] > SCHEMA_VERSION:
        raise UnreadableRecord(
            f"the stored record has schema version {data[0]}, this program reads up to "
            f"{SCHEMA_VERSION}: it was written by a newer version; run that one or a later one"
        )
    try:
        return decoder(memoryview(data)[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnreadableRecord(
            f"the stored record of {len(data)} bytes is damaged: {error}; restore the changelog "
            "topic"
        ) from error


def forgotten_key(key: bytes, secret: bytes) -> bytes:
    """The key under which an erased customer is remembered; only the secret lets one test ids."""
    digest = blake2b(key, digest_size=16, key=secret[:64]).hexdigest()
    return _FORGOTTEN + digest.encode()


def is_customer(key: bytes) -> bool:
    """Whether a key of the table is a customer's, and no fingerprint of a forgotten one."""
    return not key.startswith(_FORGOTTEN)


def customers(states: Mapping[bytes, bytes]) -> Iterator[tuple[bytes, CustomerRecord]]:
    """The customers of a table with their records, without those merged into others."""
    for key, data in states.items():
        if is_customer(key) and not (record := decode_record(data)).into:
            yield key, record
