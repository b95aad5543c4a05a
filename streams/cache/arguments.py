"""The arguments of one call of the script: customers of one partition, and the mark to move."""

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
)
from streams.cache.scripts import Argument

_pack = msgspec.msgpack.Encoder().encode


class MarkMove(NamedTuple):
    """The move of a mark, which is not made unless Redis holds the mark `held`.

    An empty mark is none. partition: or the name of a refill's own mark. time: since when the mark
    can be trusted (see age.py), in milliseconds; None leaves the stored time.
    """

    partition: int | str
    held: str
    next: str
    time: int | None = None


class Call(NamedTuple):
    """Customers to write or remove atomically, each of them once, and a mark to move.

    An empty call finds out whether Redis takes writes. correct: a held score of the same position
    is overwritten if it differs.
    """

    scores: Sequence[CachedScore] = ()
    removals: Sequence[Removal] = ()
    mark: MarkMove | None = None
    correct: bool = False


class Written(NamedTuple):
    """The result of a call: customers written, customers removed, and the mark now in Redis."""

    scores: int
    removals: int
    mark: str


def note_of(customer_id: str, secret: bytes) -> str:
    """Return the name under which Redis notes that a customer was removed: 32 hex digits."""
    return fingerprint(customer_id.encode(), secret, CACHE_NOTE).hex()


def call_arguments(prefix: str, call: Call, owner: str = "", secret: bytes = b"") -> list[Argument]:
    """Return the script's arguments, in the order of account.lua and the files after it.

    owner: the service that writes; empty to skip the check of the cache's owner. secret: the
    erasure key, which keys the notes of removed customers.
    Errors: ValueError for a score that cannot be compared or added exactly.
    """
    partition, held, following, time = call.mark or ("", "", "", None)
    kinds: dict[Segments, int] = {}
    customers: list[str | int] = []
    for score in call.scores:
        customer_id, position, clv, segments, update = score
        if not (0 <= position <= MAX_POSITION and -MAX_CLV <= clv <= MAX_CLV):
            raise ValueError(
                f"customer {customer_id!r}: the cache takes positions from 0 to 2**53-1 and values "
                f"within ±{MAX_CLV:g}, got position {position} and clv {clv}"
            )
        kind = kinds.setdefault(segments, len(kinds) + 1)
        note = note_of(customer_id, secret)
        customers += (customer_id, str(position), repr(float(clv)), kind, update.decode(), note)
    arguments: list[Argument] = [
        prefix, partition, held, following, "" if time is None else time,
        _removals(call.removals, secret), int(call.correct), len(kinds),
    ]  # fmt: skip
    for segments in kinds:
        arguments += segment_arguments(segments)
    # One argument for all customers: packing six each would cost more than everything else.
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
