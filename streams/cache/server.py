"""What a Redis server tells of itself: whether it evicts keys, and whether it has."""

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

log = structlog.get_logger(__name__)

RIGHT_POLICY = "noeviction"


class ServerFacts(NamedTuple):
    """The eviction policy, how many keys were evicted since the server's start, and which start.

    policy: None where it is not told.
    """

    policy: str | None
    evicted: int
    run_id: str

    @property
    def stamp(self) -> str:
        """What to compare later: it is the same as long as nothing is evicted."""
        return f"{self.run_id}:{self.evicted}"

    def evicted_since(self, stamp: str | None) -> bool:
        """Say whether keys were evicted since a stamp; None: since nobody knows when.

        After a restart the server counts from 0 again.
        """
        return self.evicted > 0 and stamp != self.stamp


async def server_facts(redis: Redis) -> ServerFacts:
    """Ask the server; a managed one, or a user's rights, may leave things out."""
    told: dict[str, Any] = {}
    for section in ("server", "memory", "stats"):
        try:
            told |= await redis.info(section)
        except NoPermissionError:
            break
    return facts_of(told)


def facts_of(told: Mapping[str, Any]) -> ServerFacts:
    """Return the facts of what INFO told."""
    policy = told.get("maxmemory_policy")
    return ServerFacts(
        None if policy is None else str(policy),
        int(told.get("evicted_keys", 0)),
        str(told.get("run_id", "")),
    )


def policy_problem(policy: str | None) -> str | None:
    """Return what is wrong with an eviction policy, and what to do; None for the right one."""
    if policy in (None, RIGHT_POLICY):
        return None
    # Only the notes of removals have a time to live.
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


def owned_text(owner: str, cache: ScoreCache) -> str:
    """Say whose the keys are, and what to do."""
    return (
        f"its keys {cache.prefix}:… are written by the service with CLV_APP_ID {owner!r}, not "
        f"{cache.app_id!r}: two would write each other's customers over. Set another "
        f"CLV_REDIS_PREFIX, or correct CLV_APP_ID; if {owner!r} was given up on purpose, run "
        f"`clv claims release {owner}`"
    )


async def check_server(cache: ScoreCache, url: str) -> None:
    """Make the cache ours, unless Redis is away.

    Raises
    ------
    RedisUnusable
        when Redis does not let us in, evicts keys, or has a cache of another service there.
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
        # The scripts look whose it is, too, and the writer at the policy.
        if is_outage(error):
            return
        raise
    if owner != cache.app_id:
        raise RedisUnusable(f"{shown_url(url)} cannot be used: {owned_text(owner, cache)}")
