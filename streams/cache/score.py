"""The cache's entry of a customer, and its results for rankings and segments."""

import json
from decimal import Decimal
from functools import lru_cache
from typing import NamedTuple

import msgspec

Segments = tuple[tuple[str, str], ...]

# Redis' Lua computes in doubles: whole numbers are exact up to 2**53.
MAX_POSITION = 2**53 - 1
# Ten thousand orders of the largest amount the contracts accept; 10**15 cents.
MAX_CLV = 1e13


class CachedScore(NamedTuple):
    """A customer's current score, as published.

    position: the record's offset in the customer's partition of the updates. clv: in the reporting
    currency; may be negative. segments: pairs of dimension and segment. update: the published value
    update, a JSON document.
    """

    customer_id: str
    position: int
    clv: float
    segments: Segments
    update: bytes


class Removal(NamedTuple):
    """The removal of a customer; scores published before its position are refused."""

    customer_id: str
    position: int


Item = CachedScore | Removal


class RankedCustomer(NamedTuple):
    """A customer's place in a ranking by value; `clv` in units of the reporting currency."""

    customer_id: str
    clv: float


class SegmentTotals(NamedTuple):
    """How many customers a segment has, and the exact sum of their values in cents."""

    customers: int
    value_cents: int

    @property
    def value(self) -> Decimal:
        """The sum in units of the reporting currency."""
        return Decimal(self.value_cents) / 100


class _Data(msgspec.Struct):
    customer_id: str
    clv: float
    segments: dict[str, str]


class _Document(msgspec.Struct):
    data: _Data


_decode = msgspec.json.Decoder(_Document).decode


def published_score(
    customer_id: str, position: int, clv: float, segments: Segments, update: bytes
) -> CachedScore:
    """Return the score to cache of a published update.

    A value beyond the ranking's exact numbers is capped; the update has the full value.
    """
    clv = min(max(clv, -MAX_CLV), MAX_CLV)
    return CachedScore(customer_id, position, clv, segments, update)


def score_of_document(position: int, update: bytes) -> CachedScore:
    """Return the score to cache of a value update published at an offset.

    Errors: ValueError if the bytes are not a value update.
    """
    try:
        data = _decode(update).data
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"not a value update: {error}") from error
    return published_score(
        data.customer_id, position, data.clv, tuple(data.segments.items()), update
    )


@lru_cache(maxsize=4096)
def segment_arguments(segments: Segments) -> tuple[str | int, ...]:
    """Return a kind as put.lua reads it: its JSON, the number of dimensions, and the pairs.

    Errors: ValueError for a dimension that is named twice or would make keys ambiguous.
    """
    by_dimension = dict(segments)
    if len(by_dimension) != len(segments):
        raise ValueError(f"a customer has one segment per dimension, got {segments!r}")
    for dimension in by_dimension:
        if ":" in dimension:
            raise ValueError(f"dimension {dimension!r}: rename it without the colon")
    text = json.dumps(by_dimension, ensure_ascii=False)
    return (text, len(segments), *(name for pair in segments for name in pair))
