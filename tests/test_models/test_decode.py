"""Both CloudEvents modes, against the official SDK, and each reason to refuse a record."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from cloudevents.core.bindings import kafka
from cloudevents.core.v1.event import CloudEvent
from hypothesis import given
from hypothesis import strategies as st

from models.contracts import (
    CURRENCIES,
    MAX_VALUE_BYTES,
    Envelope,
    Reason,
    Refused,
    customer_of,
    decode,
)
from tests.test_models.hostile import (
    FULL_DATA,
    KEYED_BY_RECORD,
    STRUCTURED,
    binary_headers,
    envelope,
)

ids = st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1, max_size=200).filter(
    str.strip
)
money = st.decimals(0, 999_999_999, places=4).map(lambda amount: f"{amount:f}")
times = st.integers(0, 253_000_000_000).map(
    lambda seconds: (datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds)).isoformat()
)
orders = st.fixed_dictionaries(
    {
        "order_id": ids,
        "customer_id": ids,
        "placed_at": times,
        "currency": st.sampled_from(sorted(CURRENCIES)),
        "total": money,
    },
    optional={
        "cost_of_goods": money,
        "channel": ids,
        "revision": st.integers(0, 2**63 - 1),
        "items": st.lists(
            st.fixed_dictionaries(
                {"sku": ids, "quantity": st.floats(0, 1_000_000)},
                optional={"unit_price": money},
            ),
            max_size=5,
        ),
    },
)


def json_bytes(value: Any) -> bytes:
    return json.dumps(value).encode()


def structured(kind: str = "order.placed", **changes: Any) -> bytes:
    return json_bytes({**envelope(kind, FULL_DATA[kind]), **changes})


def refused(
    value: bytes | None,
    headers: list[tuple[str, bytes | None]],
    key: bytes | None = b"c1",
    **options: Any,
) -> Refused:
    with pytest.raises(Refused) as caught:
        decode(key, value, headers, **options)
    return caught.value


def test_the_documented_example() -> None:
    event = decode(
        b"c1",
        b'{"specversion":"1.0","id":"a1","source":"/shop/eu","type":"order.placed",'
        b'"time":"2026-01-03T10:00:00Z","datacontenttype":"application/json",'
        b'"data":{"order_id":"1001","customer_id":"c1","placed_at":"2026-01-03T10:00:00Z",'
        b'"currency":"EUR","total":"40.00"}}',
        STRUCTURED,
    )
    assert (event.id, event.source, event.type) == ("a1", "/shop/eu", "order.placed")
    assert event.time == event.data.occurred_at == datetime(2026, 1, 3, 10, tzinfo=UTC)
    assert (event.data.order_id, event.data.total, event.data.currency) == ("1001", "40.00", "EUR")


@given(event_id=ids, source=ids, data=orders)
def test_both_modes_read_the_same_event(event_id: str, source: str, data: dict[str, Any]) -> None:
    attributes = {"specversion": "1.0", "id": event_id, "source": source, "type": "order.placed"}
    one = decode(None, json_bytes({**attributes, "data": data}), STRUCTURED)
    other = decode(
        None,
        json_bytes(data),
        [(f"ce_{name}", text.encode()) for name, text in attributes.items()],
    )
    assert one == other
    assert (one.id, one.source) == (event_id, source)
    assert one.data.model_dump(mode="json", exclude_none=True, exclude={"placed_at"}) == {
        name: value for name, value in data.items() if name != "placed_at"
    }
    assert one.data.placed_at == datetime.fromisoformat(data["placed_at"])


def sdk_event(kind: str) -> CloudEvent:
    return CloudEvent(
        {
            "id": "e-ü1",
            "source": "/shop/eu",
            "type": kind,
            "time": datetime(2026, 1, 3, 10, 0, 0, 250_000, tzinfo=UTC),
            "datacontenttype": "application/json",
            "subject": "über",
            "partitionkey": "c1",
        },
        FULL_DATA[kind],
    )


def read_sdk(message: kafka.KafkaMessage, content_type: bytes | None = None) -> Envelope:
    headers = dict(message.headers)
    if content_type is not None:
        headers["content-type"] = content_type
    assert isinstance(message.key, str)
    return decode(message.key.encode(), message.value, list(headers.items()))


@pytest.mark.parametrize("kind", FULL_DATA)
def test_events_of_the_official_sdk_decode_to_the_same_in_both_modes(kind: str) -> None:
    sent = sdk_event(kind)
    one = read_sdk(kafka.to_structured_event(sent))
    other = read_sdk(kafka.to_binary_event(sent))
    assert one == other
    assert (one.id, one.source, one.type) == (sent.get_id(), sent.get_source(), kind)
    assert (one.time, one.subject) == (sent.get_time(), sent.get_subject())
    assert one.data.model_dump(mode="json", exclude_none=True) == FULL_DATA[kind]


@pytest.mark.parametrize("kind", FULL_DATA)
def test_the_official_sdk_reads_what_we_write(kind: str) -> None:
    event = decode(b"c1", structured(kind), STRUCTURED)
    written = event.model_dump_json(exclude_none=True).encode()
    message = kafka.KafkaMessage({"content-type": b"application/cloudevents+json"}, "c1", written)
    back = kafka.from_kafka_event(message)
    assert (back.get_id(), back.get_source(), back.get_type()) == (event.id, event.source, kind)
    assert (back.get_time(), back.get_data()) == (event.time, FULL_DATA[kind])


@pytest.mark.parametrize(
    "content_type",
    [
        b"application/cloudevents",
        b"application/cloudevents+json",
        b"application/cloudevents+json; charset=utf-8",
        b"application/cloudevents+json;charset=UTF-8",
        b"Application/CloudEvents+JSON; Charset=UTF-8",
        b"APPLICATION/CLOUDEVENTS+JSON ; x=1",
    ],
)
def test_structured_content_types_are_read_in_any_case(content_type: bytes) -> None:
    message = kafka.to_structured_event(sdk_event("order.placed"))
    assert read_sdk(message, content_type) == read_sdk(message)


@pytest.mark.parametrize(
    "content_type",
    [b"application/json", b"Application/JSON; charset=utf-8", b"text/json", b"application/x+json"],
)
def test_binary_content_types_are_read_in_any_case(content_type: bytes) -> None:
    message = kafka.to_binary_event(sdk_event("order.placed"))
    assert read_sdk(message, content_type).data == read_sdk(message).data


def test_binary_mode_needs_no_content_type() -> None:
    headers = [pair for pair in binary_headers("order.placed") if pair[0] != "content-type"]
    assert decode(None, json_bytes(FULL_DATA["order.placed"]), headers).datacontenttype is None


def test_plain_json_without_headers_is_read_as_structured() -> None:
    assert decode(None, structured(), []) == decode(None, structured(), STRUCTURED)
    assert decode(None, structured(), [("trace", b"\xff"), ("content-type", None)])


def test_structured_content_type_wins_over_ce_headers() -> None:
    event = decode(None, structured(), [*STRUCTURED, *binary_headers("order.cancelled")[:-1]])
    assert event.type == "order.placed"


def test_header_names_are_read_in_any_case_and_the_last_of_a_name_counts() -> None:
    headers = [(name.upper(), text) for name, text in binary_headers("order.placed")]
    headers.append(("Ce_Id", b"last"))
    assert decode(None, json_bytes(FULL_DATA["order.placed"]), headers).id == "last"


def test_binary_data_cannot_write_into_the_envelope() -> None:
    value = json_bytes(FULL_DATA["order.placed"]) + b',"id":"forged"'
    assert refused(value, binary_headers("order.placed")).reason is Reason.NOT_JSON


@pytest.mark.parametrize("value", [None, b""])
@pytest.mark.parametrize("headers", [STRUCTURED, [], binary_headers("order.placed")])
def test_a_record_without_value_is_refused_as_empty(value: bytes | None, headers: Any) -> None:
    assert refused(value, headers).reason is Reason.EMPTY


def test_a_value_above_the_limit_is_refused_before_it_is_parsed() -> None:
    too_large = refused(b"[" * (MAX_VALUE_BYTES + 1), STRUCTURED)
    assert too_large.reason is Reason.TOO_LARGE
    assert str(MAX_VALUE_BYTES) in too_large.detail
    value = structured()
    assert decode(None, value, STRUCTURED, max_bytes=len(value))
    assert refused(value, STRUCTURED, max_bytes=len(value) - 1).reason is Reason.TOO_LARGE


@pytest.mark.parametrize(
    "content_type", [b"application/cloudevents-batch+json", b"Application/CloudEvents-Batch"]
)
def test_a_batch_is_refused_in_its_own_words(content_type: bytes) -> None:
    batch = refused(b"[]", [("content-type", content_type)])
    assert (batch.reason, batch.field) == (Reason.BATCH, "content-type")
    assert "one event in each record" in batch.detail


@pytest.mark.parametrize("suffix", [b"+avro", b"+protobuf", b"+json2", b"json"])
def test_other_formats_are_refused(suffix: bytes) -> None:
    other = refused(structured(), [("content-type", b"application/cloudevents" + suffix)])
    assert other.reason is Reason.UNSUPPORTED_FORMAT


@pytest.mark.parametrize("value", [b"5", b"[]", b"null", b'"x"', b"{}", b'{"order_id":"1"}'])
def test_json_that_is_no_cloudevent_is_refused(value: bytes) -> None:
    assert refused(value, []).reason is Reason.NOT_CLOUDEVENTS


def test_json_content_without_ce_headers_is_refused_with_both_ways_out() -> None:
    neither = refused(structured(), [("content-type", b"application/json")])
    assert (neither.reason, neither.field) == (Reason.NOT_CLOUDEVENTS, "content-type")
    assert "application/cloudevents+json" in neither.detail
    assert "ce_ headers" in neither.detail


@pytest.mark.parametrize("value", [b"{", b"\xef\xbb\xbf{}", b"{'a':1}", b"[" * 100_000, b"\x00"])
def test_broken_json_is_refused(value: bytes) -> None:
    assert refused(value, STRUCTURED).reason is Reason.NOT_JSON
    assert refused(value, binary_headers("order.placed")).reason is Reason.NOT_JSON


@pytest.mark.parametrize("value", [b'{"a":"\xff"}', "{}".encode("utf-16"), b"\x80"])
def test_a_value_that_is_not_utf8_is_refused(value: bytes) -> None:
    assert refused(value, STRUCTURED).reason is Reason.NOT_UTF8
    assert refused(value, binary_headers("order.placed")).reason is Reason.NOT_UTF8


@pytest.mark.parametrize("kind", ["order.shipped", "Order.Placed", "", None, 5, ["order.placed"]])
def test_an_unknown_type_is_refused_with_the_known_ones(kind: Any) -> None:
    unknown = refused(structured(type=kind), STRUCTURED)
    assert (unknown.reason, unknown.field) == (Reason.UNKNOWN_TYPE, "type")
    assert "order.placed, order.cancelled, order.refunded" in unknown.detail


def test_an_unknown_type_in_binary_mode_names_the_header() -> None:
    headers = [("ce_type", b"order.shipped"), ("ce_specversion", b"1.0")]
    unknown = refused(b"{}", headers)
    assert (unknown.reason, unknown.field) == (Reason.UNKNOWN_TYPE, "ce_type")


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type", "data"])
def test_a_missing_attribute_is_refused_by_name(name: str) -> None:
    event = envelope("order.placed", FULL_DATA["order.placed"])
    del event[name]
    missing = refused(json_bytes(event), STRUCTURED)
    assert (missing.reason, missing.field) == (Reason.MISSING_FIELD, name)


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type"])
@pytest.mark.parametrize("present_without_value", [True, False])
def test_a_missing_header_is_refused_by_name(name: str, present_without_value: bool) -> None:
    headers = [pair for pair in binary_headers("order.placed") if pair[0] != f"ce_{name}"]
    if present_without_value:
        headers.append((f"ce_{name}", None))
    missing = refused(json_bytes(FULL_DATA["order.placed"]), headers)
    assert (missing.reason, missing.field) == (Reason.MISSING_FIELD, f"ce_{name}")


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("specversion", "0.3"),
        ("specversion", 1.0),
        ("id", ""),
        ("id", 7),
        ("source", " "),
        ("source", "x" * 201),
        ("time", "2026-01-03T10:00:00"),
        ("time", 1_700_000_000),
        ("datacontenttype", "text/plain"),
        ("datacontenttype", "application/xml"),
        ("subject", 7),
        ("data", []),
        ("data", "{}"),
        ("data", None),
    ],
)
def test_an_invalid_attribute_is_refused_by_name(name: str, value: Any) -> None:
    invalid = refused(structured(**{name: value}), STRUCTURED)
    assert (invalid.reason, invalid.field) == (Reason.INVALID_FIELD, name)


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("ce_specversion", b"0.3", Reason.INVALID_FIELD),
        ("ce_id", b"", Reason.INVALID_FIELD),
        ("ce_id", b"\xff", Reason.NOT_UTF8),
        ("ce_source", b"a\x00", Reason.INVALID_FIELD),
        ("ce_time", b"1700000000", Reason.INVALID_FIELD),
        ("ce_time", b"2026-01-03T10:00:00", Reason.INVALID_FIELD),
        ("content-type", b"text/plain", Reason.INVALID_FIELD),
        ("content-type", b"\xff", Reason.NOT_UTF8),
    ],
)
def test_an_invalid_header_is_refused_by_name(name: str, content: bytes, reason: Reason) -> None:
    headers = [*binary_headers("order.placed"), (name, content)]
    invalid = refused(json_bytes(FULL_DATA["order.placed"]), headers)
    assert (invalid.reason, invalid.field) == (reason, name)


def test_data_in_base64_is_refused_in_words() -> None:
    event = envelope("order.placed", None)
    del event["data"]
    missing = refused(json_bytes({**event, "data_base64": "e30="}), STRUCTURED)
    assert (missing.reason, missing.field) == (Reason.MISSING_FIELD, "data")
    assert "data_base64" in missing.detail


@pytest.mark.parametrize("kind", KEYED_BY_RECORD)
def test_the_key_says_whose_event_it_is_when_the_data_does_not(kind: str) -> None:
    data = {name: value for name, value in FULL_DATA[kind].items() if name != "customer_id"}
    value = json_bytes(envelope(kind, data))
    event = decode("клиент".encode(), value, STRUCTURED)
    assert event.data.customer_id is None
    assert customer_of(event, "клиент".encode()) == "клиент"
    for key in (None, b""):
        missing = refused(value, STRUCTURED, key)
        assert (missing.reason, missing.field) == (Reason.MISSING_CUSTOMER, "data.customer_id")
        with pytest.raises(Refused):
            customer_of(event, key)


@pytest.mark.parametrize("kind", FULL_DATA)
@pytest.mark.parametrize("key", [None, b"", b"c2", b"\xff"])
def test_the_data_wins_over_any_key(kind: str, key: bytes | None) -> None:
    assert customer_of(decode(key, structured(kind), STRUCTURED), key) == "c1"


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        (b"\xff", Reason.NOT_UTF8),
        (b"\xed\xa0\x80", Reason.NOT_UTF8),
        (b" ", Reason.INVALID_FIELD),
        (b"a\x00", Reason.INVALID_FIELD),
        (b"k" * 201, Reason.INVALID_FIELD),
    ],
)
def test_an_unusable_key_is_refused_when_it_is_needed(key: bytes, reason: Reason) -> None:
    data = {"order_id": "1", "cancelled_at": "2026-01-03T10:00:00Z"}
    unusable = refused(json_bytes(envelope("order.cancelled", data)), STRUCTURED, key)
    assert (unusable.reason, unusable.field) == (reason, "key")


def test_a_refusal_reads_as_reason_and_detail() -> None:
    error = refused(structured(data={**FULL_DATA["order.placed"], "total": 40.0}), STRUCTURED)
    assert str(error) == (
        'invalid-field: data.total is 40.0; allowed: decimal text in quotes such as "139.12", '
        "not negative, at most 14 digits before the point and 4 after it"
    )
