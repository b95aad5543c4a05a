"""The population of a service, kept current from its changelog without a consumer group."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from time import monotonic

from models.aggregate.record import decode_record, is_customer
from models.economics import Economics
from models.errors import ClvError
from models.population import Population
from streams.kafka.connection import Broker
from streams.kafka.errors import KafkaTimeoutError
from streams.kafka.partitions import LogRecord, TopicPartition, home_partition, partitions_of
from streams.kafka.reading import SILENCE_SECONDS, LogClient, log_client

_POLL_MILLISECONDS = 500
_AT_ONCE = 2_000
"""Customers that are decoded before other tasks get their turn."""

_PENDING = 50_000
"""Customers whose newest records are kept undecoded, so that older ones cost nothing."""


class ChangelogChanged(ClvError):
    """The changelog is not the one that was followed; start the fitter again."""


class Customers:
    """Follows all partitions of a changelog; `population` is as of what was read last."""

    def __init__(
        self, client: LogClient, changelog: str, partitions: int, economics: Economics
    ) -> None:
        self.population = Population(economics)
        self.partitions = partitions
        self._client = client
        self._tps = partitions_of({changelog: partitions})
        self._pending: dict[bytes, bytes | None] = {}
        self._heard = monotonic()

    async def read(self) -> bool:
        """Read on for a moment; return whether everything there was has been read.

        Errors: KafkaError, UnreadableRecord, MissingRate; ChangelogChanged if a log is shorter
        than before.
        """
        fetched = await self._client.fetch(milliseconds=_POLL_MILLISECONDS)
        for records in fetched.values():
            self._note(records)
        left = await self._left()
        at_end = not left
        if at_end or any(fetched.values()):
            self._heard = monotonic()
        elif monotonic() - self._heard >= SILENCE_SECONDS:
            silent = ", ".join(map(str, left))
            raise KafkaTimeoutError(f"{silent}: not read within {SILENCE_SECONDS:g} s")
        if at_end or len(self._pending) >= _PENDING:
            await self.apply()
        return at_end

    async def check(self) -> None:
        """Raise ChangelogChanged if the topic has another number of partitions by now."""
        count = await self._client.partitions(self._tps[0].topic)
        if count not in (0, self.partitions):
            raise ChangelogChanged(
                f"{self._tps[0].topic} has {count} partitions, and had {self.partitions}: "
                "customers have moved; start again"
            )

    async def _left(self) -> list[TopicPartition]:
        """Return the partitions that are not read to their end, or do not say where that is."""
        left = []
        for tp in self._tps:
            end = self._client.readable_end(tp)
            # Without an answer yet there is no position, and asking for it would wait for one.
            position = None if end is None else await self._client.position(tp)
            if end is None or position is None or position < end:
                left.append(tp)
            elif position > end:
                raise ChangelogChanged(
                    f"{tp} ends at {end}, and was read up to {position}: was the topic made anew? "
                    "Start again, and see `clv doctor`"
                )
        return left

    def _note(self, records: Iterable[LogRecord]) -> None:
        for record in records:
            key = record.key
            if key is None or not is_customer(key):
                continue
            # A record in another partition was left behind when partitions were added.
            if home_partition(key, self.partitions) == record.partition:
                self._pending[key] = record.value

    async def apply(self) -> None:
        """Bring the population up to what was read. Errors: UnreadableRecord, MissingRate."""
        pending, self._pending = self._pending, {}
        for number, (key, value) in enumerate(pending.items(), start=1):
            record = None if value is None else decode_record(value, key)
            if record is None or record.into:
                self.population.remove(key)
            else:
                self.population.put(key, record.aggregate)
            if number % _AT_ONCE == 0:
                await asyncio.sleep(0)


@asynccontextmanager
async def following_customers(
    broker: Broker, changelog: str, partitions: int, economics: Economics
) -> AsyncIterator[Customers]:
    """Follow a changelog from its beginning. Errors: KafkaError, OSError."""
    async with log_client(broker) as client:
        client.assign_all(partitions_of({changelog: partitions}))
        yield Customers(client, changelog, partitions, economics)
