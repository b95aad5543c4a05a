"""What is opened towards Kafka is closed again, also when it could not be opened."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import AsyncIterator

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from streams.cache import KafkaUpdates
from streams.cache.updates import UpdatesUnavailable
from streams.embedded import EmbeddedBroker
from streams.embedded.process import free_port
from streams.kafka.clients import started
from streams.kafka.connection import Broker
from streams.parameters import ParameterFeed
from streams.publisher import Publisher
from streams.settings import Topics

FAILURES = (KafkaError, OSError, TimeoutError, UpdatesUnavailable)

CLIENTS = pytest.mark.parametrize(
    "opened",
    [
        lambda broker: started(AIOKafkaConsumer(**broker.client_options())),
        lambda broker: started(AIOKafkaProducer(**broker.client_options())),
        lambda broker: started(AIOKafkaAdminClient(**broker.client_options())),
        lambda broker: ParameterFeed(broker, "clv.models"),
        lambda broker: Publisher(broker, Topics(), 1),
        lambda broker: KafkaUpdates(broker, "clv.updates").open(),
    ],
    ids=["consumer", "producer", "admin", "parameters", "publisher", "updates"],
)


@pytest.fixture
async def silent() -> AsyncIterator[Broker]:
    """A port where somebody listens who never says anything."""
    ended = asyncio.Event()

    async def listen(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await ended.wait()
        writer.close()

    server = await asyncio.start_server(listen, "127.0.0.1", 0)
    async with server:
        yield Broker(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
        ended.set()


@pytest.fixture
async def falling_silent() -> AsyncIterator[Broker]:
    """A broker that answers the first request of each connection and no other."""
    ended = asyncio.Event()

    async def listen(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind, before = await asyncio.open_connection(*real.address.split(":"))
        for source, target in ((reader, before), (behind, writer)):
            size = await source.readexactly(4)
            target.write(size + await source.readexactly(int.from_bytes(size)))
        await ended.wait()
        before.close()
        writer.close()

    async with EmbeddedBroker() as real:
        server = await asyncio.start_server(listen, "127.0.0.1", 0)
        async with server:
            yield Broker(f"127.0.0.1:{server.sockets[0].getsockname()[1]}")
            ended.set()


async def left_behind(opened, broker: Broker) -> list[str]:
    """What Python says of things that were not closed, after an attempt that must fail."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        with pytest.raises(FAILURES):
            async with asyncio.timeout(0.5), opened(broker):
                pass
        gc.collect()
    return [str(each.message) for each in said]


@CLIENTS
async def test_a_broker_that_is_not_there_leaves_no_client_behind(opened):
    assert await left_behind(opened, Broker(f"127.0.0.1:{free_port()}")) == []


@CLIENTS
async def test_a_broker_that_is_not_waited_for_leaves_no_client_behind(opened, silent):
    assert await left_behind(opened, silent) == []


@CLIENTS
async def test_a_broker_that_falls_silent_leaves_no_connection_behind(opened, falling_silent):
    assert await left_behind(opened, falling_silent) == []
