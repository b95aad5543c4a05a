"""How the cache connects to Redis, and which of its errors pass by themselves."""

from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    AuthenticationError,
    AuthorizationError,
    ClusterDownError,
    ConnectionError,  # noqa: A004 - redis-py's own name
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    TimeoutError,  # noqa: A004 - redis-py's own name
    TryAgainError,
)

_OUTAGES = (
    ConnectionError,
    TimeoutError,
    OutOfMemoryError,
    ReadOnlyError,
    ClusterDownError,
    TryAgainError,
)
_REFUSED_LOGIN = (AuthenticationError, AuthorizationError)
# Replies that redis-py has no class for: a script runs too long, the disk is full, replicas are
# missing, a clear of this cache is under way.
_OUTAGE_REPLIES = ("BUSY ", "MISCONF ", "NOREPLICAS ", "CLEARING ")


def connect(url: str, *, timeout_seconds: float = 5.0) -> Redis:
    """Return a client that fails fast: one immediate retry, which a stale connection needs.

    Longer waits are the CacheWriter's business, so that the stream never stands still for them.
    """
    return Redis.from_url(
        url,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 1),
    )


def is_outage(error: RedisError) -> bool:
    """Say whether an error passes by itself; any other is a mistake in program or set-up."""
    if isinstance(error, _REFUSED_LOGIN):
        return False
    return isinstance(error, _OUTAGES) or str(error).startswith(_OUTAGE_REPLIES)
