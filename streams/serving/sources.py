"""Where the API and the pages read from: Redis, and Kafka in the background."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Self

from redis.exceptions import RedisError

from streams.cache import ScoreCache
from streams.kafka.connection import Broker
from streams.serving.beside import Beside, Kept, KeptAhead
from streams.serving.following import Following
from streams.serving.outages import Outage
from streams.serving.own_changes import OwnChanges
from streams.serving.retrying import Retries
from streams.serving.scores import Scores
from streams.serving.stored import StoredRecords
from streams.serving.summing import Survey
from streams.serving.tokens import Access
from streams.settings import Settings
from streams.topics import changelog_topic


@dataclass(frozen=True)
class Sources:
    """Everything that is read."""

    cache: ScoreCache
    scores: Scores
    broker: Broker
    settings: Settings
    redis: Outage
    following: Following
    stored: StoredRecords
    own_changes: OwnChanges
    beside: Beside
    surveys: Kept[Survey]
    ahead: KeptAhead
    retries: Retries
    access: Access

    @classmethod
    def of(cls, cache: ScoreCache, broker: Broker, settings: Settings) -> Self:
        """Return the sources of a service; nothing is read yet."""
        stored = StoredRecords(broker, changelog_topic(settings), settings.topics.updates)
        own_changes = OwnChanges(broker, settings.topics.segment_changes)
        beside = Beside(settings)
        ahead = KeptAhead(beside)

        def forget(customer_id: str) -> None:
            stored.forget(customer_id)
            own_changes.forget(customer_id)
            ahead.forget(customer_id)

        following = Following(broker, settings, forget, ahead.told, ahead.outdate)
        return cls(
            cache,
            Scores(cache),
            broker,
            settings,
            Outage("Redis"),
            following,
            stored,
            own_changes,
            beside,
            Kept(beside, "sums", Survey),
            ahead,
            Retries(broker, settings, following.looks),
            Access(settings.serve),
        )

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """Read in the background while in the context."""
        try:
            async with self.following.running():
                yield
        finally:
            await self.surveys.close()
            await self.ahead.close()
            await self.beside.close()

    async def size(self) -> int:
        """Return how many customers there are, and note whether Redis answers.

        Errors: RedisError.
        """
        try:
            size = await self.scores.size()
        except RedisError as error:
            self.redis.failed(error)
            raise
        self.redis.well()
        return size
