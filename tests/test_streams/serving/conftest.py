"""A service with customers, and the read API in front of it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import datetime

import aiohttp
import pytest
from pydantic import SecretStr

from streams.cache import ScoreCache, connect
from streams.serving.api import create_app
from streams.serving.server import serving
from streams.serving.sources import Sources
from streams.settings import Serve, Settings
from tests.test_streams.service.cluster import Cluster, cluster

from .support import TIME, purchases


@dataclass
class Front:
    """The API of a service, and a client of it."""

    service: Cluster
    client: aiohttp.ClientSession
    url: str

    async def get(self, path, status=200, **headers):
        """Return the JSON of an answer, and its headers."""
        async with self.client.get(self.url + path, headers=headers) as response:
            assert response.status == status, await response.text()
            if status == 304:
                return None, response.headers
            return await response.json(content_type=None), response.headers

    async def cohorts(self):
        """Return the cohorts, asking again until all customers are summed, as the answer says."""
        async with asyncio.timeout(300):
            while True:
                async with self.client.get(self.url + "/v1/cohorts") as response:
                    if response.status == 200:
                        return await response.json()
                    assert "ask again" in await response.text()
                    await asyncio.sleep(float(response.headers["Retry-After"]))


@asynccontextmanager
async def front(
    service: Cluster,
    tokens: tuple[str, ...] = (),
    writing: tuple[str, ...] = (),
    settings: Settings | None = None,
    now: datetime = TIME,
) -> AsyncIterator[Front]:
    """Serve API and pages; for them it is always the same time."""
    redis = connect(service.redis_url, timeout_seconds=3.0)
    serve = Serve(
        read_tokens=tuple(map(SecretStr, tokens)),
        write_tokens=tuple(map(SecretStr, writing)),
        now=now,
    )
    settings = (settings or service.settings).model_copy(update={"serve": serve})
    sources = Sources.of(ScoreCache(redis), service.broker, settings)
    try:
        async with (
            sources.running(),
            serving(create_app(sources), "127.0.0.1", 0) as port,
            aiohttp.ClientSession() as client,
        ):
            yield Front(service, client, f"http://127.0.0.1:{port}")
    finally:
        await redis.aclose()


@pytest.fixture
async def shop(tmp_path) -> AsyncIterator[Front]:
    async with cluster(tmp_path) as service:
        await service.start_worker()
        await service.publish(purchases())
        await service.settled()
        async with front(service) as running:
            yield running
