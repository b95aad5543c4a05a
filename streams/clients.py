"""aiokafka's clients, started and stopped without leaving anything behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

Client = TypeVar("Client", AIOKafkaConsumer, AIOKafkaProducer, AIOKafkaAdminClient)

CLOSE_SECONDS = 5.0
"""How long a cancelled task waits for a client that is being closed."""


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
    """Stop a client of aiokafka's that was started, or was not, or half way.

    Who is cancelled meanwhile is cancelled when it is closed, or does not close.
    """
    # In a task of its own: aiokafka takes a cancellation for one of its own tasks, and swallows it.
    closing = asyncio.create_task(_close(client), name="closing a client")
    try:
        await asyncio.shield(closing)
    except asyncio.CancelledError:
        await asyncio.wait({closing}, timeout=CLOSE_SECONDS)
        raise


async def _close(client: AIOKafkaConsumer | AIOKafkaProducer | AIOKafkaAdminClient) -> None:
    # aiokafka's consumer cannot be stopped before a task of its own has begun.
    await asyncio.sleep(0)
    await (client.close() if isinstance(client, AIOKafkaAdminClient) else client.stop())
