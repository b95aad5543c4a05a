"""Connect to Redis, and tell outages from other errors."""

import ssl
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from redis.asyncio import Redis
from redis.asyncio.connection import parse_url
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

from models.errors import ClvError
from streams.addresses import shown_url
from streams.kafka.connection import SecurityUnusable, login_password, tls_context
from streams.settings import RedisSecurity

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
# missing, a clear or a repair of this cache is running.
_OUTAGE_REPLIES = ("BUSY ", "MISCONF ", "NOREPLICAS ", "CLEARING ", "REPAIRING ")

OPEN = RedisSecurity()
"""No login but the URL's, and the system's certificates."""


class RedisUnusable(ClvError):
    """Redis cannot be used; the text says why, in one line."""


def connect(url: str, security: RedisSecurity = OPEN, *, timeout_seconds: float = 5.0) -> Redis:
    """Return a client that fails fast: one immediate retry, which a stale connection needs.

    The CacheWriter retries after longer waits, in the background of the stream. The login of
    `security` is used if the URL has none; rediss:// means TLS. Errors:
    ValueError for a URL that is none, SecurityUnusable for certificates, or a file of a
    password, that cannot be used.
    """
    try:
        given = {**urlsplit(url)._asdict(), **parse_url(url)}
    except ValueError:
        # What the parser says could quote a part of a password.
        raise ValueError(
            f"{shown_url(url)} is no Redis URL: write redis://host:port/0, or rediss:// for TLS, "
            "and special characters of a password as %40 and so on"
        ) from None
    options = {**_login(given, security), **_tls(given["scheme"], security)}
    return Redis.from_url(
        url,
        socket_timeout=timeout_seconds,
        socket_connect_timeout=timeout_seconds,
        retry=Retry(NoBackoff(), 1),
        **options,
    )


def _login(given: Mapping[str, Any], security: RedisSecurity) -> dict[str, Any]:
    if given.get("username") or given.get("password"):
        return {}
    password = login_password("redis_security", security)
    return {} if password is None else {"username": security.username, "password": password}


def _tls(scheme: str, security: RedisSecurity) -> dict[str, Any]:
    files = (security.ca_file, security.certificate_file, security.key_file)
    if scheme != "rediss":
        if any(files):
            raise SecurityUnusable(
                "redis_security names certificates, but CLV_REDIS asks for no TLS: write rediss://"
            )
        return {}
    tls_context("redis_security", *files)
    ca_file, certificate_file, key_file = (None if file is None else str(file) for file in files)
    return {
        "ssl_ca_certs": ca_file,
        "ssl_certfile": certificate_file,
        "ssl_keyfile": key_file,
        "ssl_min_version": ssl.TLSVersion.TLSv1_2,
    }


def is_about_certificates(error: BaseException | None) -> bool:
    """Return whether a certificate is the cause of an error."""
    while error is not None and not isinstance(error, ssl.SSLError):
        error = error.__cause__ or error.__context__
    return error is not None


def is_outage(error: RedisError) -> bool:
    """Return whether an error is an outage, which passes; others are mistakes in set-up."""
    if isinstance(error, _REFUSED_LOGIN):
        return False
    return isinstance(error, _OUTAGES) or str(error).startswith(_OUTAGE_REPLIES)
