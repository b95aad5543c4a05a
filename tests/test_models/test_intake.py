"""Which topics take which events, and what no publisher can do to a topic of somebody else."""

import json

import pytest

from models.acceptance import ERASURE_TOLERANCE
from models.aggregate.record import decode_forgotten
from models.context import Context
from models.contracts import EVENT_TYPES, MAX_HEADERS, TOPIC_OF_TYPE, TYPES_OF_TOPIC, Reason
from models.economics import Economics
from models.engine import process
from models.routing import ROUTE

from .events import KafkaRecord, at, body, milliseconds
from .hostile import FULL_DATA
from .parameters import PARAMETERS

CONTEXT = Context(Economics(exchange_rates={"EUR": "1.1", "GBP": "1.3"}), PARAMETERS)
NOW = milliseconds(1_000)
DAY = 86_400_000


def record(kind, data, offset=0, timestamp=NOW, headers=()):
    return KafkaRecord(offset, timestamp, b"c1", body(kind, data), headers)


def refusals(outputs):
    return [letter.refused.reason for letter in outputs.dead_letters]


def test_every_type_has_one_topic_of_the_shop():
    assert set(TOPIC_OF_TYPE) == set(EVENT_TYPES)
    shop = [kinds for role, kinds in TYPES_OF_TOPIC.items() if role != "backfill"]
    assert sorted(kind for kinds in shop for kind in kinds) == sorted(EVENT_TYPES)


@pytest.mark.parametrize("kind", EVENT_TYPES)
@pytest.mark.parametrize("role", TYPES_OF_TOPIC)
def test_a_topic_takes_its_own_types_and_no_other(kind, role):
    given = record(kind, FULL_DATA[kind])
    outputs = process({}, f"{role}/0", [given], CONTEXT, now=NOW, role=role)
    if kind in TYPES_OF_TOPIC[role]:
        assert refusals(outputs) == []
        return
    [letter] = outputs.dead_letters
    assert letter.refused.reason is Reason.WRONG_TOPIC
    assert f"the topic of the {TOPIC_OF_TYPE[kind]}" in letter.refused.detail
    assert (outputs.records, outputs.messages) == ({}, [])


@pytest.mark.parametrize("kind", ["customer.merged", "customer.erased"])
def test_only_the_topic_of_the_identities_merges_and_erases(kind):
    assert [role for role, kinds in TYPES_OF_TOPIC.items() if kind in kinds] == ["identities"]


@pytest.mark.parametrize(("more", "reasons"), [(0, []), (1, [Reason.TOO_LARGE])])
def test_a_record_with_more_headers_than_anybody_needs_is_refused(more, reasons):
    headers = [("content-type", b"application/cloudevents+json")]
    headers += [("x", b"")] * (MAX_HEADERS - 1 + more)
    given = record("order.placed", FULL_DATA["order.placed"], headers=headers)
    outputs = process({}, "orders/0", [given], CONTEXT, now=NOW, role="orders")
    assert refusals(outputs) == reasons


@pytest.mark.parametrize(
    ("timestamp", "now"), [(NOW, NOW), (NOW + DAY, NOW), (NOW, NOW + DAY), (0, NOW)]
)
def test_an_erasure_reaches_no_further_than_its_arrival(timestamp, now):
    """Neither by its date nor by the timestamp that a publisher gives its record."""

    def erased(ahead):
        data = {"customer_id": "c1", "erased_at": at(1_000 + ahead / DAY)}
        given = record("customer.erased", data, timestamp=timestamp)
        return process({}, "identities/0", [given], CONTEXT, now=now, role="identities")

    assert refusals(erased(ERASURE_TOLERANCE + 1_000)) == [Reason.FUTURE]
    for ahead in (-1_000, 0, ERASURE_TOLERANCE - 1_000):
        outputs = erased(ahead)
        assert refusals(outputs) == []
        [left] = [decode_forgotten(data) for data in outputs.records.values() if data is not None]
        assert left.erased_at == NOW + min(ahead, 0)


@pytest.mark.parametrize("via", [[""], ["x" * 10_000], ["\x00"], ["a", "b" * 300]])
def test_a_route_that_names_no_customers_is_no_route(via):
    route = {"origin": "orders/0", "offset": 0, "key": None, "via": via}
    header = (ROUTE, json.dumps(route).encode())
    given = record("order.placed", FULL_DATA["order.placed"], headers=[header])
    outputs = process({}, "rerouted/0", [given], CONTEXT, now=NOW, role="rerouted")
    assert len(refusals(outputs)) == 1
    assert (outputs.records, outputs.rerouted) == ({}, [])
