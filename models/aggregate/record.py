"""What is stored under a customer's key: the aggregate, and what the stream must remember."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from hashlib import blake2b
from typing import Any, Final

import msgspec

from models.aggregate.state import Aggregate
from models.fingerprints import DIGEST_BYTES, ERASED, KEY_CHECK, fingerprint

SCHEMA_VERSION: Final = 2
"""2: erasure, merges and outbox. Records of version 1 are read."""

_OTHER: Final = b"\0"
"""Customer ids have no control characters, so this is the beginning of none."""
_FORGOTTEN: Final = _OTHER + b"erased/"
_FORMER: Final = _OTHER + b"forgotten/"
"""Of versions that had no key, or used it for fingerprints of every purpose."""

ERASURE_KEY: Final = _OTHER + b"erasure-key"
"""Key of the record that says by which secret a partition's forgotten customers are remembered."""

BASIS_KEY: Final = _OTHER + b"basis"
"""Key of the record that says what a partition's state was computed from: `streams.basis`."""


class UnreadableRecord(Exception):
    """A stored record cannot be read: written by a newer version, or damaged.

    Newer: run the version that wrote it, or a later one. Damaged: restore the changelog topic.
    """


class WrittenByNewer(UnreadableRecord):
    """It was written by a newer version: nothing is wrong with it, but this program is too old."""


class Change(msgspec.Struct, array_like=True, frozen=True):
    """One change of segment."""

    dimension: str
    previous: str | None
    current: str


Evidence = dict[str, float | None]
"""The values that a change was decided on."""


class Notice(msgspec.Struct, array_like=True, frozen=True):
    """What subscribers are told of one evaluation, or of the customer's end.

    origin, offset: topic-partition and offset of the record that led to it. removal: "erased" or
    "merged", or empty; into: the customer who stays. evidence: of each change; None where it can be
    had from the record itself.
    """

    version: int
    as_of: int
    origin: str
    offset: int
    before: float | None = None
    after: float | None = None
    changes: tuple[Change, ...] = ()
    evidence: tuple[Evidence, ...] | None = None
    removal: str = ""
    into: str = ""


class Guest(msgspec.Struct, array_like=True, frozen=True):
    """A customer who was merged into another: at which version, and when, in milliseconds."""

    version: int
    at: int


class CustomerRecord(msgspec.Struct, array_like=True):
    """Aggregate, position and outputs of one customer.

    version: grows by one with each applied event and each passing of time that was published.
    as_of: milliseconds since 1970 up to which the customer was scored.
    applied: last applied offset by "topic/partition"; a record at or before it is a replay.
    segments: current segment by dimension, as told. clv: the value then.
    erased_at: milliseconds since 1970; whatever happened until then is forgotten, -1 for nothing.
    into, merged_at: the customer that this one was merged into, and when; the rest stays as it was
    handed over. absorbed: customers that were merged into this one.
    outbox: what the last batch that changed the record has to tell, and what had not been told of
    by then. The record is stored before it is told, and after a crash it is told from here.
    backfill: the last event was history that is loaded; segments and clv are those of before it.
    """

    aggregate: Aggregate = msgspec.field(default_factory=Aggregate)
    version: int = 0
    as_of: int = 0
    applied: dict[str, int] = msgspec.field(default_factory=dict)
    segments: dict[str, str] = msgspec.field(default_factory=dict)
    clv: float | None = None
    erased_at: int = -1
    into: str = ""
    merged_at: int = -1
    absorbed: dict[str, Guest] = msgspec.field(default_factory=dict)
    outbox: tuple[Notice, ...] = ()
    backfill: bool = False


class Forgotten(msgspec.Struct, array_like=True, frozen=True):
    """What is remembered of an erased customer, under a fingerprint in place of the id.

    Late events until `erased_at` do not bring them back; a new life goes on from `version`.
    applied, outbox: as in `CustomerRecord`.
    """

    erased_at: int
    version: int
    applied: dict[str, int]
    outbox: tuple[Notice, ...]


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
        raise WrittenByNewer(
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
    return _forgotten(_plain(key), secret)


def former_key(key: bytes, secret: bytes) -> bytes:
    """The key under which a former version remembered an erased customer by the same secret."""
    digest = blake2b(key, digest_size=DIGEST_BYTES, key=secret[:64]).hexdigest()
    return _FORMER + digest.encode()


def _forgotten(plain: bytes, secret: bytes) -> bytes:
    return _FORGOTTEN + fingerprint(plain, secret, ERASED).hex().encode()


def _plain(key: bytes) -> bytes:
    """What a version without a key remembered of an id: from it today's key can be made."""
    return blake2b(key, digest_size=DIGEST_BYTES).digest()


def erasure_fingerprint(secret: bytes) -> bytes:
    """What `ERASURE_KEY` holds: by it a worker with another secret is recognised."""
    return _PREFIX + fingerprint(b"", secret, KEY_CHECK)


def _former_fingerprint(secret: bytes) -> bytes:
    return _PREFIX + blake2b(b"erasure key", digest_size=DIGEST_BYTES, key=secret[:64]).digest()


def knows_key(held: bytes | None, secret: bytes) -> bool:
    """Whether what `ERASURE_KEY` holds is of this secret, or of a version that had none."""
    known = (erasure_fingerprint(secret), _former_fingerprint(secret), _former_fingerprint(b""))
    return held is None or held in known


def rekeyed(states: Mapping[bytes, bytes], secret: bytes) -> dict[bytes, bytes | None]:
    """What to change in a partition whose fingerprints are of a former version; {} for nothing.

    Those that had no key get one. Those that had are found under `former_key`.
    """
    held = states.get(ERASURE_KEY)
    if held is None or held == erasure_fingerprint(secret) or not knows_key(held, secret):
        return {}
    changes: dict[bytes, bytes | None] = {ERASURE_KEY: erasure_fingerprint(secret)}
    if held == _former_fingerprint(b""):
        for key, data in states.items():
            if key.startswith(_FORMER):
                plain = bytes.fromhex(key.removeprefix(_FORMER).decode())
                changes[_forgotten(plain, secret)] = data
                changes[key] = None
    return changes


def strikes_key(origin: str) -> bytes:
    """The key under which a changelog has the records of "topic/partition" that stopped workers."""
    return _OTHER + b"strikes/" + origin.encode()


def is_customer(key: bytes) -> bool:
    """Whether a key of the table is a customer's."""
    return not key.startswith(_OTHER)


def is_forgotten(key: bytes) -> bool:
    """Whether a key of the table is an erased customer's fingerprint."""
    return key.startswith((_FORGOTTEN, _FORMER))


def customers(states: Mapping[bytes, bytes]) -> Iterator[tuple[bytes, CustomerRecord]]:
    """The customers of a table with their records, without those merged into others."""
    for key, data in states.items():
        if is_customer(key) and not (record := decode_record(data)).into:
            yield key, record
