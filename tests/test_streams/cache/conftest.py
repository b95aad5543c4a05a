import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis.asyncio

from streams.cache import ScoreCache, connect
from streams.embedded import EmbeddedBroker
from tests.test_streams.cache.support import PATIENCE, Server
from tests.test_streams.cache.topic import Topic


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with Server(tmp_path) as running:
        yield running


@pytest.fixture
async def client(
    server: Server, request: pytest.FixtureRequest
) -> AsyncIterator[redis.asyncio.Redis]:
    """A client that waits for a busy machine, or for as many seconds as its parameter says."""
    client = connect(server.url, timeout_seconds=getattr(request, "param", PATIENCE))
    yield client
    await client.aclose()


@pytest.fixture
def cache(client: redis.asyncio.Redis) -> ScoreCache:
    return ScoreCache(client)


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    server = EmbeddedBroker()
    asyncio.run(server.start())
    yield server.address
    asyncio.run(server.stop())


@pytest.fixture
async def topic(broker: str) -> AsyncIterator[Topic]:
    async with Topic(broker) as topic:
        yield topic
