"""A file of orders and a data set are replayed as they would have been published."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest

from models.economics import Economics
from streams.cli.console import CommandError
from streams.cli.replay.compare import Variant, compare_variants
from streams.cli.replay.source import Asked, repeatable
from streams.datasets import DATASETS
from streams.files.reader import read_orders
from streams.recording import BEGINNING, END, Bound
from streams.replay.memory import in_memory
from streams.replay.source import FromFile
from streams.testing import Outcome, outcome_of, running_topology, shop_settings
from tests.test_streams.recording.support import write

EUROS = Economics(currency="EUR")
FILE = """customer_id,date,amount,currency
c1,2026-01-03,40.00,EUR
c2,2026-01-04,12.50,GBP
c3,2026-02-01,9.99,EUR
c1,2026-02-03,-5.00,EUR
"""


@pytest.fixture
def orders(tmp_path: Path) -> Path:
    path = tmp_path / "orders.csv"
    path.write_text(FILE)
    return path


async def test_a_file_comes_to_what_it_comes_to_when_it_is_published(orders: Path) -> None:
    settings, came = shop_settings(partitions=3), Outcome()
    source = repeatable(Asked(str(orders), BEGINNING, END), EUROS, 3)
    async with in_memory(settings, source, came) as replay:
        await replay.run()
    async with running_topology(settings, start="2026-01-01") as topology:
        await topology.publish_events(read_orders(orders))
        await topology.advance(to="2026-02-03T23:59:59.999Z")
        assert came.facts() == (await outcome_of(topology)).facts()
    assert came.facts()[""] == [{"dead_letters": "no-exchange-rate", "count": 1}]


async def test_a_slice_of_a_data_set_has_the_orders_of_that_time() -> None:
    cdnow = DATASETS["cdnow"]
    first, last = (int(each.timestamp() * 1000) for each in (cdnow.first, cdnow.last))
    until = Bound("a week", time=first + 7 * 86_400_000)
    source = repeatable(Asked("cdnow", BEGINNING, until), Economics(), 4)
    taken = [record async for record in source.records()]
    week = [each for each in cdnow.events() if each.time.timestamp() * 1000 < until.time]
    assert [record.value for record in taken] == [each.value for each in week]
    assert [record async for record in source.records()] == taken, "it can be read twice"
    end = repeatable(Asked("cdnow", Bound("the last day", time=last), END), Economics(), 4)
    roles = [end.topics[record.topic].role async for record in end.records()]
    on_last_day = sum(each.time == cdnow.last for each in cdnow.events())
    assert roles == ["orders"] * on_last_day + ["clock"] * 4


def test_another_currency_than_the_shops_is_refused_with_what_to_set() -> None:
    with pytest.raises(CommandError, match="CLV_ECONOMICS__CURRENCY=USD"):
        repeatable(Asked("cdnow", BEGINNING, END), EUROS, 4)


def test_a_recording_is_one_whatever_its_name(tmp_path: Path) -> None:
    write(tmp_path / "shop.csv", [], 1)
    asked = Asked(str(tmp_path / "shop.csv"), BEGINNING, END)
    assert isinstance(repeatable(asked, EUROS, 4), FromFile)


async def test_a_file_of_orders_is_compared_under_two_configurations(orders: Path) -> None:
    """A tenth more margin on 40 and on 9.99 euros; a refund takes its whole amount either way."""
    asked = Asked(str(orders), BEGINNING, END)
    now = Variant("now", shop_settings(economics=Economics(currency="EUR", margin=Decimal("0.3"))))
    more = Economics(currency="EUR", margin=Decimal("0.4"))
    comparison = await compare_variants(
        asked, now, Variant("planned", shop_settings(economics=more))
    )
    assert comparison.differs
    number, by = comparison.components()["margin so far"]
    assert number == 2
    assert by == pytest.approx((40 + 9.99) * 0.1)
    assert not (await compare_variants(asked, now, now)).differs
