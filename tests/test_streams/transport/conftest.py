from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streams.embedded import EmbeddedBroker
from streams.transport.memory.broker import MemoryBroker
from tests.servers.broker import TestBroker, running_broker


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stock Faust makes a directory where it runs."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def broker() -> MemoryBroker:
    return MemoryBroker()


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedBroker]:
    async with EmbeddedBroker() as server:
        yield server


@pytest.fixture(params=["embedded", "kafka"])
async def either(request: pytest.FixtureRequest) -> AsyncIterator[TestBroker]:
    """Either broker; tests share the one of the kind "kafka", so they use names of their own."""
    async with running_broker(request.param) as server:
        yield server
