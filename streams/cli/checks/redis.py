"""Redis: does it answer, can it be used, and is what it holds whole?"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from streams.addresses import shown_url
from streams.cache import ScoreCache, connect
from streams.cache.keys import CacheKeys
from streams.cache.server import owned_text, policy_problem
from streams.cli.checks.check import Check
from streams.cli.worker import describe
from streams.kafka.connection import SecurityUnusable
from streams.settings import Settings

SECONDS = 10.0
"""How long Redis may take for all answers."""

OLDEST = (6, 2)

FULL = 0.8
"""Share of maxmemory from which it is time to act."""


async def redis(settings: Settings) -> list[Check]:
    """Check Redis and the cache in it."""
    if settings.redis is None:
        advice = "set CLV_REDIS=redis://host:port/0; `clv demo` needs none"
        return [Check("Redis", "warn", "none is configured", advice)]
    shown = shown_url(settings.redis)
    try:
        client = connect(settings.redis, settings.redis_security)
    except (ValueError, SecurityUnusable) as error:
        return [Check("Redis", "fail", f"CLV_REDIS: {error}", "correct it")]
    try:
        async with asyncio.timeout(SECONDS):
            return await _answers(client, settings, shown)
    except (RedisError, TimeoutError, OSError) as error:
        found = f"{shown} does not answer: {describe(error)}"
        return [Check("Redis", "fail", found, "start it, or correct CLV_REDIS")]
    finally:
        await client.aclose()


async def _answers(client: Redis, settings: Settings, shown: str) -> list[Check]:
    cache = ScoreCache(client, settings.redis_prefix, settings.app_id)
    cached = await cache.size()
    server: dict[str, Any] = await client.info("server")
    memory: dict[str, Any] = await client.info("memory")
    clearing = CacheKeys(settings.redis_prefix).clearing
    left_behind = bool(await client.exists(clearing))
    checks = [
        Check("Redis", "ok", f"{shown} answers; {cached} customers are cached"),
        version_check(str(server.get("redis_version", "unknown"))),
        *memory_checks(memory),
        await eviction_check(cache),
        owner_check(cache, await cache.owner()),
    ]
    if left_behind:
        advice = (
            "wait if a clear is under way; if it was interrupted, run it again: until it ends "
            "nothing is written"
        )
        checks.append(Check("Redis cache", "fail", f"{clearing} is set", advice))
    return checks


async def eviction_check(cache: ScoreCache) -> Check:
    """Judge whether keys are evicted, or were, as a worker does."""
    name = "Redis eviction"
    facts = await cache.facts()
    if facts.policy is None:
        advice = "see yourself that maxmemory-policy is noeviction, and let this user call INFO"
        return Check(name, "warn", "Redis does not tell its maxmemory-policy", advice)
    if problem := policy_problem(facts.policy):
        return Check(
            name, "fail", f"maxmemory-policy is {facts.policy}", f"workers refuse it: {problem}"
        )
    if facts.evicted_since(await cache.whole_stamp()):
        advice = (
            "start a worker, or run `clv rebuild-cache`: customers may be missing, and totals wrong"
        )
        found = f"{facts.evicted:,} keys were evicted since the cache was whole, or it never was"
        return Check(name, "warn", found, advice)
    return Check(name, "ok", f"maxmemory-policy is {facts.policy}, nothing was evicted")


def owner_check(cache: ScoreCache, owner: str | None) -> Check:
    """Judge whose the keys are."""
    name = "Redis owner"
    if owner is None:
        return Check(name, "ok", f"keys {cache.prefix}:… are nobody's yet")
    if owner != cache.app_id:
        found = f"keys {cache.prefix}:… are written by {owner!r}, not {cache.app_id!r}"
        return Check(name, "fail", found, f"workers refuse it: {owned_text(owner, cache)}")
    return Check(name, "ok", f"keys {cache.prefix}:… are written by {owner!r}")


def version_check(version: str) -> Check:
    """Judge the version that Redis tells."""
    numbers = tuple(int(part) for part in version.split(".")[:2] if part.isdecimal())
    if numbers < OLDEST:
        needed = ".".join(map(str, OLDEST))
        return Check("Redis version", "fail", version, f"install Redis {needed} or newer")
    return Check("Redis version", "ok", version)


def memory_checks(memory: dict[str, Any]) -> Iterator[Check]:
    """Judge what INFO memory tells."""
    name = "Redis memory"
    used, limit = int(memory.get("used_memory", 0)), int(memory.get("maxmemory", 0))
    if not limit:
        yield Check(name, "ok", f"{used / 1024**2:,.0f} MiB used, no limit")
        return
    found = f"{used / 1024**2:,.0f} of {limit / 1024**2:,.0f} MiB used"
    if used >= limit:
        yield Check(name, "fail", found, "raise maxmemory: writes are refused, the cache is old")
    elif used >= FULL * limit:
        yield Check(name, "warn", found, "raise maxmemory before writes are refused")
    else:
        yield Check(name, "ok", found)
