"""A publisher that knows of each record whether the broker has it."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaError

from tests.faults.items import Item

PATIENCE_MILLISECONDS = 120_000
"""Longer than any break: a batch that expired could have arrived, and its order would be lost."""

STEP_SECONDS = 0.02
REQUEST_BYTES = 8 * 1024 * 1024


@dataclass(slots=True)
class Published:
    """How it went. repeated: records sent a second time, since nobody knew of the first."""

    acknowledged: int = 0
    repeated: int = 0


class ExactPublisher:
    """Publishes at a steady pace and keeps on until everything is acknowledged.

    It asks past the proxies. topics: the real name of each logical topic. idempotent: whether the
    broker can tell a repeated batch; the embedded one cannot.
    """

    def __init__(self, address: str, topics: Mapping[str, str], *, idempotent: bool = True) -> None:
        self._address = address
        self._topics = topics
        self._idempotent = idempotent

    async def publish(self, items: Sequence[Item], seconds: float) -> Published:
        """Publish evenly over so many seconds; returns when all are acknowledged."""
        published = Published()
        waiting = list(items)
        pace = seconds
        while waiting:
            failed = await self._once(waiting, pace)
            published.acknowledged += len(waiting) - len(failed)
            published.repeated += len(failed)
            waiting, pace = failed, 0.0
        return published

    async def _once(self, items: Sequence[Item], seconds: float) -> list[Item]:
        """Publish with one producer; returns what failed."""
        producer = AIOKafkaProducer(
            bootstrap_servers=self._address,
            enable_idempotence=self._idempotent,
            acks="all",
            request_timeout_ms=PATIENCE_MILLISECONDS,
            max_request_size=REQUEST_BYTES,
            # A record of more than a MiB is taken only if it is smaller on its way.
            compression_type="gzip",
            linger_ms=5,
        )
        await producer.start()
        try:
            deliveries = await self._send_all(producer, items, seconds)
            results = await asyncio.gather(*deliveries, return_exceptions=True)
        finally:
            await producer.stop()
        for result in results:
            if isinstance(result, BaseException) and not isinstance(result, KafkaError):
                raise result
        return [
            item
            for item, result in zip(items, results, strict=True)
            if isinstance(result, KafkaError)
        ]

    async def _send_all(
        self, producer: AIOKafkaProducer, items: Sequence[Item], seconds: float
    ) -> list[asyncio.Future[Any]]:
        loop = asyncio.get_running_loop()
        began, deliveries = loop.time(), []
        for number, (event, partition) in enumerate(items):
            due = began + seconds * number / len(items)
            if due > loop.time() + STEP_SECONDS:
                await asyncio.sleep(due - loop.time())
            deliveries.append(
                await producer.send(
                    self._topics[event.topic],
                    event.value,
                    key=event.key,
                    partition=partition,
                    headers=event.headers,
                )
            )
        return deliveries
