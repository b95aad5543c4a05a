from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from streams.embedded import EmbeddedBroker

from .broker import Broker


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stock Faust makes a directory where it runs."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def broker() -> Broker:
    return Broker()


@pytest.fixture
async def server() -> AsyncIterator[EmbeddedBroker]:
    async with EmbeddedBroker() as server:
        yield server
