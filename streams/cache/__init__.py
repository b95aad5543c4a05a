"""Current scores in Redis: the latest of every customer, a ranking, and exact segment totals."""

from streams.cache.cache import ScoreCache
from streams.cache.connection import RedisUnusable, connect
from streams.cache.rebuild import Rebuilt, rebuild
from streams.cache.refill import Replaced
from streams.cache.score import CachedScore, SegmentTotals
from streams.cache.server import check_server
from streams.cache.updates import KafkaUpdates, UpdatesUnavailable

__all__ = [
    "CachedScore",
    "KafkaUpdates",
    "Rebuilt",
    "RedisUnusable",
    "Replaced",
    "ScoreCache",
    "SegmentTotals",
    "UpdatesUnavailable",
    "check_server",
    "connect",
    "rebuild",
]
