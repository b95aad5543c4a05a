"""Current scores in Redis: the newest of every customer, a ranking, and exact segment totals."""

from streams.cache.cache import ScoreCache
from streams.cache.catch_up import KafkaUpdates
from streams.cache.connection import RedisUnusable, connect, is_outage
from streams.cache.rebuild import Rebuilt, rebuild
from streams.cache.refill import Replaced
from streams.cache.repair import Repairing
from streams.cache.replay import AnotherLog
from streams.cache.score import (
    MAX_CLV,
    CachedScore,
    RankedCustomer,
    Removal,
    SegmentTotals,
    published_score,
)
from streams.cache.server import check_server
from streams.cache.updates import UpdatesUnavailable
from streams.cache.writer import CacheWriter

__all__ = [
    "MAX_CLV",
    "AnotherLog",
    "CacheWriter",
    "CachedScore",
    "KafkaUpdates",
    "RankedCustomer",
    "Rebuilt",
    "RedisUnusable",
    "Removal",
    "Repairing",
    "Replaced",
    "ScoreCache",
    "SegmentTotals",
    "UpdatesUnavailable",
    "check_server",
    "connect",
    "is_outage",
    "published_score",
    "rebuild",
]
