"""`--line-items`: the rows of one order are summed, adjacent or not."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contracts import Refused, decode
from streams.files.errors import InputFileError
from streams.files.reader import read_orders
from tests.test_streams.commands import clv, refused

from .support import accepted, written

HEADER = "order_id,customer_id,date,amount"
ITEMS = ["7,c1,2026-01-03T10:00:00Z,10.50", "8,c2,2026-01-03,1", "7,c1,2026-01-03T09:59:00Z,4.25"]


def test_rows_of_an_order_are_summed_adjacent_or_not(tmp_path: Path) -> None:
    path = written(tmp_path / "o.csv", HEADER, *ITEMS, "7,c1,2026-01-03T10:00:00Z,-0.75")
    seven, eight = accepted(path, line_items=True)
    assert (seven.data.order_id, seven.data.total) == ("7", "14.00")
    assert seven.data.placed_at.isoformat() == "2026-01-03T09:59:00+00:00"
    assert (eight.data.order_id, eight.data.total) == ("8", "1")


@given(
    st.lists(
        st.tuples(st.sampled_from("abc"), st.decimals(-999, 999, places=2)), min_size=1, max_size=30
    )
)
def test_every_order_is_the_sum_of_its_items(
    tmp_path_factory: pytest.TempPathFactory, items: list[tuple[str, Decimal]]
) -> None:
    rows = [f"{order},c1,2026-01-03,{amount}" for order, amount in items]
    path = written(tmp_path_factory.mktemp("items") / "o.csv", HEADER, *rows)
    found = {}
    for event in accepted(path, line_items=True):
        negative = event.type == "order.refunded"
        order = event.data.refund_id if negative else event.data.order_id
        found[order] = -Decimal(event.data.amount) if negative else Decimal(event.data.total)
    totals = {order: sum(a for each, a in items if each == order) for order, _ in items}
    assert found == totals


def test_costs_are_summed_and_revisions_are_orders_of_their_own(tmp_path: Path) -> None:
    path = written(
        tmp_path / "o.csv", f"{HEADER},cost_of_goods,revision",
        "7,c1,2026-01-03,10,4,1", "7,c1,2026-01-03,5,2,1", "7,c1,2026-01-03,10,4,2",
    )  # fmt: skip
    found = [
        (e.data.revision, e.data.total, e.data.cost_of_goods)
        for e in accepted(path, line_items=True)
    ]
    assert found == [(1, "15", "6"), (2, "10", "4")]


@pytest.mark.parametrize(
    ("header", "rows", "words"),
    [
        (HEADER, ["7,c1,2026-01-03,1", "7,c2,2026-01-03,1"], "customer_id is 'c2' here, and 'c1'"),
        (
            f"{HEADER},currency",
            ["7,c1,2026-01-03,1,EUR", "7,c1,2026-01-03,1,GBP"],
            "currency is 'GBP' here, and 'EUR'",
        ),
        (
            f"{HEADER},cost_of_goods",
            ["7,c1,2026-01-03,1,", "7,c1,2026-01-03,1,0.5"],
            "cost_of_goods is given only here",
        ),
    ],
)
def test_items_of_one_order_that_contradict_each_other(
    tmp_path: Path, header: str, rows: list[str], words: str
) -> None:
    path = written(tmp_path / "o.csv", header, *rows)
    with pytest.raises(InputFileError, match=rf":3: order '7' is on line 2 too: {words}"):
        accepted(path, line_items=True)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        (",c1,2026-01-03,1", "order_id is empty"),
        ("7,c1,2026-01-03,one", "amount .* is 'one'"),
        ("7,c1,,1", "time: column 'date' is empty"),
        ("7,,2026-01-03,1", "customer_id: column 'customer_id' is empty"),
        ("7,c1,3.1.2026,1", "time .* is '3.1.2026'"),
        ("7,c1,2026-01-03,99999999999999", "amount of order '7' is 100000000000009"),
    ],
)
def test_an_order_with_a_wrong_item_is_refused_whole(tmp_path: Path, row: str, words: str) -> None:
    path = written(tmp_path / "o.csv", HEADER, "7,c1,2026-01-03,10", row, "7,c1,2026-01-03,1")
    with pytest.raises(InputFileError, match=rf":3: {words}"):
        accepted(path, line_items=True)
    events = list(read_orders(path, currency="EUR", line_items=True, errors="publish"))
    wrong = next(event for event in events if row[0] != "," or b'"order_id":""' in event.value)
    with pytest.raises(Refused):
        decode(wrong.key, wrong.value, wrong.headers)


def test_a_command_takes_line_items_and_says_so_if_it_meets_them(tmp_path: Path) -> None:
    path = written(tmp_path / "o.csv", HEADER, *ITEMS)
    assert "add --line-items" in refused("score", path, "--currency", "EUR")
    done = clv("score", path, "--currency", "EUR", "--line-items")
    assert done.returncode == 0, done.stderr
    assert "2 customers valued" in done.stderr
    assert "--line-items" in refused("score", "cdnow", "--line-items")


RETAIL = "Invoice,StockCode,Description,Quantity,InvoiceDate,Price,Customer ID,Country"


def test_a_price_is_multiplied_by_the_quantity(tmp_path: Path) -> None:
    """The columns of UCI's Online Retail II, whose credit notes have negative quantities."""
    path = written(
        tmp_path / "o.csv", RETAIL,
        "489434,85048,LIGHTS,12,2009-12-01 07:45:00,6.95,13085.0,United Kingdom",
        "C489449,22087,BUNTING,-12,2009-12-01 10:33:00,2.95,16321.0,Australia",
        "489434,79323P,CHERRY LIGHTS,2,2009-12-01 07:46:00,6.75,13085.0,United Kingdom",
    )  # fmt: skip
    order, credit = accepted(path, currency="GBP", line_items=True)
    assert (order.type, Decimal(order.data.total)) == (
        "order.placed",
        12 * Decimal("6.95") + Decimal("13.50"),
    )
    assert order.data.placed_at.isoformat() == "2009-12-01T07:45:00+00:00"
    assert (credit.type, credit.data.amount) == ("order.refunded", "35.40")


@pytest.mark.parametrize(
    ("header", "columns", "total"),
    [
        ("unit price", {}, "20.00"),
        ("total", {}, "10"),
        ("total", {"quantity": "qty"}, "20.00"),
        ("worth", {"amount": "worth"}, "10"),
    ],
)
def test_a_total_is_for_all_pieces_unless_the_quantity_is_named(
    tmp_path: Path, header: str, columns: dict[str, str], total: str
) -> None:
    path = written(tmp_path / "o.csv", f"customer,date,{header},qty", "c1,2026-01-03,10,2")
    (event,) = accepted(path, columns=columns)
    assert Decimal(event.data.total) == Decimal(total)


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ("c1,2026-01-03,10,", "quantity: column 'qty' is empty"),
        ("c1,2026-01-03,10,two", "quantity .column 'qty'. is 'two'"),
        ("c1,2026-01-03,ten,2", "amount .column 'price'. is 'ten'"),
        ("c1,2026-01-03,,2", "amount: column 'price' is empty"),
        ("c1,2026-01-03,99999999999999,2", "amount is 99999999999999 times 2"),
    ],
)
def test_a_wrong_quantity_is_refused(tmp_path: Path, row: str, words: str) -> None:
    path = written(tmp_path / "o.csv", "customer,date,price,qty", row)
    with pytest.raises(InputFileError, match=f":2: {words}"):
        accepted(path)
    (event,) = read_orders(path, currency="EUR", errors="publish")
    with pytest.raises(Refused):
        decode(event.key, event.value, event.headers)
