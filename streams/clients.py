"""aiokafka's clients, started and stopped without leaving anything behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

Client = TypeVar("Client", AIOKafkaConsumer, AIOKafkaProducer, AIOKafkaAdminClient)


@asynccontextmanager
async def started(client: Client) -> AsyncIterator[Client]:
    """Start a client of aiokafka's and stop it at the end, also when it cannot be started.

    Errors: those of its start, KafkaError or OSError. One that is left behind keeps a task, a
    connection, and what it has fetched.
    """
    try:
        await client.start()
        yield client
    finally:
        await stop(client)


async def stop(client: AIOKafkaConsumer | AIOKafkaProducer | AIOKafkaAdminClient) -> None:
    """Stop a client of aiokafka's that was started, or was not, or half way."""
    # aiokafka's consumer cannot be stopped before a task of its own has begun.
    await asyncio.sleep(0)
    await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())
    # It swallows a cancellation that comes while it ends tasks of its own.
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError
