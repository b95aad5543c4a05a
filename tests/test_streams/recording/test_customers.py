"""Which records are about a customer, whatever else publishers write into them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from models.contracts import decode
from streams.cli.console import CommandError
from streams.cli.record_options import parse_customers
from streams.recording import OfCustomers, Recorded, some_of

DATA = {
    "customer_id": "anna", "order_id": "o1", "placed_at": "2026-01-03T12:00:00Z",
    "currency": "EUR", "total": "40.00",
}  # fmt: skip
BINARY = (
    ("content-type", b"application/json"), ("ce_specversion", b"1.0"), ("ce_id", b"e1"),
    ("ce_source", b"/shop"), ("ce_type", b"order.placed"),
)  # fmt: skip
EVENT = {
    "specversion": "1.0", "id": "e1", "source": "/shop", "time": "2026-01-03T12:00:00Z",
    "datacontenttype": "application/json",
}  # fmt: skip
CONTENT = (("content-type", b"application/cloudevents+json"),)
OTHERS = [7, 0.5, None, True, "x", [], ["anna2"], {}, {"customer_id": [7]}]


def concerned(document, headers=(), names=("anna",)):
    """Whether an event without a key, which is one, is about them."""
    record = Recorded(1, 0, 0, 0, None, json.dumps(document).encode(), headers)
    assert decode(record.key, record.value, record.headers).data.customer_id == "anna"
    return OfCustomers(names).concern("orders", record)


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", ["data", "merged_from"])
def test_a_binary_event_is_found_beside_fields_of_a_publishers_own(name, other):
    assert concerned({**DATA, name: other}, BINARY)
    assert not concerned({**DATA, name: other}, BINARY, ["anna3"])


@pytest.mark.parametrize("other", OTHERS)
@pytest.mark.parametrize("name", ["customer_id", "merged_from"])
def test_an_event_told_in_json_is_found_beside_fields_of_a_publishers_own(name, other):
    document = {"specversion": "1.0", "id": "e1", "source": "/shop", "type": "order.placed"}
    assert concerned({**document, "data": DATA, name: other})
    assert concerned({**document, "data": {"merged_from": other, **DATA}})
    assert not concerned({**document, "data": DATA, name: other}, names=["anna3"])


@pytest.mark.parametrize("value", [b"", b"[]", b"7", b"{", b"\xff", b'{"data": []}', None])
def test_what_is_no_event_is_known_by_its_key_alone(value):
    of = OfCustomers(["anna"])
    assert of.concern("orders", Recorded(1, 0, 0, 0, b"anna", value))
    assert not of.concern("orders", Recorded(1, 0, 0, 0, None, value))


def test_who_does_not_occur_is_told_whether_by_key_or_by_what_an_event_names():
    of = OfCustomers(["anna", "bert", "carl", "dora", "zoe"])
    assert of.absent == ("anna", "bert", "carl", "dora", "zoe")
    merge = json.dumps({"data": {"customer_id": "bert", "merged_from": "carl"}}).encode()
    for role, key, value in (
        ("orders", b"anna", b"garbage"),
        ("customers", b"bert", merge),
        ("orders", None, b'{"customer_id": "dora"}'),
        ("orders", b"eve", b'{"note": "zoe"}'),
        # About nobody, whatever its key.
        ("models", b"zoe", b"{}"),
    ):
        of.concern(role, Recorded(1, 0, 0, 0, key, value))
    assert of.absent == ("zoe",)


def test_a_merge_with_somebody_else_is_noted():
    def merge(customer, merged_from):
        event = {**EVENT, "type": "customer.merged", "data": {
            "customer_id": customer, "merged_from": merged_from, "merged_at": DATA["placed_at"],
        }}  # fmt: skip
        return Recorded(1, 0, 0, 0, customer.encode(), json.dumps(event).encode(), CONTENT)

    of = OfCustomers(["anna"], ["bert"])
    for customer, merged_from in (("anna", "bert"), ("bert", "carl"), ("dora", "eve")):
        assert of.concern("identities", merge(customer, merged_from)) is (customer != "dora")
    assert of.concern("orders", Recorded(1, 0, 0, 0, b"bert", b""))
    assert (of.apart, of.absent, len(of)) == (("carl",), (), 1)


def test_a_message_shows_some_names_and_counts_the_rest():
    assert some_of(["zoe"]) == "'zoe'"
    assert some_of([f"c{n}" for n in range(1_012)]).endswith("'c9' and 1,002 more")


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_a_file_of_customers_is_read_with_a_byte_order_mark_and_without(encoding, tmp_path: Path):
    path = tmp_path / "ids.txt"
    path.write_text("4711\n\n 4712\nJ\u00fcrgen\n", encoding=encoding)
    named = parse_customers(f"@{path}")
    assert named is not None
    assert len(named) == 3
    for name in ("4711", "4712", "J\u00fcrgen"):
        assert named.concern("orders", Recorded(1, 0, 0, 0, name.encode(), None))


def test_a_file_that_names_nobody_is_refused(tmp_path: Path):
    path = tmp_path / "ids.txt"
    path.write_text("\n", encoding="utf-8-sig")
    with pytest.raises(CommandError, match="names nobody"):
        parse_customers(f"@{path}")
