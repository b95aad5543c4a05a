"""Whatever the bytes are, decoding gives an event that validates again, or a `Refused`."""

from __future__ import annotations

import json
from itertools import islice

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.contracts import EVENT, EVENT_TYPES, NOTICES, Reason, Refused, customer_of, decode
from tests.test_models.hostile import (
    FULL_DATA,
    STRUCTURED,
    Header,
    binary_headers,
    envelope,
    hostile_records,
    valid_records,
)

FUZZED = 50_000

keys = st.none() | st.binary(max_size=300)
header_names = st.sampled_from(
    ["content-type", "Content-Type", "ce_id", "ce_type", "ce_source", "ce_specversion", "ce_time"]
) | st.text(max_size=20)
header_values = (
    st.none()
    | st.binary(max_size=30)
    | st.sampled_from(
        [b"application/cloudevents+json", b"application/json", b"1.0", b"a1"]
        + [kind.encode() for kind in EVENT_TYPES]
    )
)
headers_of_any_kind = st.lists(st.tuples(header_names, header_values), max_size=10)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


def check_refusal(refused: Refused) -> Reason:
    assert refused.reason in Reason
    assert 0 < len(refused.detail) < 1_000
    # Detail and field go into headers of the dead letter.
    assert refused.detail.isprintable()
    assert (refused.detail + (refused.field or "")).encode()
    return refused.reason


def check(key: bytes | None, value: bytes | None, headers: list[Header]) -> Reason | None:
    """Decode, and hold the event or the refusal to what is promised of them."""
    try:
        event = decode(key, value, headers)
    except Refused as refused:
        return check_refusal(refused)
    customer = customer_of(event, key)
    assert 1 <= len(customer) <= 200
    assert event.data.occurred_at.tzinfo is not None
    again = decode(customer.encode(), EVENT.dump_json(event), STRUCTURED)
    assert again == event
    return None


@given(key=keys, value=st.none() | st.binary(max_size=500), headers=headers_of_any_kind)
@settings(max_examples=300)
def test_any_bytes(key: bytes | None, value: bytes | None, headers: list[Header]) -> None:
    check(key, value, headers)


@given(value=json_values, headers=headers_of_any_kind)
@settings(max_examples=200)
def test_any_json(value: object, headers: list[Header]) -> None:
    check(None, json.dumps(value).encode(), headers)


@given(kind=st.sampled_from(sorted(EVENT_TYPES)), data=json_values, binary=st.booleans())
@settings(max_examples=200)
def test_any_json_as_data(kind: str, data: object, binary: bool) -> None:
    if binary:
        check(b"c1", json.dumps(data).encode(), binary_headers(kind))
    else:
        check(b"c1", json.dumps(envelope(kind, data)).encode(), STRUCTURED)


@given(st.data())
@settings(max_examples=300)
def test_any_json_in_any_field(data: st.DataObject) -> None:
    kind = data.draw(st.sampled_from(sorted(EVENT_TYPES)))
    changed = dict(FULL_DATA[kind])
    changed[data.draw(st.sampled_from(sorted(changed)))] = data.draw(json_values)
    check(b"c1", json.dumps(envelope(kind, changed)).encode(), STRUCTURED)


@given(depth=st.integers(1, 200_000), closed=st.booleans(), brace=st.sampled_from(["[", '{"a":']))
@example(depth=200_000, closed=True, brace='{"a":')
@settings(max_examples=30, deadline=None)
def test_any_depth_of_nesting(depth: int, closed: bool, brace: str) -> None:
    end = ("]" if brace == "[" else "}") * depth if closed else ""
    nested = (brace * depth + "1" + end).encode()
    check(b"c1", nested, STRUCTURED)
    before, after = json.dumps(envelope("order.placed", "HERE")).encode().split(b'"HERE"')
    check(b"c1", before + nested + after, STRUCTURED)
    check(b"c1", nested, binary_headers("order.placed"))


@given(digits=st.integers(1, 100_000), form=st.sampled_from(["%s", "-%s", "0.%s", "1e%s", '"%s"']))
@settings(max_examples=30, deadline=None)
def test_any_length_of_number(digits: int, form: str) -> None:
    number = form % ("9" * digits)
    for kind, full in FULL_DATA.items():
        for name in full:
            text = json.dumps(envelope(kind, {**full, name: "HERE"}))
            check(b"c1", text.replace('"HERE"', number).encode(), STRUCTURED)


@pytest.mark.heavy
@pytest.mark.parametrize("seed", range(5))
def test_mutated_events_give_an_event_or_a_refusal(seed: int) -> None:
    seen = {check(*record) for record in islice(hostile_records(seed), FUZZED // 5)}
    by_the_shop = {
        Reason.FUTURE,
        Reason.NO_EXCHANGE_RATE,
        Reason.BEYOND_MEMORY,
        Reason.PLACEHOLDER_ID,
        Reason.POISON,
        Reason.WRONG_TOPIC,
        *NOTICES,
    }
    assert seen >= set(Reason) - by_the_shop - {Reason.TOO_LARGE} | {None}


def test_the_fuzzer_is_reproducible_and_one_in_ten_records_is_valid() -> None:
    first = list(islice(hostile_records(7), 1_000))
    assert first == list(islice(hostile_records(7), 1_000))
    assert first != list(islice(hostile_records(8), 1_000))
    accepted = sum(check(*record) is None for record in islice(hostile_records(9), 5_000))
    assert accepted > 500
    assert all(check(*record) is None for record in valid_records())
