"""What all customers together brought and are expected to bring, and their cohorts.

They are summed over the records of the changelog, a partition after the other, when somebody asks
and the last result is old.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from time import monotonic
from typing import Final, NamedTuple

import structlog

from models.aggregate.record import CustomerRecord, customers
from models.aggregate.summary import Summary
from models.cohorts import Cohort, Cohorts
from models.context import Interpretation
from models.errors import ClvError
from streams.kafka.connection import Broker
from streams.kafka.errors import KafkaError
from streams.kafka.partitions import Bounds, TopicPartition, home_partition, partitions_of
from streams.kafka.reading import log_bounds, log_client, read_logs
from streams.serving.following import Following
from streams.settings import Settings
from streams.topics import changelog_topic

log = structlog.get_logger(__name__)

LEAST_AGE: Final = 15.0
"""Seconds for which a result is good enough."""

SHARE: Final = 0.05
"""Of the time is spent on surveys at most: one that took 6 s is good for 2 minutes."""

_AT_ONCE: Final = 100
"""Customers that are summed before the API gets its turn: some milliseconds."""


class Survey(NamedTuple):
    """Sums over all customers; money in the reporting currency. at: when they were made.

    as_of: the latest as-of time of a customer, in milliseconds since 1970.
    """

    at: datetime
    as_of: int
    customers: int
    realised: float
    expected: float
    acquisition_cost: float
    cohorts: list[Cohort]


class Surveys:
    """Makes surveys. latest: None before the first one. why: what hindered the last one."""

    def __init__(self, broker: Broker, settings: Settings, following: Following) -> None:
        self.latest: Survey | None = None
        self.why = ""
        self._broker = broker
        self._settings = settings
        self._following = following
        self._good_until = 0.0
        self._making: asyncio.Task[None] | None = None

    async def get(self, seconds: float) -> Survey | None:
        """Return the latest survey; wait so long at most for one that is fresh."""
        if self._making is None and monotonic() >= self._good_until:
            self._making = asyncio.create_task(self._make(), name="survey")
        if self._making is not None:
            await asyncio.wait([self._making], timeout=seconds)
        return self.latest

    async def close(self) -> None:
        """End what is being made."""
        if self._making is not None:
            self._making.cancel()
            await asyncio.gather(self._making, return_exceptions=True)

    async def _make(self) -> None:
        began = monotonic()
        try:
            self.latest = await self._survey()
            self.why = ""
        except (KafkaError, OSError, ClvError) as error:
            self.why = type(error).__name__
            log.warning("the customers could not be summed", error=repr(error))
        finally:
            took = monotonic() - began
            self._good_until = monotonic() + max(LEAST_AGE, took / SHARE)
            self._making = None

    async def _survey(self) -> Survey:
        by = await self._following.interpretation(seconds=10.0)
        changelog = changelog_topic(self._settings)
        async with log_client(self._broker) as client:
            count = await client.partitions(changelog)
        sums = _Sums(by)
        for tp, bounds in (
            await log_bounds(self._broker, partitions_of({changelog: count}))
        ).items():
            await sums.add(await self._states(tp, bounds, count))
        return sums.survey()

    async def _states(self, tp: TopicPartition, bounds: Bounds, count: int) -> dict[bytes, bytes]:
        states: dict[bytes, bytes] = {}
        async for _, records in read_logs(self._broker, {tp: bounds}):
            for record in records:
                # Others were left behind when partitions were added.
                if record.key is not None and home_partition(record.key, count) == tp.partition:
                    if record.value is None:
                        states.pop(record.key, None)
                    else:
                        states[record.key] = record.value
            await asyncio.sleep(0)
        return states


class _Sums:
    def __init__(self, by: Interpretation) -> None:
        self._by = by
        self._cohorts = Cohorts(by.economics)
        self._as_of = 0

    async def add(self, states: Mapping[bytes, bytes]) -> None:
        for number, (_, record) in enumerate(customers(states), 1):
            self._add(record)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)

    def _add(self, record: CustomerRecord) -> None:
        summary = Summary(record.aggregate, self._by.economics)
        clv = record.clv
        if clv is None or record.backfill:
            # What is stored is from before the backfill; what was published is not.
            rows = self._by.rows()
            rows.add(record.aggregate, summary, record.as_of)
            (clv,) = rows.scores().clv
        self._cohorts.add(record.aggregate, summary, clv)
        self._as_of = max(self._as_of, record.as_of)

    def survey(self) -> Survey:
        cohorts = self._cohorts.cohorts(self._by.economics.day(self._as_of))
        return Survey(
            datetime.now(UTC),
            self._as_of,
            sum(each.customers for each in cohorts),
            sum(each.realised for each in cohorts),
            sum(each.expected for each in cohorts),
            sum(each.acquisition_cost for each in cohorts),
            cohorts,
        )
