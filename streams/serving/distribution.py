"""How many customers are worth how much."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

from streams.cache import ScoreCache

BINS = 12


class Bin(NamedTuple):
    """Customers worth at least `least` and less than `most`; None: without that bound."""

    least: float | None
    most: float | None
    customers: int


async def distribution(cache: ScoreCache) -> list[Bin]:
    """Return all customers in ranges of round numbers, lowest first. Errors: RedisError."""
    size = await cache.size()
    if size == 0:
        return []
    high, low = await cache.values_at([size // 100, size - 1 - size // 100])
    if high is None or low is None:
        return []
    bounds = edges(low, high)
    below = await cache.counts_below(bounds)
    least: list[float | None] = [None, *bounds]
    most: list[float | None] = [*bounds, None]
    # Meanwhile there may be more customers than were counted at first.
    ends = zip([0, *below], [*below, max(size, below[-1])], strict=True)
    counts = [end - begin for begin, end in ends]
    bins = [Bin(*each) for each in zip(least, most, counts, strict=True)]
    return [each for each in bins if each.customers or None not in (each.least, each.most)]


def edges(low: float, high: float) -> Sequence[float]:
    """Return round numbers, a round step apart, from at most `low` to more than `high`."""
    wanted = max((high - low) / BINS, 0.01)
    power = 10.0 ** math.floor(math.log10(wanted))
    step = next(power * each for each in (1, 2, 5, 10) if power * each >= wanted)
    first, last = math.floor(low / step), math.floor(high / step) + 1
    return [number * step for number in range(first, last + 1)]
