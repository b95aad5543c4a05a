"""The basis: which logs the state of a partition was built on, stored beside its customers."""

from __future__ import annotations

from typing import Final

import msgspec

from models.aggregate.record import check_readable, damaged
from models.fingerprints import DIGEST_BYTES, LOG_MARK, fingerprint

SCHEMA_VERSION: Final = 1

_SEALED: Final = b"keyed:"
"""Prefix of a keyed digest; a plain digest, of earlier versions, is 16 bytes without it."""


class Mark(msgspec.Struct, array_like=True, frozen=True):
    """A processed record, by which its log is recognised.

    timestamp: milliseconds since 1970, as the broker gave it. digest: of key and value; it is
    stored keyed, see `sealed`.
    """

    offset: int
    timestamp: int
    digest: bytes

    @property
    def is_sealed(self) -> bool:
        """Whether the digest is keyed; earlier versions did not key it."""
        return len(self.digest) > DIGEST_BYTES


def sealed(mark: Mark, secret: bytes) -> Mark:
    """Return the mark with a keyed digest: testing a record on it needs the erasure key."""
    digest = _SEALED + fingerprint(mark.digest, secret, LOG_MARK)
    return msgspec.structs.replace(mark, digest=digest)


class Accepted(msgspec.Struct, array_like=True, frozen=True):
    """A loss that an operator accepted; at: milliseconds since 1970.

    place: "topic[partition]". lost: what, and how much. resolved: what was done. Both in words.
    """

    at: int
    finding: str
    place: str
    lost: str
    resolved: str


class Basis(msgspec.Struct):
    """What one partition of the table was built on.

    partitions: the common partition count of the topics. topics: id of each input topic and of the
    changelog, "" if the broker gives none. generations: by "topic/partition", how often its log was
    replaced; 0 if absent. currency, timezone, complaint_topics: of the shop, under which entries
    were summed up; earlier versions did not note the topics.
    first_version: new customers start above it. marks: by "topic/partition". committed: by the
    origin of a replaced log, the offset up to which it was committed. accepted: accepted losses,
    oldest first. first: by origin, the offset up to which a log of this partition is processed
    before any other of it.
    """

    partitions: int
    topics: dict[str, str]
    generations: dict[str, int]
    currency: str
    timezone: str
    first_version: int = 0
    marks: dict[str, Mark] = msgspec.field(default_factory=dict)
    committed: dict[str, int] = msgspec.field(default_factory=dict, name="told")
    accepted: list[Accepted] = msgspec.field(default_factory=list)
    complaint_topics: list[str] | None = None
    first: dict[str, int] = msgspec.field(default_factory=dict)


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Basis).decode
_PREFIX: Final = bytes([SCHEMA_VERSION])


def encode_basis(basis: Basis) -> bytes:
    """Encode a basis: one byte of schema version, then MessagePack."""
    return _PREFIX + _encode(basis)


def decode_basis(data: bytes, partition: int) -> Basis:
    """Decode the basis of a partition; UnreadableRecord if it is of a newer program, or damaged."""
    name = f"the basis of partition {partition}"
    check_readable(data, SCHEMA_VERSION, lambda: name)
    try:
        return _decode(memoryview(data)[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise damaged(data, name, error) from error
