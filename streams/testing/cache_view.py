"""What a test sees of the cache."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from streams.cache import CachedScore, RankedCustomer, ScoreCache, SegmentTotals
from streams.testing.cache import MemoryScoreCache


class CacheView:
    """What the cache holds once the service has settled."""

    def __init__(
        self,
        cache: MemoryScoreCache | ScoreCache,
        settled: Callable[[], Awaitable[None]],
        asked: Callable[[str], None],
    ) -> None:
        self._cache = cache
        self._settled = settled
        self._asked = asked

    async def get(self, customer: str) -> CachedScore | None:
        """A customer's score; None when there is none."""
        self._asked(customer)
        await self._settled()
        return await self._cache.get(customer)

    async def top(self, n: int) -> list[RankedCustomer]:
        """The `n` customers of the highest value, highest first."""
        await self._settled()
        return await self._cache.top(n)

    async def members(self, dimension: str, segment: str) -> list[str]:
        """The customers of a segment, highest value first."""
        await self._settled()
        size = await self._cache.size()
        return [each.customer_id for each in await self._cache.members(dimension, segment, 0, size)]

    async def totals(self, dimension: str) -> dict[str, SegmentTotals]:
        """The totals of every segment of a dimension that has customers."""
        await self._settled()
        return await self._cache.totals(dimension)

    async def size(self) -> int:
        """How many customers there are."""
        await self._settled()
        return await self._cache.size()


class MemoryCacheView(CacheView):
    """The same of the simulated cache, with its faults."""

    def __init__(
        self,
        cache: MemoryScoreCache,
        settled: Callable[[], Awaitable[None]],
        asked: Callable[[str], None],
    ) -> None:
        super().__init__(cache, settled, asked)
        self._memory = cache

    def fail(self) -> None:
        """Have the cache be away; the stream goes on without it."""
        self._memory.out = True

    def recover(self) -> None:
        """Have it be back; what it missed is written, which takes some tenths of a second."""
        self._memory.out = False

    def forget(self) -> None:
        """Have it lose everything, as a Redis without persistence that was started again."""
        self._memory.forget()
