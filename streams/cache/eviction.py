"""Notice that Redis evicts keys, and repair the cache once it does no longer."""

from __future__ import annotations

from typing import TYPE_CHECKING

import structlog

from streams.cache.connection import RedisUnusable
from streams.cache.repair import Repairing
from streams.cache.server import ServerFacts, owned_text, policy_problem

if TYPE_CHECKING:
    from streams.cache.ports import Scores

log = structlog.get_logger(__name__)


class EvictionWatch:
    """Checks a cache's server for evictions, when `look` is called.

    problem: why the cache may be wrong, and what to do; None if it is right.
    """

    def __init__(self, cache: Scores) -> None:
        self._cache = cache
        self.problem: str | None = None

    async def look(self) -> None:
        """Ask the server; repair the cache if keys were evicted and its policy is right now.

        A repair removes the marks, so that the catch-up reads everything again and removes
        customers the log no longer has. Errors: RedisError; RedisUnusable if another service has
        taken the cache, after it was emptied or replaced.
        """
        if self._cache.app_id and (owner := await self._cache.own()) != self._cache.app_id:
            self.problem = owned_text(owner, self._cache)
            raise RedisUnusable(f"Redis cannot be used any more: {self.problem}")
        facts = await self._cache.facts()
        policy = policy_problem(facts.policy)
        whole = await self._cache.check_whole(facts)
        if policy is None and whole:
            self._tell(None, facts)
            return
        self._tell(policy or "it has evicted keys; what is cached is being repaired", facts, whole)
        if policy is None:
            await self._repair(facts)

    async def _repair(self, facts: ServerFacts) -> None:
        try:
            done = await self._cache.repair(facts)
        except Repairing as error:
            # Tried again at the next look: the other repair may have ended, or died.
            log.info("cache_repair_waits", error=str(error))
            return
        log.warning("cache_repaired", customers=done.customers, deleted=done.broken)
        self._tell(None, facts)

    def _tell(self, problem: str | None, facts: ServerFacts, whole: bool = True) -> None:
        if problem is not None:
            lost = "" if whole else f" ({facts.evicted:,} keys evicted since its start)"
            problem = f"what Redis holds may be wrong{lost}: {problem}"
        changed = (problem is None) != (self.problem is None)
        self.problem = problem
        if changed and problem is not None:
            log.error("cache_evicts", error=problem, policy=facts.policy, evicted=facts.evicted)
        elif changed:
            log.info("cache_whole", policy=facts.policy)
