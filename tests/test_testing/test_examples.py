"""The examples do what they say: as they stand, and on a real broker."""

import asyncio
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from models.contracts.clock import Tick
from streams.testing import running_cluster
from tests.test_streams.recording.support import Making, milliseconds, write

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture
def example(monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, ModuleType]]:
    monkeypatch.syspath_prepend(str(EXAMPLES))
    names = ("storefront", "crm")
    yield {name: import_module(name) for name in names}
    for name in names:
        del sys.modules[name]


def test_the_storefronts_order_is_of_today_or_of_a_day(
    example: dict[str, ModuleType], monkeypatch: pytest.MonkeyPatch
) -> None:
    published: list[Any] = []

    async def publish(_servers: str, orders: Iterable[Any]) -> None:
        published.extend(orders)

    storefront = example["storefront"]
    monkeypatch.setattr(storefront, "publish", publish)
    storefront.main("broker:9092", "USD", "1998-06-30")
    began = datetime.now(UTC)
    storefront.main("broker:9092")
    old, new = (order.placed_at for order in published)
    assert old == datetime(1998, 6, 30, 12, tzinfo=UTC)
    assert began <= new <= datetime.now(UTC)


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


def test_a_recording_is_looked_at_cell_by_cell(
    example: dict[str, ModuleType], tmp_path: Path
) -> None:
    placed = datetime(2026, 1, 3, 10, tzinfo=UTC)
    orders = [("c1", "40.00", "EUR"), ("c2", "12.50", "EUR"), ("c3", "9.00", "GBP")]
    making, records = Making(2), []
    for number, (customer, total, currency) in enumerate(orders):
        order = example["storefront"].Order(
            str(number), customer, placed, Decimal(total), currency=currency
        )
        key, value, headers = example["storefront"].order_placed(order)
        home = number % 2
        records.append(making.record("orders", home, milliseconds(placed), key, value, headers))
    records += making.ticks(Tick(as_of=placed + timedelta(days=379)))
    write(tmp_path / "shop.clvrec", records)
    done = subprocess.run(
        [sys.executable, "-W", "error", EXAMPLES / "who_changed.py", "shop.clvrec", "EUR"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said = done.stdout.splitlines()
    for line in (
        "orders: 3 records",
        "clock: 2 records",
        "2026-01-03",
        "2027-01-17",
        "refused, no-exchange-rate: 1",
        "lifecycle: none -> new, 2 times",
        "lifecycle: new -> needs attention, 2 times",
        "lifecycle: needs attention -> at risk, 2 times",
    ):
        assert line in said, f"{line!r} is not told:\n{done.stdout}"
    silent = [line for line in said if line.endswith("since 2026-06-14")]
    assert [line[:2] for line in silent] == ["c1", "c2"], "the more valuable one comes first"
    # But for a few cents of contacts all of a value is margin: 40 % in place of 30 %.
    (margin,) = (line for line in said if line.startswith("c1: "))
    before, after = (float(value) for value in margin.removeprefix("c1: ").split(" -> "))
    assert after == pytest.approx(before * 4 / 3, abs=0.05)


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
