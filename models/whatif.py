"""What other rules or parameters would change: a sweep whose outputs nobody publishes."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import NamedTuple

import msgspec

from models.aggregate.record import Cause
from models.context import Context
from models.engine import advance

_SWEEP = 500
_NEVER_APPLIED = 2**62
_ORIGIN = "what if/0"


class Move(NamedTuple):
    """A change of segment that would be published; value: of the customer afterwards."""

    customer_id: str
    dimension: str
    previous: str | None
    current: str | None
    value: float
    text: str
    """Why, in a sentence."""


def moves(
    states: Mapping[bytes, bytes], context: Context, *, as_of: int, cause: Cause
) -> Iterator[Move]:
    """Yield the changes of segment that a tick would publish under this context.

    states: encoded records by key. as_of: milliseconds since 1970.
    """
    keys = iter(states)
    while chunk := list(islice(keys, _SWEEP)):
        outputs = advance(states, chunk, _ORIGIN, _NEVER_APPLIED, context, as_of=as_of, cause=cause)
        for _, document in outputs.segment_changes:
            data = msgspec.json.decode(document)["data"]
            yield Move(
                data["customer_id"],
                data["dimension"],
                data["previous"],
                data["current"],
                data["clv_after"],
                data["reason"]["text"],
            )


class Flow(NamedTuple):
    """How many customers would move from a segment to another, and their value together."""

    dimension: str
    previous: str | None
    current: str | None
    customers: int
    value: float


def flows(moved: Iterable[Move]) -> list[Flow]:
    """Return the flows of these moves, by dimension, the largest first."""
    found: dict[tuple[str, str | None, str | None], list[float]] = {}
    for each in moved:
        found.setdefault((each.dimension, each.previous, each.current), []).append(each.value)
    listed = [Flow(*which, len(worth), sum(worth)) for which, worth in found.items()]
    dimensions = {each.dimension: number for number, each in enumerate(reversed(listed))}
    return sorted(listed, key=lambda each: (dimensions[each.dimension], -each.customers))
