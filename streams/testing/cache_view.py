"""What a test sees of the cache."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from streams.cache import CachedScore, ScoreCache, SegmentTotals
from streams.cache.score import RankedCustomer
from streams.simulation.cache import MemoryScoreCache
from streams.testing.usage import Usage, awaited


class CacheView:
    """What the cache holds once the service has settled."""

    def __init__(
        self,
        cache: MemoryScoreCache | ScoreCache,
        settled: Callable[[], Awaitable[None]],
        usage: Usage,
    ) -> None:
        self._cache = cache
        self._settled = settled
        self._usage = usage

    @awaited
    async def get(self, customer: str) -> CachedScore | None:
        """A customer's score; None when there is none."""
        self._usage.touch(customer)
        await self._settled()
        return await self._cache.get(customer)

    @awaited
    async def top(self, n: int) -> list[RankedCustomer]:
        """The `n` customers of the highest value, highest first."""
        await self._settled()
        return await self._cache.top(n)

    @awaited
    async def members(self, dimension: str, segment: str) -> list[str]:
        """The customers of a segment, highest value first."""
        await self._settled()
        size = await self._cache.size()
        return [each.customer_id for each in await self._cache.members(dimension, segment, 0, size)]

    @awaited
    async def totals(self, dimension: str) -> dict[str, SegmentTotals]:
        """The totals of every segment of a dimension that has customers."""
        await self._settled()
        return await self._cache.totals(dimension)

    @awaited
    async def size(self) -> int:
        """How many customers there are."""
        await self._settled()
        return await self._cache.size()


class MemoryCacheView(CacheView):
    """The same of the simulated cache, with its faults."""

    _cache: MemoryScoreCache

    def fail(self) -> None:
        """Have the cache be away; the stream goes on without it."""
        self._cache.out = True

    def recover(self) -> None:
        """Have it be back; what it missed is written, which takes some tenths of a second."""
        self._cache.out = False

    def forget(self) -> None:
        """Have it lose everything, as a Redis without persistence that was started again."""
        self._cache.forget()
