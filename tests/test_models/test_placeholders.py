"""Ids are taken literally, except for words that stand for a missing one: those are refused."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from models.context import Context
from models.contracts import EVENT_TYPES, TOPIC_OF_TYPE, Reason
from models.economics import NO_CUSTOMERS, PLACEHOLDERS, Economics
from models.engine import process

from .events import KafkaRecord, at, body, milliseconds
from .hostile import FULL_DATA
from .parameters import PARAMETERS

NOW = milliseconds(1_000)
CONTRACTS = Path(__file__).parents[2] / "docs/contracts.md"
EUROS = Economics(exchange_rates={"EUR": "1.1", "GBP": "1.3"})
OTHER_IDS = [
    ("order.placed", "order_id"),
    ("order.refunded", "refund_id"),
    ("order.refunded", "order_id"),
    ("order.cancelled", "order_id"),
    ("ticket.opened", "ticket_id"),
    ("ticket.resolved", "ticket_id"),
    ("ticket.rated", "ticket_id"),
    ("survey.answered", "survey_id"),
]


def outputs_of(kind, data, key=b"c1", economics=EUROS):
    record = KafkaRecord(0, NOW, key, body(kind, data))
    context = Context(economics, PARAMETERS, erasure_key=b"s" * 32)
    return process({}, "shop/0", [record], context, now=NOW)


def refusal(kind, data, key=b"c1"):
    outputs = outputs_of(kind, data, key)
    [letter] = outputs.dead_letters
    assert letter.refused.reason is Reason.PLACEHOLDER_ID
    assert (outputs.records, outputs.accepted) == ({}, 0)
    return letter.refused


@pytest.mark.parametrize("word", sorted(NO_CUSTOMERS))
@pytest.mark.parametrize("kind", sorted({*EVENT_TYPES} - {"customer.erased"}))
def test_no_customer_is_called_by_a_placeholder(kind, word):
    for spelt in (word, word.upper(), word.title()):
        refused = refusal(kind, FULL_DATA[kind] | {"customer_id": spelt}, spelt.encode())
        assert refused.field == "data.customer_id"
        assert refused.detail.startswith(f"data.customer_id is {spelt!r}, a placeholder and no id")


def test_a_key_that_names_the_customer_is_no_placeholder_either():
    data = {**FULL_DATA["ticket.rated"]}
    del data["customer_id"]
    assert refusal("ticket.rated", data, b"Guest").field == "key"


def test_a_placeholder_in_the_key_matters_only_if_it_names_the_customer():
    outputs = outputs_of("order.placed", FULL_DATA["order.placed"], b"null")
    assert not outputs.dead_letters
    assert [each.key for each in outputs.rerouted] == [b"c1"]


def test_nobody_is_merged_with_a_placeholder():
    refused = refusal("customer.merged", FULL_DATA["customer.merged"] | {"merged_from": "0"})
    assert refused.field == "data.merged_from"
    assert "as one customer" in refused.detail


@pytest.mark.parametrize(("kind", "field"), OTHER_IDS)
@pytest.mark.parametrize("word", sorted(PLACEHOLDERS))
def test_no_order_refund_ticket_or_survey_is_called_so(kind, field, word):
    refused = refusal(kind, FULL_DATA[kind] | {field: word})
    assert refused.field == f"data.{field}"
    assert f"as one {field.removesuffix('_id')};" in refused.detail


@pytest.mark.parametrize("name", ["0", "nullify", "none of them", "Gunther", "x" * 200, "00", "na"])
def test_other_ids_are_taken_as_they_are(name):
    order = FULL_DATA["order.placed"] | {"order_id": name}
    customer = "c1" if name == "0" else name
    outputs = outputs_of("order.placed", order | {"customer_id": customer}, customer.encode())
    assert (outputs.dead_letters, outputs.accepted) == ([], 1)


def test_ids_differ_by_case_and_by_white_space():
    order = {"order_id": "o", "placed_at": at(1), "currency": "USD", "total": "1"}
    records = [
        KafkaRecord(n, NOW, name.encode(), body("order.placed", order | {"customer_id": name}))
        for n, name in enumerate(["ann", "Ann", "ann "])
    ]
    outputs = process({}, "shop/0", records, Context(EUROS, PARAMETERS), now=NOW)
    assert outputs.new_customers == 3


def test_a_shop_may_allow_a_placeholder_as_an_id():
    allowing = Economics(exchange_rates=EUROS.exchange_rates, placeholder_ids={"Guest", "0"})
    for name in ("guest", "GUEST", "0"):
        data = FULL_DATA["order.placed"] | {"customer_id": name, "order_id": "guest"}
        assert outputs_of("order.placed", data, name.encode(), allowing).accepted == 1
    data = FULL_DATA["order.placed"] | {"customer_id": "null"}
    assert outputs_of("order.placed", data, b"null", allowing).accepted == 0
    with pytest.raises(ValidationError, match=r"\['gust'\] are accepted anyway"):
        Economics(placeholder_ids={"gust"})


def test_what_was_accepted_under_a_placeholder_can_be_erased():
    data = FULL_DATA["customer.erased"] | {"customer_id": "guest"}
    outputs = outputs_of("customer.erased", data, b"guest")
    assert (outputs.dead_letters, outputs.erased) == ([], 1)


def test_the_types_of_the_shop_have_their_ids_checked():
    checked = {kind for kind, _ in OTHER_IDS} | {"customer.acquired"}
    assert checked == {kind for kind, topic in TOPIC_OF_TYPE.items() if topic != "identities"}


def test_the_list_is_documented():
    [line] = re.findall(
        r"when there is no id\. (.*?) are refused, in upper or lower case",
        CONTRACTS.read_text(),
        re.DOTALL,
    )
    assert set(re.findall(r"`([^`]+)`", line)) == PLACEHOLDERS
