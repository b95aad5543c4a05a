"""The basis: what the state of a partition was computed from, stored beside its customers."""

from __future__ import annotations

from typing import Final

import msgspec

from models.aggregate.record import UnreadableRecord
from models.fingerprints import DIGEST_BYTES, LOG_MARK, fingerprint

SCHEMA_VERSION: Final = 1

_SEALED: Final = b"keyed:"
"""A plain digest has 16 bytes, and a keyed one these before its own 16."""


class Mark(msgspec.Struct, array_like=True, frozen=True):
    """A record that was processed: by it the log it came from is recognised.

    timestamp: milliseconds since 1970, as the broker gave it. digest: of its key and value; what
    is stored is keyed, see `sealed`.
    """

    offset: int
    timestamp: int
    digest: bytes

    @property
    def is_sealed(self) -> bool:
        """Whether its digest is keyed; those of former versions are not."""
        return len(self.digest) > DIGEST_BYTES


def sealed(mark: Mark, secret: bytes) -> Mark:
    """The mark as it is stored: nobody without the erasure key can test whose record it is."""
    digest = _SEALED + fingerprint(mark.digest, secret, LOG_MARK)
    return msgspec.structs.replace(mark, digest=digest)


class Accepted(msgspec.Struct, array_like=True, frozen=True):
    """A loss that an operator accepted: when, in milliseconds since 1970, what, and what was done.

    place: "topic[partition]". lost: what, and how much of it, in words. resolved: in words.
    """

    at: int
    finding: str
    place: str
    lost: str
    resolved: str


class Basis(msgspec.Struct):
    """What one partition of the table was built on.

    partitions: the common partition count of the topics. topics: id of each input topic and of the
    changelog, as the broker tells it; "" where it tells none. generations: by "topic/partition",
    how often its log was replaced by another; 0 if absent. currency, timezone: of the shop; state
    holds amounts in the one and days of the other. first_version: new customers begin above it.
    marks: by "topic/partition". told: by the origin of a log that was replaced, the offset up to
    which it was committed. accepted: losses that were accepted, oldest first.
    """

    partitions: int
    topics: dict[str, str]
    generations: dict[str, int]
    currency: str
    timezone: str
    first_version: int = 0
    marks: dict[str, Mark] = msgspec.field(default_factory=dict)
    told: dict[str, int] = msgspec.field(default_factory=dict)
    accepted: list[Accepted] = msgspec.field(default_factory=list)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Basis).decode
_PREFIX: Final = bytes([SCHEMA_VERSION])


def encode_basis(basis: Basis) -> bytes:
    """The basis as bytes: one byte of schema version, then MessagePack."""
    return _PREFIX + _encode(basis)


def decode_basis(data: bytes) -> Basis:
    """The basis of these bytes.

    Raises
    ------
    UnreadableRecord
        when the schema is newer than this program, or the bytes are damaged.
    """
    if not data:
        raise UnreadableRecord("the basis of a partition is empty; restore the changelog topic")
    if data[0] > SCHEMA_VERSION:
        raise UnreadableRecord(
            f"the basis of a partition has schema version {data[0]}, this program reads up to "
            f"{SCHEMA_VERSION}: it was written by a newer version; run that one or a later one"
        )
    try:
        return _decode(memoryview(data)[1:])
    except msgspec.MsgspecError as error:
        raise UnreadableRecord(
            f"the basis of a partition, {len(data)} bytes, is damaged: {error}; restore the "
            "changelog topic"
        ) from error
