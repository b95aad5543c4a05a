"""The examples do what they say: as they stand, and on a real broker."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from streams.testing import running_cluster

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    names = ("storefront", "crm")
    yield {name: import_module(name) for name in names}
    for name in names:
        del sys.modules[name]


def test_the_tests_of_a_team_pass_in_their_own_directory(tmp_path: Path) -> None:
    for file in EXAMPLES.iterdir():
        if file.is_file():
            shutil.copy(file, tmp_path)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-W", "error"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "5 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.slow
async def test_storefront_and_crm_meet_at_a_real_broker(example: dict[str, ModuleType]) -> None:
    storefront, crm_module = example["storefront"], example["crm"]
    async with running_cluster() as cluster:
        servers = cluster.settings.broker
        placed = datetime(2026, 1, 3, 10, tzinfo=UTC)
        orders = [
            storefront.Order("1001", "c1", placed, Decimal("40.00")),
            storefront.Order("1002", "c2", placed, Decimal("12.50")),
        ]
        await storefront.publish(servers, orders)
        await cluster.advance(days=200)
        crm = crm_module.Crm()
        following = asyncio.create_task(crm_module.follow(servers, crm))
        async with asyncio.timeout(60):
            while len(crm.campaigns("c1")) < 2 or len(crm.campaigns("c2")) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        following.cancel()
        await asyncio.wait([following])
        assert crm.campaigns("c1") == ["welcome", "we miss you"]
        assert crm.segments("c2")["lifecycle"] == "at risk"
        crm.close()
