"""Facts about a Redis server: whether it may evict keys, and whether it has."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import structlog
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from streams.addresses import shown_url
from streams.cache.connection import RedisUnusable, is_outage

if TYPE_CHECKING:
    from streams.cache.cache import ScoreCache
    from streams.cache.ports import Scores

log = structlog.get_logger(__name__)

RIGHT_POLICY = "noeviction"


class ServerFacts(NamedTuple):
    """The eviction policy, the number of keys evicted since the server's start, and the start's id.

    policy: None if the server does not say.
    """

    policy: str | None
    evicted: int
    run_id: str

    @property
    def stamp(self) -> str:
        """A text to compare later: it stays the same as long as nothing is evicted."""
        return f"{self.run_id}:{self.evicted}"

    def evicted_since(self, stamp: str | None) -> bool:
        """Return whether keys were evicted since a stamp; None: since an unknown time.

        After a restart the server counts from 0 again.
        """
        return self.evicted > 0 and stamp != self.stamp


async def server_facts(redis: Redis) -> ServerFacts:
    """Ask the server; managed servers and users with few rights leave some facts out."""
    info: dict[str, Any] = {}
    for section in ("server", "memory", "stats"):
        try:
            info |= await redis.info(section)
        except NoPermissionError:
            break
    return facts_of(info)


def facts_of(info: Mapping[str, Any]) -> ServerFacts:
    """Return the facts from the reply to INFO."""
    policy = info.get("maxmemory_policy")
    return ServerFacts(
        None if policy is None else str(policy),
        int(info.get("evicted_keys", 0)),
        str(info.get("run_id", "")),
    )


def policy_problem(policy: str | None) -> str | None:
    """Return what is wrong with an eviction policy, and what to do; None for the right one."""
    if policy in (None, RIGHT_POLICY):
        return None
    # Only the notes of removals have a TTL.
    lost = (
        "the notes that keep erased customers out"
        if str(policy).startswith("volatile-")
        else "customers, and their segments and totals with them"
    )
    return (
        f"its maxmemory-policy is {policy}: when memory is short it would lose {lost}. Set "
        f"maxmemory-policy {RIGHT_POLICY} (redis-cli CONFIG SET maxmemory-policy {RIGHT_POLICY}, "
        "and redis.conf; or the parameters of a managed Redis), or use another Redis"
    )


def owned_text(owner: str, cache: Scores) -> str:
    """Return a text that says who owns the keys, and what to do."""
    return (
        f"its keys {cache.prefix}:… are written by the service with CLV_APP_ID {owner!r}, not "
        f"{cache.app_id!r}: two would write each other's customers over. Set another "
        f"CLV_REDIS_PREFIX, or correct CLV_APP_ID; if {owner!r} was given up on purpose, run "
        f"`clv claims release {owner}`"
    )


async def check_server(cache: ScoreCache, url: str) -> None:
    """Make this service the owner of the cache, unless Redis is away.

    Raises RedisUnusable if Redis refuses the login, evicts keys, or another service owns the cache.
    """
    await cache.check_login(url)
    try:
        facts = await cache.facts()
        if facts.policy is None:
            log.warning(
                "cache_policy_unknown",
                redis=shown_url(url),
                do="see yourself that its maxmemory-policy is noeviction, and let this user call "
                "INFO",
            )
        if problem := policy_problem(facts.policy):
            raise RedisUnusable(f"{shown_url(url)} cannot be used: {problem}")
        owner = await cache.own()
    except RedisError as error:
        # Later, the scripts check the owner too, and the writer checks the policy.
        if is_outage(error):
            return
        raise
    if owner != cache.app_id:
        raise RedisUnusable(f"{shown_url(url)} cannot be used: {owned_text(owner, cache)}")
