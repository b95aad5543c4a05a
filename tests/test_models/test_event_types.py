"""Event types: each is one entry, from its contract to what it does to a customer's state."""

import json
from collections.abc import Iterator
from typing import ClassVar

import pytest

from models.aggregate.fold import ENTRIES, Effect, fold, merge, without
from models.aggregate.state import Aggregate
from models.context import Context
from models.contracts import ENVELOPES, EVENT_TYPES, TOPIC_OF_TYPE, TYPES_OF_TOPIC, json_schemas
from models.economics import Economics
from models.engine import process
from models.events.fields import CurrencyCode, EventData, Id, MoneyText, Time, money_units
from models.events.kinds import EVENTS, EventType, register, unregister
from models.events.refunds import REFUNDS, Refund

from .events import KafkaRecord, at, body, event, milliseconds, placed

CONFIG = Economics()


def test_each_type_has_an_envelope_a_topic_and_a_schema():
    for name, kind in EVENTS.items():
        assert kind.name == name
        assert EVENT_TYPES[name] is kind.data
        assert ENVELOPES[name].model_fields["data"].annotation is kind.data
        assert name in TYPES_OF_TOPIC[kind.topic]
        assert TOPIC_OF_TYPE[name] == kind.topic
        assert name in json_schemas()
        assert set(kind.amounts) <= kind.data.model_fields.keys()
        assert not kind.amounts or "currency" in kind.data.model_fields
        assert kind.data.time_field in kind.data.model_fields


def test_only_what_concerns_identities_is_not_folded():
    for kind in EVENTS.values():
        assert (kind.fold is None) == (kind.topic == "identities")
        if kind.too_old is not None:
            assert kind.fold is not None


def test_each_kind_of_entry_is_a_field_of_the_state_and_empty_without_events():
    nothing = Aggregate()
    for kind in ENTRIES:
        assert getattr(nothing, kind.field) == {}
        assert kind.joined(nothing, nothing)[kind.field] == {}
        assert kind.without(nothing, 0)[kind.field] == {}
    fields = {name for kind in ENTRIES for name in kind.joined(nothing, nothing)}
    assert fields | {"compacted"} == set(Aggregate.__struct_fields__)


class OrderReturned(EventData):
    """Goods came back, and so does what was paid for them."""

    time_field: ClassVar[str] = "returned_at"

    return_id: Id
    currency: CurrencyCode
    value: MoneyText
    returned_at: Time


@pytest.fixture
def returned() -> Iterator[EventType]:
    """A toy type of events that become refunds: its one entry."""

    def take_back(state, said, time, config):
        known = state.refunds.get(key := hash(said.data.return_id))
        incoming = Refund(time, 0, 0, money_units(said.data.value), config.home, 0)
        if known is not None and known >= incoming:
            return Effect.DUPLICATE
        state.refunds[key] = incoming
        state.refunds = REFUNDS.in_order(state.refunds)
        return Effect.APPLIED

    kind = EventType("order.returned", OrderReturned, "orders", ("value",), take_back)
    register(kind)
    yield kind
    unregister(kind.name)


def returns(name: str, days: float, value: str = "5.00", **more: object) -> dict[str, object]:
    return {
        "customer_id": "c1", "return_id": name, "returned_at": at(days), "currency": "USD",
        "value": value, **more,
    }  # fmt: skip


def work(*records, role="orders"):
    numbered = [
        KafkaRecord(n, milliseconds(50), b"c1", value, headers)
        for n, (value, headers) in enumerate(records)
    ]
    context = Context(CONFIG)
    return process({}, "shop.orders/0", numbered, context, now=milliseconds(100), role=role)


def test_a_new_event_type_is_one_entry(returned):
    """It is read in both modes, belongs on its topic, counts, and is refused in words."""
    order = body("order.placed", {
        "customer_id": "c1", "order_id": "o", "placed_at": at(1), "currency": "USD", "total": "40",
    })  # fmt: skip
    binary = json.dumps(returns("b", 3)).encode()
    attributes = tuple(
        (f"ce_{name}", value)
        for name, value in {
            "specversion": b"1.0", "id": b"x", "source": b"/shop", "type": b"order.returned",
        }.items()
    )  # fmt: skip
    outputs = work(
        (order, ()),
        (body("order.returned", returns("a", 2)), ()),
        (binary, (("content-type", b"application/json"), *attributes)),
        (body("order.returned", returns("a", 2)), ()),
        (body("order.returned", returns("c", 2, currency="EUR")), ()),
        (body("order.returned", returns("d", 2, value="-5")), ()),
    )
    assert (outputs.accepted, outputs.duplicates) == (3, 1)
    totals = json.loads(outputs.updates[0].document)["data"]["totals"]
    assert (totals["orders"], totals["refunds"], totals["refunded"]) == (1, 2, 10.0)
    assert [(each.refused.reason, each.refused.field) for each in outputs.dead_letters] == [
        ("no-exchange-rate", "data.currency"),
        ("invalid-field", "data.value"),
    ]
    elsewhere = work((body("order.returned", returns("a", 2)), ()), role="support")
    assert "belongs on the topic of the orders" in elsewhere.dead_letters[0].refused.detail
    assert json_schemas()["order.returned"]["properties"]["type"]["const"] == "order.returned"


def test_the_algebra_holds_for_a_new_type(returned):
    said = [placed("o", 1), *(event("order.returned", returns(name, 2)) for name in "ab")]
    forwards, backwards, one, other = Aggregate(), Aggregate(), Aggregate(), Aggregate()
    for each in said:
        fold(forwards, each, CONFIG)
    for each in [*reversed(said), *said]:
        fold(backwards, each, CONFIG)
    for number, each in enumerate(said):
        fold((one, other)[number % 2], each, CONFIG)
    assert forwards == backwards == merge(one, other, CONFIG)
    assert not without(forwards, milliseconds(2)).refunds


def test_a_type_that_is_taken_out_is_unknown_again(returned):
    unregister(returned.name)
    letter = work((body("order.returned", returns("a", 2)), ())).dead_letters[0]
    assert letter.refused.reason == "unknown-type"
    register(returned)
