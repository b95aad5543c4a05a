"""Current scores in Redis: the newest of every customer, a ranking, and exact segment totals."""

from streams.cache.cache import ScoreCache
from streams.cache.connection import connect, is_outage
from streams.cache.score import MAX_CLV, CachedScore, RankedCustomer, SegmentTotals
from streams.cache.writer import CacheWriter

__all__ = [
    "MAX_CLV",
    "CacheWriter",
    "CachedScore",
    "RankedCustomer",
    "ScoreCache",
    "SegmentTotals",
    "connect",
    "is_outage",
]
