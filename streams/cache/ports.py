"""The protocol of the scores that a cache writer uses: `ScoreCache`, or a simulated cache."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from typing import NamedTuple, Protocol

from redis.exceptions import RedisError

from streams.cache.arguments import Call, Written
from streams.cache.repair import Repaired
from streams.cache.server import ServerFacts


class Standing(NamedTuple):
    """A partition's mark, empty for none, and since when it can be trusted (see age.py).

    Without a mark: since when all customers in this Redis are from the log. None: unknown.
    """

    mark: str
    since: int | None


class Scores(Protocol):
    """The scores under one prefix; every method raises RedisError while they cannot be reached."""

    @property
    def app_id(self) -> str:
        """The service that owns the scores; empty: no check."""

    @property
    def prefix(self) -> str:
        """The prefix of all keys."""

    async def write(self, calls: Sequence[Call]) -> list[Written | RedisError]:
        """Make the calls in order; return the result of each."""

    async def marks(self, partitions: Sequence[int]) -> list[str]:
        """Return the mark of each partition; empty: none."""

    async def standing(self, partition: int, now: int) -> Standing:
        """Return a partition's standing; now: milliseconds since 1970."""

    async def finish(self, partition: int, own: tuple[str, str], end: int, since: int) -> bool:
        """Set the mark of a partition that was read whole; return whether Redis was unchanged."""

    async def own(self) -> str:
        """Make this service the owner if there is none; return the owner."""

    async def facts(self) -> ServerFacts:
        """Return the server's facts about eviction."""

    async def check_whole(self, facts: ServerFacts) -> bool:
        """Return whether nothing was evicted."""

    async def repair(self, facts: ServerFacts) -> Repaired:
        """Recount everything after an eviction."""

    def scan_customers(self) -> AsyncIterator[list[str]]:
        """Yield all customers, in parts and in no order."""
