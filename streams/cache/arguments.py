"""What one call of the script is given: customers of one partition, and the mark they move."""

from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from models.fingerprints import CACHE_NOTE, fingerprint
from streams.cache.score import (
    MAX_CLV,
    MAX_POSITION,
    CachedScore,
    Removal,
    Segments,
    segment_arguments,
    uncacheable,
)
from streams.cache.scripts import Argument

_pack = msgspec.msgpack.Encoder().encode


class MarkMove(NamedTuple):
    """A mark and what becomes of it; nothing does if Redis holds another than `held`.

    An empty mark is none. partition: or the name of the mark that a reading has of its own. time:
    that the mark can be trusted since then (see age.py), in milliseconds; None leaves what is
    stored.
    """

    partition: int | str
    held: str
    next: str
    time: int | None = None


class Call(NamedTuple):
    """Customers that are written or removed all at once, each of them once; and a mark to move.

    Without any of it the call finds out whether Redis takes writes. correct: a score that is held
    from the same position, and differs, is written too.
    """

    scores: Sequence[CachedScore] = ()
    removals: Sequence[Removal] = ()
    mark: MarkMove | None = None
    correct: bool = False


class Written(NamedTuple):
    """What came of a call: customers written, customers removed, and the mark now in Redis."""

    scores: int
    removals: int
    mark: str


def note_of(customer_id: str, secret: bytes) -> str:
    """Return the name under which Redis notes that a customer was removed: 32 hex digits."""
    return fingerprint(customer_id.encode(), secret, CACHE_NOTE).hex()


def call_arguments(prefix: str, call: Call, owner: str = "", secret: bytes = b"") -> list[Argument]:
    """Return what the script reads, as account.lua and its followers have it.

    owner: the service that writes; empty not to look whose the cache is. secret: the erasure key,
    so that the notes of removed customers tell nobody who they were.
    Errors: ValueError for a score that cannot be compared or added exactly.
    """
    partition, held, following, time = call.mark or ("", "", "", None)
    kinds: dict[Segments, int] = {}
    customers: list[str | int] = []
    for score in call.scores:
        customer_id, position, clv, segments, update = score
        if not (0 <= position <= MAX_POSITION and -MAX_CLV <= clv <= MAX_CLV):
            raise uncacheable(score)
        kind = kinds.setdefault(segments, len(kinds) + 1)
        note = note_of(customer_id, secret)
        customers += (customer_id, str(position), repr(float(clv)), kind, update.decode(), note)
    arguments: list[Argument] = [
        prefix, partition, held, following, "" if time is None else time,
        _removals(call.removals, secret), int(call.correct), len(kinds),
    ]  # fmt: skip
    for segments in kinds:
        arguments += segment_arguments(segments)
    # One argument for all customers: to pack six each costs the client more than all the rest.
    arguments += (_pack(customers), owner)
    return arguments


def _removals(removals: Sequence[Removal], secret: bytes) -> bytes:
    for customer_id, position in removals:
        if not 0 <= position <= MAX_POSITION:
            raise ValueError(
                f"customer {customer_id!r}: the cache takes positions from 0 to 2**53-1, got "
                f"{position} to remove"
            )
    flat = [
        part
        for customer_id, position in removals
        for part in (customer_id, str(position), note_of(customer_id, secret))
    ]
    return _pack(flat) if flat else b""
