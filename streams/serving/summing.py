"""Sums over all customers: what they brought and are expected to bring, and their cohorts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple

from models.aggregate.record import CustomerRecord, customers
from models.aggregate.summary import Summary
from models.cohorts import Cohort, Cohorts
from models.context import Interpretation
from streams.serving.changelog import interpretation, partitions
from streams.settings import Settings


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


async def summed(settings: Settings) -> Survey:
    """Return the sums over the records of the changelog. Errors: KafkaError, OSError, ClvError."""
    sums = Sums(await interpretation(settings))
    async for states in partitions(settings):
        sums.add(states)
    return sums.survey()


class Sums:
    """Adds customers up."""

    def __init__(self, by: Interpretation) -> None:
        self._by = by
        self._cohorts = Cohorts(by.economics)
        self._as_of = 0

    def add(self, states: Mapping[bytes, bytes]) -> None:
        """Add the customers of a partition, by key."""
        for _, record in customers(states):
            self._add(record)

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
        """Return the sums."""
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
