"""Reading the registry from `clv.models`, and writing to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from pydantic import BaseModel

from streams.kafka.connection import Broker
from streams.kafka.partitions import TopicPartition
from streams.kafka.reading import Follower, follower
from streams.kafka.writing import Outgoing, record_writer
from streams.registry.registry import Registry

READ_SECONDS = 60.0
"""How long reading the topic may take; a partition may be without a leader for a while."""

_POLL_MILLISECONDS = 500


class RegistryReader:
    """Keeps a registry current."""

    def __init__(self, following: Follower, currency: str) -> None:
        self.registry = Registry(currency)
        self._following = following

    async def read(self, least: int = -1) -> Registry:
        """Read to the end, at least past an offset. Errors: KafkaError, TimeoutError."""
        try:
            async with asyncio.timeout(READ_SECONDS):
                while True:
                    read = await self._following.read(_POLL_MILLISECONDS)
                    for record in read.records:
                        self.registry.take(record.key, record.value)
                    if read.at_end and read.position > least:
                        return self.registry
        except TimeoutError:
            raise TimeoutError(
                f"{self._following.tp} could not be read to its end within {READ_SECONDS:g} s; "
                "see whether it has a leader: `clv doctor`"
            ) from None


@asynccontextmanager
async def registry_reader(
    broker: Broker, topic: str, currency: str
) -> AsyncIterator[RegistryReader]:
    """Open a reader at the beginning of the topic. Errors: KafkaError."""
    async with follower(broker, TopicPartition(topic, 0)) as following:
        yield RegistryReader(following, currency)


async def read_registry(broker: Broker, topic: str, currency: str) -> Registry:
    """Read what the topic holds now. Errors: KafkaError, TimeoutError."""
    async with registry_reader(broker, topic, currency) as reader:
        return await reader.read()


async def write_document(broker: Broker, topic: str, key: bytes, document: BaseModel | None) -> int:
    """Write a document under its key, or remove it; return its offset, -1 if unknown."""
    value = None if document is None else document.model_dump_json().encode()
    async with record_writer(broker) as writer:
        written = await writer.write(TopicPartition(topic, 0), [Outgoing(key, value)])
    return max(written.end - 1, -1)
