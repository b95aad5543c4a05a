"""What each input contract accepts, and that it refuses everything else by the field's name."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

import jsonschema
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from models.contracts import (
    CURRENCIES,
    ENVELOPES,
    EVENT,
    EVENT_TYPES,
    OrderPlaced,
    Reason,
    Refused,
    Time,
    decode,
    json_schemas,
    money_units,
)
from models.events.fields import EARLIEST, LATEST
from tests.test_models.hostile import FULL_DATA, STRUCTURED, envelope

REQUIRED = {
    "order.placed": {"order_id", "customer_id", "placed_at", "currency", "total"},
    "order.refunded": {"refund_id", "currency", "amount", "refunded_at"},
    "order.cancelled": {"order_id", "cancelled_at"},
    "ticket.opened": {"ticket_id", "opened_at", "channel"},
    "ticket.resolved": {"ticket_id", "resolved_at"},
    "ticket.rated": {"ticket_id", "rated_at", "score", "scale"},
    "survey.answered": {"survey_id", "answered_at", "kind", "score", "scale"},
    "customer.acquired": {"customer_id", "acquired_at", "cost", "currency"},
    "customer.merged": {"customer_id", "merged_from", "merged_at"},
    "customer.erased": {"customer_id", "erased_at"},
}
MONEY_FIELDS = [
    ("order.placed", "total"),
    ("order.placed", "cost_of_goods"),
    ("order.refunded", "amount"),
    ("order.refunded", "cost_recovered"),
    ("ticket.resolved", "cost"),
    ("customer.acquired", "cost"),
]
TIME_FIELDS = [
    (kind, name) for kind, data in FULL_DATA.items() for name in data if name.endswith("_at")
]
ID_FIELDS = [
    (kind, name)
    for kind, data in FULL_DATA.items()
    for name in data
    if name.endswith("_id") or name == "merged_from"
]
CURRENCY_FIELDS = [(kind, "currency") for kind, data in FULL_DATA.items() if "currency" in data]
SCORED = ["ticket.rated", "survey.answered"]


def read(kind: str, data: Any, **attributes: Any) -> Any:
    event = {**envelope(kind, data), **attributes}
    return decode(b"c1", json.dumps(event).encode(), STRUCTURED)


def refusal(kind: str, /, **changes: Any) -> Refused:
    with pytest.raises(Refused) as caught:
        read(kind, {**FULL_DATA[kind], **changes})
    return caught.value


def assert_refused(kind: str, name: str, value: Any) -> None:
    refused = refusal(kind, **{name: value})
    assert (refused.reason, refused.field) == (Reason.INVALID_FIELD, f"data.{name}")
    assert refused.detail.startswith(f"data.{name} is ")
    assert "; allowed: " in refused.detail


def test_maps_cover_the_same_types() -> None:
    assert set(EVENT_TYPES) == set(ENVELOPES) == set(FULL_DATA) == set(json_schemas())
    for kind, model in ENVELOPES.items():
        assert model.model_fields["data"].annotation is EVENT_TYPES[kind]


@pytest.mark.parametrize("kind", FULL_DATA)
def test_every_field_is_kept(kind: str) -> None:
    data = FULL_DATA[kind]
    written = read(kind, data).data.model_dump(mode="json", exclude_none=True)
    assert written == data


@pytest.mark.parametrize("kind", FULL_DATA)
def test_only_required_fields_are_required(kind: str) -> None:
    minimal = {name: FULL_DATA[kind][name] for name in REQUIRED[kind]}
    event = read(kind, minimal)
    assert event.data.customer_id == minimal.get("customer_id")
    for name in REQUIRED[kind]:
        with pytest.raises(Refused) as caught:
            read(kind, {field: value for field, value in minimal.items() if field != name})
        missing_customer = name == "customer_id"
        expected = Reason.MISSING_CUSTOMER if missing_customer else Reason.MISSING_FIELD
        assert caught.value.reason is expected
        assert caught.value.field == f"data.{name}"


@pytest.mark.parametrize("kind", FULL_DATA)
def test_optional_fields_may_be_null(kind: str) -> None:
    optional = set(FULL_DATA[kind]) - REQUIRED[kind] - {"complaint"}
    read(kind, {**FULL_DATA[kind], **dict.fromkeys(optional)})


@pytest.mark.parametrize("kind", FULL_DATA)
def test_occurred_at_is_the_events_own_time(kind: str) -> None:
    later = {
        name: "2027-02-03T04:05:06+01:00" if name.endswith("_at") else value
        for name, value in FULL_DATA[kind].items()
    }
    assert read(kind, later).data.occurred_at == datetime(2027, 2, 3, 3, 5, 6, tzinfo=UTC)


@pytest.mark.parametrize("kind", FULL_DATA)
def test_unknown_fields_are_ignored(kind: str) -> None:
    data = FULL_DATA[kind]
    assert read(kind, {**data, "new": [1]}, traceparent="00-1") == read(kind, data)


@pytest.mark.parametrize("kind", FULL_DATA)
def test_events_are_frozen(kind: str) -> None:
    event = read(kind, FULL_DATA[kind])
    with pytest.raises(ValidationError, match="frozen"):
        event.id = "other"
    with pytest.raises(ValidationError, match="frozen"):
        event.data.customer_id = "other"


@pytest.mark.parametrize(("kind", "name"), MONEY_FIELDS)
@pytest.mark.parametrize(
    "value",
    [
        139.12, 139, True, "", " 1", "1 ", "1\n", "-1", "+1", "1,00", "1.", ".5", "1.23456",
        "123456789012345", "1e3", "NaN", "Infinity", "0x1", "1_000", "١٢", {}, ["1"],
    ],
)  # fmt: skip
def test_money_is_refused_unless_it_is_short_non_negative_decimal_text(
    kind: str, name: str, value: Any
) -> None:
    assert_refused(kind, name, value)


@pytest.mark.parametrize(("kind", "name"), MONEY_FIELDS)
@pytest.mark.parametrize("value", ["0", "0.0001", "999999999.9999", "007.10"])
def test_money_is_kept_as_the_text_it_came_as(kind: str, name: str, value: str) -> None:
    assert getattr(read(kind, {**FULL_DATA[kind], name: value}).data, name) == value


@given(st.from_regex(r"[0-9]{1,9}(\.[0-9]{1,4})?", fullmatch=True))
def test_money_units_are_exact(text: str) -> None:
    assert money_units(text) == Decimal(text) * 10_000


def test_money_units_of_the_documented_example() -> None:
    assert money_units("139.12") == 1_391_200


@pytest.mark.parametrize(("kind", "name"), TIME_FIELDS)
@pytest.mark.parametrize(
    "value",
    [
        1_700_000_000, 1.7e9, "1700000000", "1700000000.5", True, "", "now", "2026-01-03",
        "2026-01-03T10:00:00", "2026-01-03T10:00Z", "2026-01-03T10:00:00+0100",
        "2026-13-03T10:00:00Z", "2026-02-30T10:00:00Z", "2026-01-03T25:00:00Z",
        "2026-01-03T10:00:00+24:00", "1969-12-31T23:59:59Z", "1970-01-01T00:30:00+01:00",
        "9999-01-01T00:00:00Z", "9998-12-31T23:59:59-00:01", "0000-01-01T00:00:00Z",
        "٢٠٢٦-01-03T10:00:00Z", "2026-01-03T10:00:00Z\n", {}, [],
    ],
)  # fmt: skip
def test_time_is_refused_unless_it_is_rfc_3339_with_offset_and_in_range(
    kind: str, name: str, value: Any
) -> None:
    assert_refused(kind, name, value)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("1970-01-01T00:00:00Z", datetime(1970, 1, 1, tzinfo=UTC)),
        ("9998-12-31T23:59:59.999999Z", datetime(9998, 12, 31, 23, 59, 59, 999999, tzinfo=UTC)),
        ("2026-01-03t10:00:00z", datetime(2026, 1, 3, 10, tzinfo=UTC)),
        ("2026-01-03 10:00:00-00:00", datetime(2026, 1, 3, 10, tzinfo=UTC)),
        (
            "2026-01-03T10:00:00.123456789+05:45",
            datetime(2026, 1, 3, 10, 0, 0, 123456, tzinfo=timezone(timedelta(hours=5, minutes=45))),
        ),
    ],
)
def test_time_is_read_exactly(text: str, moment: datetime) -> None:
    placed = read("order.placed", {**FULL_DATA["order.placed"], "placed_at": text})
    assert placed.data.placed_at == moment
    assert placed.data.placed_at.utcoffset() == moment.utcoffset()


@given(
    seconds=st.floats(EARLIEST.timestamp(), LATEST.timestamp() - 1),
    offset=st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
def test_any_time_in_range_survives_any_offset_and_leaves_room_for_arithmetic(
    seconds: float, offset: int
) -> None:
    moment = EARLIEST + timedelta(seconds=seconds)
    assume(moment < LATEST and moment + timedelta(minutes=offset) >= EARLIEST)
    moment = moment.astimezone(timezone(timedelta(minutes=offset)))
    read_back = TypeAdapter(Time).validate_json(json.dumps(moment.isoformat()))
    assert read_back == moment
    assert read_back + timedelta(days=364) > read_back


def test_python_code_may_give_aware_datetimes_but_never_naive_ones() -> None:
    adapter = TypeAdapter(Time)
    moment = datetime(2026, 1, 3, tzinfo=UTC)
    assert adapter.validate_python(moment) == moment
    assert adapter.validate_python("2026-01-03T00:00:00Z") == moment
    for naive in (moment.replace(tzinfo=None), 1_700_000_000, "1700000000", moment.date()):
        with pytest.raises(ValidationError):
            adapter.validate_python(naive)


@pytest.mark.parametrize(("kind", "name"), ID_FIELDS)
@pytest.mark.parametrize(
    "value",
    [
        1, 1.5, True, "", " ", "\t", "\u2003", "a\x00", "a\nb", "a\x7f", "\x85a",
        "x" * 201, {}, ["a"],
    ],
)  # fmt: skip
def test_id_is_refused_when_empty_blank_long_not_text_or_with_control_characters(
    kind: str, name: str, value: Any
) -> None:
    assert_refused(kind, name, value)


@pytest.mark.parametrize("value", ["x" * 200, "é" * 200, "клиент 7", "a b", "😀", "null"])
def test_id_is_any_other_text_up_to_200_characters(value: str) -> None:
    data = read("order.cancelled", {**FULL_DATA["order.cancelled"], "customer_id": value}).data
    assert data.customer_id == value


def test_id_with_a_lone_surrogate_is_refused() -> None:
    with pytest.raises(ValidationError):
        OrderPlaced.model_validate({**FULL_DATA["order.placed"], "order_id": "a\ud800"})
    with pytest.raises(Refused) as caught:
        read("order.placed", {**FULL_DATA["order.placed"], "order_id": "a\ud800"})
    assert caught.value.reason is Reason.NOT_JSON


@pytest.mark.parametrize(("kind", "name"), CURRENCY_FIELDS)
@pytest.mark.parametrize(
    "value", ["eur", "EU", "EURO", " EUR", "", "XXX", "XTS", "XAU", "BTC", 978, True, []]
)
def test_currency_is_refused_unless_it_is_or_was_one(kind: str, name: str, value: Any) -> None:
    assert_refused(kind, name, value)


def test_currencies_are_three_capitals_and_the_great_ones_are_there() -> None:
    assert all(len(code) == 3 and code.isascii() and code.isupper() for code in CURRENCIES)
    assert {"EUR", "USD", "GBP", "JPY", "CNY", "INR", "BRL", "CHF", "XOF", "XCG"} <= CURRENCIES
    for code in sorted(CURRENCIES):
        read("order.placed", {**FULL_DATA["order.placed"], "currency": code})


@pytest.mark.parametrize("kind", SCORED)
@pytest.mark.parametrize("value", ["4", True, None, 1e7, -1e7, 10**400, [], {}])
def test_score_is_refused_unless_it_is_a_bounded_number(kind: str, value: Any) -> None:
    assert_refused(kind, "score", value)


@pytest.mark.parametrize("kind", SCORED)
@pytest.mark.parametrize("text", ["NaN", "Infinity", "-Infinity", "1e999", "-1e999"])
def test_score_that_is_not_finite_is_refused(kind: str, text: str) -> None:
    value = json.dumps(envelope(kind, {**FULL_DATA[kind], "score": "HERE"}))
    with pytest.raises(Refused) as caught:
        decode(b"c1", value.replace('"HERE"', text).encode(), STRUCTURED)
    assert caught.value.field == "data.score"


@pytest.mark.parametrize("kind", SCORED)
@pytest.mark.parametrize("score", [-0.001, 5.001, 100])
def test_score_outside_its_scale_is_refused(kind: str, score: float) -> None:
    refused = refusal(kind, score=score, scale={"min": 0, "max": 5})
    assert refused.field == "data.score"
    assert refused.detail == f"data.score is {score}; allowed: a score within its scale, 0.0 to 5.0"


@pytest.mark.parametrize("kind", SCORED)
@pytest.mark.parametrize("score", [0, 2.5, 5])
def test_score_at_the_ends_of_its_scale_is_accepted(kind: str, score: float) -> None:
    data = {**FULL_DATA[kind], "score": score, "scale": {"min": 0, "max": 5}}
    assert read(kind, data).data.score == score


@pytest.mark.parametrize("kind", SCORED)
@pytest.mark.parametrize(("low", "high"), [(5, 5), (5, 1), (0.0, -0.0)])
def test_empty_scale_is_refused(kind: str, low: float, high: float) -> None:
    refused = refusal(kind, score=5, scale={"min": low, "max": high})
    assert (refused.reason, refused.field) == (Reason.INVALID_FIELD, "data.scale.min")


def test_cost_needs_a_currency_and_a_currency_alone_is_fine() -> None:
    data = {"ticket_id": "t1", "resolved_at": "2026-01-03T10:00:00Z"}
    with pytest.raises(Refused) as caught:
        read("ticket.resolved", {**data, "cost": "1.00"})
    assert caught.value.field == "data.currency"
    read("ticket.resolved", {**data, "currency": "EUR"})


@pytest.mark.parametrize("value", [-1, 1.0, 1.5, "1", True, 2**63, 10**300])
def test_revision_is_refused_unless_a_whole_number_that_fits_64_bits(value: Any) -> None:
    assert_refused("order.placed", "revision", value)


@pytest.mark.parametrize("value", [-0.1, "1", True, 1e7])
def test_handling_minutes_are_refused_unless_a_bounded_number(value: Any) -> None:
    assert_refused("ticket.resolved", "handling_minutes", value)


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        ("ticket.opened", "channel", "fax"),
        ("ticket.opened", "channel", "Email"),
        ("ticket.opened", "priority", "asap"),
        ("survey.answered", "kind", "NPS"),
        ("ticket.opened", "complaint", "true"),
        ("ticket.opened", "complaint", 1),
        ("ticket.opened", "complaint", None),
    ],
)
def test_choices_are_refused_unless_spelt_as_written(kind: str, name: str, value: Any) -> None:
    assert_refused(kind, name, value)


def test_complaint_is_false_when_absent() -> None:
    data = {**FULL_DATA["ticket.opened"]}
    del data["complaint"]
    assert read("ticket.opened", data).data.complaint is False


def test_an_order_has_at_most_a_thousand_items() -> None:
    items = [{"sku": "a", "quantity": 1}] * 1_000
    data = read("order.placed", {**FULL_DATA["order.placed"], "items": items}).data
    assert len(data.items) == 1_000
    assert_refused("order.placed", "items", [*items, items[0]])


def test_an_item_is_named_by_its_place() -> None:
    items = [{"sku": "a", "quantity": 1}, {"sku": "b", "quantity": -1}]
    assert refusal("order.placed", items=items).field == "data.items[1].quantity"


def test_a_customer_cannot_be_merged_with_itself() -> None:
    assert_refused("customer.merged", "merged_from", "c1")


def test_every_wrong_field_is_named_in_one_refusal() -> None:
    refused = refusal("order.placed", total=1, currency="eur", placed_at="today")
    assert refused.field == "data.placed_at"
    assert refused.detail.endswith("(also wrong: data.currency, data.total)")


def test_the_value_seen_is_shortened() -> None:
    assert len(refusal("order.placed", total="9" * 10_000).detail) < 300
    assert len(refusal("order.placed", total=["9" * 10_000] * 50).detail) < 300


@pytest.mark.parametrize("kind", FULL_DATA)
def test_json_schema_accepts_what_we_accept(kind: str) -> None:
    schema = json_schemas()[kind]
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(envelope(kind, FULL_DATA[kind]))
    minimal = {name: FULL_DATA[kind][name] for name in REQUIRED[kind]}
    validator.validate(envelope(kind, minimal))


@pytest.mark.parametrize("kind", FULL_DATA)
@pytest.mark.parametrize("value", [None, 7, True, "", "x" * 201, "a\x00", [], {}])
def test_json_schema_refuses_what_we_refuse_field_by_field(kind: str, value: Any) -> None:
    validator = jsonschema.Draft202012Validator(json_schemas()[kind])
    for name in FULL_DATA[kind]:
        event = envelope(kind, {**FULL_DATA[kind], name: value})
        try:
            decode(b"c1", json.dumps(event).encode(), STRUCTURED)
        except Refused:
            if name not in {"score", "cost", "currency"}:
                assert not validator.is_valid(event), name
        else:
            assert validator.is_valid(event), name


@pytest.mark.parametrize("kind", FULL_DATA)
def test_what_we_write_is_read_back_the_same(kind: str) -> None:
    event = read(kind, FULL_DATA[kind])
    assert decode(None, EVENT.dump_json(event), STRUCTURED) == event
    assert decode(None, event.model_dump_json(exclude_none=True).encode(), STRUCTURED) == event
