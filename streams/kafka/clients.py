"""aiokafka's clients, started and stopped without leaving anything behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from traceback import walk_tb
from typing import Any, TypeVar

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.client import AIOKafkaClient

from streams.kafka.connection import Broker

Admin = AIOKafkaAdminClient
"""aiokafka's admin client, as the functions of this package take it."""

Client = TypeVar("Client", AIOKafkaConsumer, AIOKafkaProducer, AIOKafkaAdminClient)

CLOSE_SECONDS = 5.0
"""How long a cancelled task waits for a client that is being closed."""


@asynccontextmanager
async def started(client: Client) -> AsyncIterator[Client]:
    """Start a client of aiokafka's, and stop it at the end, even if it could not be started.

    A client that is not stopped keeps a task, a connection and fetched records. Errors: those of
    its start, KafkaError or OSError.
    """
    try:
        try:
            await client.start()
        except asyncio.CancelledError as error:
            _close_first_connection(error)
            raise
        yield client
    finally:
        await stop(client)


def _close_first_connection(cancelled: asyncio.CancelledError) -> None:
    """Close the connection over which aiokafka was asking for the first metadata.

    It is in a variable of the method that was cancelled and nowhere else, so `stop` does not know
    of it.
    """
    for frame, _ in walk_tb(cancelled.__traceback__):
        if frame.f_code is AIOKafkaClient.bootstrap.__code__:
            connection = frame.f_locals.get("bootstrap_conn")
            if connection is not None:
                connection.close()


@asynccontextmanager
async def admin_client(broker: Broker, **options: Any) -> AsyncIterator[AIOKafkaAdminClient]:
    """A started admin client; options: of aiokafka's. Errors: KafkaError."""
    client = AIOKafkaAdminClient(**broker.client_options(), **options)
    async with started(client) as admin:
        yield admin


async def stop(client: AIOKafkaConsumer | AIOKafkaProducer | AIOKafkaAdminClient) -> None:
    """Stop a client of aiokafka's, started or not; if cancelled, first wait for it for a while."""
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
