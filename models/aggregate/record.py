"""The stored record of one customer: the aggregate, and what the stream must remember beside it."""

from __future__ import annotations

from typing import Final

import msgspec

from models.aggregate.state import Aggregate

SCHEMA_VERSION: Final = 1


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
    """

    aggregate: Aggregate = msgspec.field(default_factory=Aggregate)
    version: int = 0
    as_of: int = 0
    applied: dict[str, int] = msgspec.field(default_factory=dict)
    segments: dict[str, str] = msgspec.field(default_factory=dict)
    clv: float | None = None


_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(CustomerRecord)
_PREFIX: Final = bytes([SCHEMA_VERSION])


def encode_record(record: CustomerRecord) -> bytes:
    """The record as bytes: one byte of schema version, then MessagePack."""
    return _PREFIX + _encoder.encode(record)


def decode_record(data: bytes) -> CustomerRecord:
    """The record of these bytes.

    Raises
    ------
    UnreadableRecord
        when the schema is newer than this program, or the bytes are damaged.
    """
    if not data:
        raise UnreadableRecord("the stored record is empty; restore the changelog topic")
    if data[0] > SCHEMA_VERSION:
        raise UnreadableRecord(
            f"the stored record has schema version {data[0]}, this program reads up to "
            f"{SCHEMA_VERSION}: it was written by a newer version; run that one or a later one"
        )
    try:
        return _decoder.decode(memoryview(data)[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise UnreadableRecord(
            f"the stored record of {len(data)} bytes is damaged: {error}; restore the changelog "
            "topic"
        ) from error
