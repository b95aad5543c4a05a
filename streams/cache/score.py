"""What the cache holds of a customer, and what it tells of a segment."""

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

    `position` is the record's offset in the customer's partition of the updates; `clv` is in units
    of the reporting currency and may be negative; `segments` are pairs of dimension and segment;
    `update` is the published value update, a JSON document.
    """

    customer_id: str
    position: int
    clv: float
    segments: Segments
    update: bytes


class Removal(NamedTuple):
    """That a customer was forgotten; what was published before this record is not to come back."""

    customer_id: str
    position: int


Item = CachedScore | Removal


def supersedes(item: Item, other: Item) -> bool:
    """Say whether an item was published after another of the same customer."""
    return item.position > other.position


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

    What is beyond the ranking's exact numbers stands at its end; the update has the value.
    """
    clv = min(max(clv, -MAX_CLV), MAX_CLV)
    return CachedScore(customer_id, position, clv, segments, update)


def score_of_document(position: int, update: bytes) -> CachedScore:
    """Return the score to cache of a value update as it was published at an offset.

    Errors: ValueError for bytes that are no value update.
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
    """Return what put.lua reads of a kind: its JSON, the number of dimensions, and the pairs.

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


def uncacheable(score: CachedScore) -> ValueError:
    """Return the error for a score that Redis' Lua could not compare or add exactly."""
    return ValueError(
        f"customer {score.customer_id!r}: the cache takes positions from 0 to 2**53-1 and values "
        f"within ±{MAX_CLV:g}, got position {score.position} and clv {score.clv}"
    )
