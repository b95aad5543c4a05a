"""A recording under pseudonyms holds no id, and comes to the same values."""

import json
import math
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.contracts import decode
from models.contracts.clock import Tick
from models.routing import Route, route_header
from streams.datasets import DATASETS
from streams.outcome.outcome import Outcome
from streams.recording import Pseudonyms, Recorded, Recording
from streams.replay.memory import in_memory
from streams.replay.source import FromFile
from streams.settings import Settings

from .support import PARAMETERS, ROLES, Making, some_events, write

SECRET = b"a secret of some length"
CE = ("content-type", b"application/cloudevents+json")


def event(kind, data, **more):
    document = {
        "specversion": "1.0", "id": "event-id-1", "source": "/shop", "type": kind,
        "time": "2026-01-01T00:00:00Z", "subject": "subject-1", **more, "data": data,
    }  # fmt: skip
    return json.dumps(document).encode()


ORDER = {
    "customer_id": "anna@example.com", "order_id": "order-4711", "currency": "EUR",
    "placed_at": "2026-01-01T00:00:00Z", "total": "12.50",
    "items": [{"sku": "mug", "quantity": 2, "unit_price": "6.25", "engraving": "for Anna"}],
    "email": "anna@example.com", "channel": "web",
}  # fmt: skip


def of_order(secret=SECRET, headers=(CE,), **more):
    pseudonyms = Pseudonyms(secret)
    record = Recorded(
        0, 0, 5, 17, b"anna@example.com", event("order.placed", ORDER, **more), headers
    )
    return pseudonyms, pseudonyms.record("orders", record)


def test_no_id_and_nothing_unknown_stays_and_the_rest_does():
    pseudonyms, record = of_order(name="Anna Example")
    text = record.value.decode()
    for gone in ("anna", "Anna", "4711", "event-id", "subject-1", "email", "engraving"):
        assert gone not in text
    document = json.loads(text)
    data = document["data"]
    assert (document["source"], document["type"], document["time"]) == (
        "/shop", "order.placed", "2026-01-01T00:00:00Z",
    )  # fmt: skip
    assert (data["total"], data["currency"], data["channel"]) == ("12.50", "EUR", "web")
    assert data["items"] == [{"sku": "mug", "quantity": 2, "unit_price": "6.25"}]
    assert (record.offset, record.timestamp, record.headers) == (5, 17, (CE,))
    assert record.key.decode() == data["customer_id"] == pseudonyms.of("anna@example.com")
    assert decode(record.key, record.value, record.headers).data.customer_id == data["customer_id"]
    assert not pseudonyms.left_out


def test_one_secret_gives_one_pseudonym_and_another_another():
    assert of_order()[1] == of_order()[1]
    assert of_order()[1].key != of_order(b"another secret of some length")[1].key


def test_merges_name_both_customers_by_their_pseudonyms():
    data = {"customer_id": "a", "merged_from": "b", "merged_at": "2026-01-01T00:00:00Z"}
    pseudonyms = Pseudonyms(SECRET)
    record = pseudonyms.record(
        "identities", Recorded(0, 0, 0, 0, b"a", event("customer.merged", data), (CE,))
    )
    found = json.loads(record.value)["data"]
    assert found["customer_id"] == pseudonyms.of("a")
    assert found["merged_from"] == pseudonyms.of("b")


def test_binary_events_and_headers_of_the_service_lose_their_ids_too():
    headers = (
        ("content-type", b"application/json"), ("ce_specversion", b"1.0"), ("ce_id", b"event-9"),
        ("ce_source", b"/shop"), ("ce_type", b"order.placed"), ("ce_subject", b"anna"),
        ("x-trace", b"anna"),
        route_header(Route("orders/0", 1, b"anna", via=("anna", "bert"))),
    )  # fmt: skip
    pseudonyms = Pseudonyms(SECRET)
    record = pseudonyms.record(
        "orders", Recorded(0, 0, 0, 0, b"anna", json.dumps(ORDER).encode(), headers)
    )
    assert decode(record.key, record.value, record.headers).type == "order.placed"
    assert b"anna" not in record.value
    assert all(b"anna" not in content for _, content in record.headers)
    assert dict(record.headers)["ce_id"] == pseudonyms.of("event-9").encode()


@pytest.mark.parametrize(
    "headers",
    [
        (CE, ("ce_id", b"e1"), ("ce_type", b"order.placed"), ("ce_subject", b"anna")),
        (("ce_type", None),),
        (("Content-Type", b"application/cloudevents"), ("CE_Source", b"anna")),
        (("ce_type", b"anna"), CE),
    ],
)
def test_an_event_told_in_json_stays_one_whatever_ce_headers_it_has(headers):
    pseudonyms, record = of_order(headers=headers)
    found = decode(record.key, record.value, record.headers)
    assert found.data.customer_id == pseudonyms.of("anna@example.com")
    assert found.data.order_id == pseudonyms.of("order-4711")
    assert not [name for name, _ in record.headers if name.lower().startswith("ce_")]


@pytest.mark.parametrize(
    "content_type", [b"application/cloudevents+json; customer=4711", b"application/cloudevents ;a"]
)
def test_a_media_type_stays_without_its_parameters(content_type):
    _, record = of_order(
        headers=(("content-type", content_type),), datacontenttype="application/json; c=4711"
    )
    media_type = content_type.partition(b";")[0].strip()
    assert record.headers == (("content-type", media_type),)
    assert json.loads(record.value)["datacontenttype"] == "application/json"
    assert decode(record.key, record.value, record.headers).type == "order.placed"


def test_of_several_headers_of_one_name_only_the_one_that_counts_stays():
    headers = (
        ("ce_time", b"anna@example.com"), ("CE_Type", b"anna"), ("content-type", b"anna"),
        ("ce_specversion", b"1.0"), ("ce_id", b"event-9"), ("ce_source", b"/shop"),
        ("ce_type", b"order.placed"), ("ce_time", b"2026-01-01T00:00:00Z"),
        ("content-type", b"application/json; customer=4711"), ("ce_source", None),
    )  # fmt: skip
    pseudonyms = Pseudonyms(SECRET)
    record = pseudonyms.record(
        "orders", Recorded(0, 0, 0, 0, b"anna", json.dumps(ORDER).encode(), headers)
    )
    assert dict(record.headers) == {
        "ce_time": b"2026-01-01T00:00:00Z", "ce_type": b"order.placed", "ce_source": b"/shop",
        "content-type": b"application/json", "ce_specversion": b"1.0",
        "ce_id": pseudonyms.of("event-9").encode(),
    }  # fmt: skip
    assert len(record.headers) == 6
    assert decode(record.key, record.value, record.headers).time is not None


@given(st.none() | st.binary(max_size=20), st.none() | st.binary(max_size=80))
@settings(deadline=None)
def test_what_is_no_event_is_left_out_and_counted(key, value):
    pseudonyms = Pseudonyms(SECRET)
    for role in ("orders", "clock", "models"):
        assert pseudonyms.record(role, Recorded(0, 0, 0, 0, key, value)) is None
    assert pseudonyms.left_out.total() == 3


def test_what_would_be_a_dead_letter_is_left_out_with_its_reason():
    pseudonyms = Pseudonyms(SECRET)
    value = event("order.placed", {**ORDER, "total": "anna"})
    assert pseudonyms.record("orders", Recorded(0, 0, 0, 0, b"a", value, (CE,))) is None
    assert pseudonyms.left_out == {"no event: invalid-field": 1}


def test_a_tick_stays_and_what_was_added_to_it_does_not():
    value = b'{"as_of":"2026-01-01T00:00:00Z","parameters":"v1","by":"anna"}'
    record = Pseudonyms(SECRET).record("clock", Recorded(0, 1, 2, 3, b"anna", value))
    assert json.loads(record.value) == {"as_of": "2026-01-01T00:00:00Z", "parameters": "v1"}
    assert record.key is None


async def test_values_and_segments_are_those_of_the_customers_behind(tmp_path: Path):
    making, pseudonyms = Making(2), Pseudonyms(SECRET)
    events = some_events(2)
    tick = Tick(as_of=DATASETS["cdnow"].as_of, parameters=PARAMETERS.version)
    given = making.record("models", 0, 0, b"bg-nbd", PARAMETERS.model_dump_json().encode())
    records = [given, *map(making.event, events), *making.ticks(tick)]
    roles = list(ROLES)
    hidden = [pseudonyms.record(roles[record.topic], record) for record in records]
    assert None not in hidden
    write(tmp_path / "plain", records)
    write(tmp_path / "hidden", hidden, pseudonyms=True)
    plain, other = [await valued(tmp_path / name) for name in ("plain", "hidden")]
    assert len(plain) == len({each.key for each in events}) == len(other)
    for name, document in plain.items():
        same = other[pseudonyms.of(name)]
        # Orders of one second are summed in the order of their fingerprints, which are of ids.
        assert math.isclose(same["clv"], document["clv"], rel_tol=1e-12), name
        assert same["segments"] == document["segments"]
        assert same["totals"] == document["totals"]


async def valued(path):
    found = Outcome()
    async with in_memory(Settings(), FromFile(Recording(path)), found) as replay:
        await replay.run()
    return {
        key.decode(): json.loads(each)["data"] for key, each in found.snapshot().documents.items()
    }


@pytest.mark.parametrize("name", ["", "a" * 300, "ä\N{GRINNING FACE}"])
def test_any_text_has_a_pseudonym_of_one_length(name):
    assert len(Pseudonyms(SECRET).of(name)) == 32
