"""Scores that a test writes to a cache, or removes: as a catch-up does, but without a mark."""

from collections.abc import Sequence

from streams.cache.cache import ScoreCache, chunks, newest
from streams.cache.rereading import checked, counts, item_call
from streams.cache.score import CachedScore, Item, Removal


async def put(cache: ScoreCache, scores: Sequence[CachedScore]) -> int:
    """Write scores that are newer than those held; return how many were."""
    return (await _write(cache, scores))[0]


async def remove(cache: ScoreCache, removals: Sequence[Removal]) -> int:
    """Remove customers whose score is older than the removal; return how many were held."""
    return (await _write(cache, removals))[1]


async def _write(cache: ScoreCache, items: Sequence[Item]) -> tuple[int, int]:
    calls = [item_call(part, None) for part in chunks(newest(items))]
    return counts(checked(await cache.write(calls)))
