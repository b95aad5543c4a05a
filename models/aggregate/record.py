"""The stored record of a customer, and the other records of a partition's changelog."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from hashlib import blake2b
from typing import Any, Final, Literal, NamedTuple

import msgspec

from models.aggregate.compacted import count_months
from models.aggregate.schema2 import upgraded
from models.aggregate.state import Aggregate
from models.errors import ClvError
from models.fingerprints import DIGEST_BYTES, ERASED, KEY_CHECK, fingerprint

SCHEMA_VERSION: Final = 4
"""4: channels of acquisition, and compacted purchase days by month. Earlier versions are read."""

_OTHER: Final = b"\0"
"""Prefix of all keys that are not a customer's: customer ids have no control characters."""
_FORGOTTEN: Final = _OTHER + b"erased/"
_FORMER: Final = _OTHER + b"forgotten/"
"""Prefix used by earlier versions, which had no erasure key or used it differently."""

ERASURE_KEY: Final = _OTHER + b"erasure-key"
"""Key of the record that identifies the secret of a partition's fingerprints."""

BASIS_KEY: Final = _OTHER + b"basis"
"""Key of the record that says which logs a partition's state was built on: `streams.basis`."""


class UnreadableRecord(ClvError):
    """A record of the changelog cannot be read: written by a newer version, or damaged.

    The text says whose record or which partition's it is. Newer: run the version that wrote it, or
    a later one. Damaged: restore the changelog topic.
    """


class WrittenByNewer(UnreadableRecord):
    """The record is intact, but this program is older than the one that wrote it."""


class Change(msgspec.Struct, array_like=True, frozen=True):
    """One change of segment.

    current: None if the dimension is no longer there. named: the id of the rule that decided, if it
    is not the segment.
    """

    dimension: str
    previous: str | None
    current: str | None
    named: str = ""

    @property
    def rule(self) -> str:
        """The id of the rule that decided."""
        return self.named or self.current or ""


Cause = Literal["event", "time", "model", "rules", "merge"]
"""What a change of segment comes from: an event of the customer; time; parameters or rules that
came into force; or a merge."""

Evidence = dict[str, float | str | None]
"""The feature values that decided a segment change."""


class OutboxEntry(msgspec.Struct, array_like=True, frozen=True):
    """Outbox entry: the segment changes of one evaluation, or the removal of the customer.

    origin, offset: topic-partition and offset of the input record. before, after: value in
    currency. removal: "erased", "merged" or empty; into: the customer who stays. evidence: of each
    change; None if it can be computed from the stored record. cause: what the changes come from.
    rules, model: the versions that decided; empty in records of earlier versions. silent: of a
    moment in silence, after the event of that version.
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
    cause: Cause = "event"
    rules: str = ""
    model: str = ""
    silent: bool = False


class MergedCustomer(msgspec.Struct, array_like=True, frozen=True):
    """A customer who was merged into another: their last version, and when (ms since 1970)."""

    version: int
    at: int


class Moved(NamedTuple):
    """What has moved a value since it was published last, in currency.

    before: that value. model: other parameters. settings: what was configured otherwise. What is
    left of the difference came of events.
    """

    before: float
    time: float = 0.0
    model: float = 0.0
    settings: float = 0.0
    merge: float = 0.0

    @property
    def parts(self) -> tuple[float, ...]:
        """The fields, without zeros at the end: as they are stored."""
        last = len(self)
        while last > 1 and not self[last - 1]:
            last -= 1
        return self[:last]


class CustomerRecord(msgspec.Struct, array_like=True):
    """The stored record of one customer.

    version: grows by one with each applied event and each tick.
    as_of: time of the last score, in milliseconds since 1970.
    applied: last applied offset by lane; a record at or before it is a replayed one.
    segments: current segment by dimension, as published. clv: the value then.
    erased_at: events up to this time (milliseconds since 1970) are erased; -1 for none.
    into, merged_at: the customer that this one was merged into, and when; the other fields stay as
    they were then. absorbed: customers that were merged into this one.
    outbox: entries of the last batch that changed the record, and entries still pending then. The
    record is stored before they are published; after a crash they are sent again from here.
    backfill: the last event was a backfilled one; segments and clv are those from before it.
    since: when the customer entered each segment, in milliseconds since 1970, by dimension; without
    those entered under earlier versions. due: until then (milliseconds since 1970) no segment
    changes unless something happens; 0 if not known. silent: the last score was of a moment in
    silence, after the event of that version. base: when the silence began that the looks so far
    belong to, if that is not as_of; 0 if it is. refreshed: as of when the value was published
    again since the last score, and told: that value; 0 and None if it was not. moved: what moved
    the value as published last, as a `Moved` without zeros at the end; empty if that is not known.
    turn: the ordinal of the day on which a comparison turns next in the silence that the looks so
    far belong to, or NO_DAY; 0 if that is not known. turn_by: what it was found by, as
    `Interpretation.search_by` returns it.
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
    absorbed: dict[str, MergedCustomer] = msgspec.field(default_factory=dict)
    outbox: tuple[OutboxEntry, ...] = ()
    backfill: bool = False
    since: dict[str, int] = msgspec.field(default_factory=dict)
    due: int = 0
    silent: bool = False
    base: int = 0
    refreshed: int = 0
    told: float | None = None
    moved: tuple[float, ...] = ()
    turn: int = 0
    turn_by: int = 0

    @property
    def told_at(self) -> int:
        """As of when the value was published last, in milliseconds since 1970."""
        return self.refreshed or self.as_of


class Glance(msgspec.Struct, array_like=True):
    """What of a customer's record says when to look at them; the fields are those of the record."""

    aggregate: msgspec.Raw
    version: int
    as_of: int
    applied: msgspec.Raw
    segments: msgspec.Raw
    clv: msgspec.Raw
    erased_at: int = -1
    into: str = ""
    merged_at: int = -1
    absorbed: msgspec.Raw = msgspec.Raw()
    outbox: tuple[OutboxEntry, ...] = ()
    backfill: bool = False
    since: msgspec.Raw = msgspec.Raw()
    due: int = 0
    silent: bool = False
    base: int = 0


class Forgotten(msgspec.Struct, array_like=True, frozen=True):
    """The record of an erased customer, stored under a fingerprint instead of the id.

    Late events up to `erased_at` do not bring the customer back; if they return, `version`
    continues from here. applied, outbox: as in `CustomerRecord`.
    """

    erased_at: int
    version: int
    applied: dict[str, int]
    outbox: tuple[OutboxEntry, ...]


_encode = msgspec.msgpack.Encoder().encode
_decode_customer = msgspec.msgpack.Decoder(CustomerRecord).decode
_decode_glance = msgspec.msgpack.Decoder(Glance).decode
_decode_forgotten = msgspec.msgpack.Decoder(Forgotten).decode
_PREFIX: Final = bytes([SCHEMA_VERSION])
_KEY_PREFIX: Final = b"\x02"


def encode_record(record: CustomerRecord | Forgotten) -> bytes:
    """Encode a record: one byte of schema version, then MessagePack."""
    return _PREFIX + _encode(record)


def decode_record(data: bytes, key: bytes = b"") -> CustomerRecord:
    """Decode a customer's record. key: named in errors.

    Raises
    ------
    UnreadableRecord
        if the schema is newer than this program, or the bytes are damaged.
    """
    if data and data[0] < SCHEMA_VERSION:
        return _decode(data, partial(_decode_earlier, data[0]), key)  # type: ignore[no-any-return]
    return _decode(data, _decode_customer, key)  # type: ignore[no-any-return]


def glance(data: bytes, key: bytes = b"") -> Glance | CustomerRecord:
    """Decode only what says when to look at a customer; errors as of `decode_record`."""
    if data and data[0] < SCHEMA_VERSION:
        return decode_record(data, key)
    return _decode(data, _decode_glance, key)  # type: ignore[no-any-return]


def _decode_earlier(schema: int, data: memoryview) -> CustomerRecord:
    record: CustomerRecord = _decode_customer(upgraded(data, place=0) if schema < 3 else data)
    if record.aggregate.compacted is not None:
        count_months(record.aggregate.compacted)
    return record


def decode_forgotten(data: bytes, key: bytes = b"") -> Forgotten:
    """Decode an erased customer's record; key and errors as of `decode_record`."""
    return _decode(data, _decode_forgotten, key)  # type: ignore[no-any-return]


def _decode(data: bytes, decoder: Any, key: bytes) -> Any:
    check_readable(data, SCHEMA_VERSION, partial(_named, key))
    try:
        return decoder(memoryview(data)[1:])
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise damaged(data, _named(key), error) from error


def _named(key: bytes) -> str:
    if not key:
        return "the stored record"
    if is_customer(key):
        return f"the stored record of customer {key.decode('utf-8', 'backslashreplace')!r}"
    return f"the stored record with the key {key!r}"


def check_readable(data: bytes, known: int, name: Callable[[], str]) -> None:
    """Refuse a record of a newer schema than the one known, or none; UnreadableRecord."""
    if not data:
        raise UnreadableRecord(f"{name()} is empty; restore the changelog topic")
    if data[0] > known:
        raise WrittenByNewer(
            f"{name()} has schema version {data[0]}, this program reads up to {known}: it was "
            "written by a newer version; run that one or a later one"
        )


def damaged(data: bytes, name: str, why: Exception) -> UnreadableRecord:
    """Return the error for a record whose bytes do not decode."""
    return UnreadableRecord(
        f"{name}, {len(data)} bytes, is damaged: {why}; restore the changelog topic"
    )


def forgotten_key(key: bytes, secret: bytes) -> bytes:
    """Return the key of an erased customer's record; testing an id needs the secret."""
    return _forgotten(_plain(key), secret)


def former_key(key: bytes, secret: bytes) -> bytes:
    """Return the key that earlier versions used for an erased customer, with the same secret."""
    digest = blake2b(key, digest_size=DIGEST_BYTES, key=secret[:64]).hexdigest()
    return _FORMER + digest.encode()


def _forgotten(plain: bytes, secret: bytes) -> bytes:
    return _FORGOTTEN + fingerprint(plain, secret, ERASED).hex().encode()


def _plain(key: bytes) -> bytes:
    """Return the digest that versions without a secret stored; today's key is derived from it."""
    return blake2b(key, digest_size=DIGEST_BYTES).digest()


def erasure_fingerprint(secret: bytes) -> bytes:
    """Return the value of the `ERASURE_KEY` record, by which a changed secret is detected."""
    return _KEY_PREFIX + fingerprint(b"", secret, KEY_CHECK)


def _former_fingerprint(secret: bytes) -> bytes:
    return _KEY_PREFIX + blake2b(b"erasure key", digest_size=DIGEST_BYTES, key=secret[:64]).digest()


def knows_key(held: bytes | None, secret: bytes) -> bool:
    """Return whether the `ERASURE_KEY` record fits this secret, or a version that had none."""
    known = (erasure_fingerprint(secret), _former_fingerprint(secret), _former_fingerprint(b""))
    return held is None or held in known


def rekeyed(states: Mapping[bytes, bytes], secret: bytes) -> dict[bytes, bytes | None]:
    """Return the changes that bring a partition's fingerprints to this version; {} for none.

    Fingerprints without a secret get one. Those with a secret are still found by `former_key`.
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
    """Return the key of the list of poison records of a "topic/partition" in the changelog."""
    return _OTHER + b"strikes/" + origin.encode()


def is_customer(key: bytes) -> bool:
    """Return whether a key of the table is a customer's."""
    return not key.startswith(_OTHER)


def is_forgotten(key: bytes) -> bool:
    """Return whether a key of the table is an erased customer's fingerprint."""
    return key.startswith((_FORGOTTEN, _FORMER))


def customers(states: Mapping[bytes, bytes]) -> Iterator[tuple[bytes, CustomerRecord]]:
    """Yield the customers of a table with their records, without merged customers."""
    for key, data in states.items():
        if is_customer(key) and not (record := decode_record(data, key)).into:
            yield key, record
