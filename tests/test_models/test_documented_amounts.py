"""The examples of docs/contracts.md are events, and earn what the text says of them."""

import json
from pathlib import Path

import pytest

from models.aggregate.fold import Effect, fold
from models.aggregate.state import Aggregate
from models.aggregate.summary import Summary
from models.contracts import decode, json_schemas
from models.economics import MONEY_SCALE, Economics

TEXT = (Path(__file__).parents[2] / "docs/contracts.md").read_text()
EUROS = Economics(currency="EUR")
COUNTED = {Effect.APPLIED, Effect.APPENDED}


def examples():
    """The indented blocks that are JSON, in order."""
    blocks = TEXT.split("\n\n")
    return [json.loads(block) for block in blocks if block.startswith('    {"specversion"')]


def earned(*events, economics=EUROS):
    """The margin of a customer with these events, in euros."""
    state = Aggregate()
    for each in events:
        event = decode(b"c1", json.dumps(each).encode(), ())
        assert fold(state, event, economics) in COUNTED
    return Summary(state, economics).margin(economics) / MONEY_SCALE


def changed(event, **data):
    """The event with other data; None leaves a field out."""
    kept = {name: value for name, value in (event["data"] | data).items() if value is not None}
    return event | {"data": kept}


def test_the_examples_earn_what_is_said():
    order, refund = examples()
    assert (order["type"], refund["type"]) == ("order.placed", "order.refunded")
    assert earned(order) == 16.00
    assert earned(order, refund) == 8.00
    assert "40.00 - 24.00 - 20.00 + 12.00 = 8.00" in TEXT
    # As it is the half that comes back, what was recovered need not be said.
    assert earned(order, changed(refund, cost_recovered=None)) == 8.00


def test_the_example_is_net_of_voucher_and_tax():
    order, refund = examples()
    paid, back = 59.50 - 11.90, 23.80
    assert (paid / 1.19, back / 1.19) == pytest.approx((40.00, 20.00))
    assert (order["data"]["total"], refund["data"]["amount"]) == ("40.00", "20.00")
    for amount in ("59.50", "11.90", "47.60", "23.80"):
        assert amount in TEXT


def test_totals_with_tax_earn_too_much_as_is_said():
    order, _ = examples()
    gross = changed(order, total="47.60")
    assert earned(gross) == 23.60
    assert "23.60 in place of 16.00" in TEXT
    bare, taxed = changed(order, cost_of_goods=None), changed(gross, cost_of_goods=None)
    assert earned(taxed) / earned(bare) == pytest.approx(1.19)


@pytest.mark.parametrize(
    ("kind", "field", "words"),
    [
        ("order.placed", "total", "net of discount and of tax"),
        ("order.placed", "cost_of_goods", "CLV_ECONOMICS__MARGIN"),
        ("order.refunded", "amount", "net of tax"),
        ("order.refunded", "cost_recovered", "goods came back"),
    ],
)
def test_the_json_schema_says_what_an_amount_is(kind, field, words):
    schema = json_schemas()[kind]
    data = schema["$defs"][schema["properties"]["data"]["$ref"].rpartition("/")[2]]
    assert words in " ".join(data["properties"][field]["description"].split())
