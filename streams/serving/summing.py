"""Sums over all customers, and the process that makes them.

It takes a second of a processor for some 30,000 customers, in which a server would not answer. So a
process of its own does it: `main` reads a request on its input, answers on its output, and ends
with its input.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import BinaryIO, Final, NamedTuple

from models.aggregate.record import CustomerRecord, customers
from models.aggregate.summary import Summary
from models.cohorts import Cohort, Cohorts
from models.context import Interpretation
from models.errors import ClvError
from streams.kafka.connection import Broker
from streams.kafka.errors import KafkaError, KafkaTimeoutError
from streams.kafka.partitions import Bounds, TopicPartition, home_partition, partitions_of
from streams.kafka.reading import log_client, read_logs
from streams.registry.reading import read_registry
from streams.settings import Settings
from streams.topics import changelog_topic

LENGTH: Final = 8
"""Bytes before each message that say how long it is."""


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
    broker, economics = Broker.of(settings), settings.economics
    registry = await read_registry(broker, settings.topics.models, economics.currency)
    sums = Sums(Interpretation(economics, registry.timeline, registry.rules))
    changelog = changelog_topic(settings)
    async with log_client(broker) as client:
        count = await client.partitions(changelog)
        if not count:
            raise KafkaTimeoutError(f"{changelog} is not there, or may not be read")
        logs = await client.bounds(partitions_of({changelog: count}))
    for tp, bounds in logs.items():
        sums.add(await _states(broker, tp, bounds, count))
    return sums.survey()


async def _states(
    broker: Broker, tp: TopicPartition, bounds: Bounds, count: int
) -> dict[bytes, bytes]:
    states: dict[bytes, bytes] = {}
    async for _, records in read_logs(broker, {tp: bounds}):
        for record in records:
            # Others were left behind when partitions were added.
            if record.key is not None and home_partition(record.key, count) == tp.partition:
                if record.value is None:
                    states.pop(record.key, None)
                else:
                    states[record.key] = record.value
    return states


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


def message(content: object) -> bytes:
    """Return an object as one process sends it to the other."""
    data = pickle.dumps(content)
    return len(data).to_bytes(LENGTH) + data


def _received(file: BinaryIO) -> Settings | None:
    """Return the next request; None at the end."""
    head = file.read(LENGTH)
    if len(head) < LENGTH:
        return None
    found: Settings = pickle.loads(file.read(int.from_bytes(head)))  # noqa: S301 - our parent's.
    return found


def main() -> None:
    """Answer requests until there are no more. An answer is a survey, or the name of an error."""
    logging.basicConfig(level=logging.CRITICAL)
    while (settings := _received(sys.stdin.buffer)) is not None:
        try:
            answer: Survey | str = asyncio.run(summed(settings))
        except (KafkaError, OSError, ClvError) as error:
            answer = type(error).__name__
        sys.stdout.buffer.write(message(answer))
        sys.stdout.buffer.flush()
