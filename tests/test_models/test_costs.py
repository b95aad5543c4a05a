"""What an event of each type can cost at most: bytes of its customer's record, and time.

A publisher sends the worst it can think of: ever new ids of the longest kind, in no order, all for
one customer. The record must stay small, and the last thousands of events must cost no more than
the first ones.
"""

import time
from itertools import count

import pytest

from models.aggregate.record import CustomerRecord, MergedCustomer, encode_record
from models.context import Context
from models.contracts import EVENT_TYPES, TOPIC_OF_TYPE
from models.economics import Economics
from models.engine import exchange, process
from models.identities import MOST_MERGED
from models.identity import Absorb, encode_message

from .events import KafkaRecord, at, body, milliseconds
from .parameters import PARAMETERS

CONTEXT = Context(Economics(), PARAMETERS, erasure_key=b"s" * 32)
NOW = milliseconds(1_000)
EVENTS = 12_000
BATCH = 100
LARGEST_RECORD = 40 * 1024
"""Bytes with 256 entries of a kind remembered, as is the default."""

SCALE = {"min": 1, "max": 5}


def long(number):
    return f"{number}".rjust(199, "x")


WORST = {
    # Every fifth version moves its order back in time, so that the former ones are kept too.
    "order.placed": lambda n: {
        "order_id": long(n // 5), "placed_at": at(900 - n % 5 - n / 50), "revision": n % 5,
        "currency": "USD", "total": "5.00",
    },
    "order.refunded": lambda n: {
        "refund_id": long(n), "refunded_at": at(n % 999), "currency": "USD", "amount": "5.00",
    },
    "order.cancelled": lambda n: {"order_id": long(n), "cancelled_at": at(n % 999)},
    "ticket.opened": lambda n: {
        "ticket_id": long(n), "opened_at": at(n % 999), "channel": "email", "complaint": True,
    },
    "ticket.resolved": lambda n: {"ticket_id": long(n), "resolved_at": at(n % 999)},
    "ticket.rated": lambda n: {
        "ticket_id": long(n), "rated_at": at(n % 999), "score": 4, "scale": SCALE,
    },
    "survey.answered": lambda n: {
        "survey_id": long(n), "answered_at": at(n % 999), "kind": ("nps", "csat", "ces")[n % 3],
        "score": 4, "scale": SCALE,
    },
    "customer.acquired": lambda n: {
        "acquired_at": at(n % 999), "cost": f"{n % 9}.00", "currency": "USD",
    },
    "customer.merged": lambda n: {"merged_from": long(n), "merged_at": at(n % 999)},
    "customer.erased": lambda n: {"erased_at": at(n / 13)},
}  # fmt: skip


def store(states, outputs):
    for key, record in outputs.records.items():
        if record is None:
            states.pop(key, None)
        else:
            states[key] = record


def costs(work, records, states):
    """CPU seconds of the first and of the last quarter, and the largest record on the way."""
    seconds, largest = [], 0
    for start in range(0, len(records), BATCH):
        rest = records[start : start + BATCH]
        began = time.process_time()
        while rest:
            outputs = work(states, rest)
            store(states, outputs)
            rest = rest[outputs.taken :]
        seconds.append(time.process_time() - began)
        largest = max(largest, *map(len, states.values()), 0) if states else largest
    quarter = len(seconds) // 4
    return sum(seconds[:quarter]), sum(seconds[-quarter:]), largest


@pytest.mark.heavy
@pytest.mark.parametrize("kind", EVENT_TYPES)
def test_no_flood_of_one_type_makes_a_record_large_or_an_event_dear(kind):
    def work(states, records):
        role = TOPIC_OF_TYPE[kind]
        return process(states, f"{role}/0", records, CONTEXT, now=NOW, role=role)

    records = [
        KafkaRecord(n, NOW, b"c1", body(kind, {"customer_id": "c1", **WORST[kind](n)}))
        for n in range(EVENTS)
    ]
    first, last, largest = costs(work, records, {})
    assert largest < LARGEST_RECORD
    assert last < 3 * first


def test_acquisitions_under_one_key_for_ever_new_customers_stay_with_those_customers():
    def work(states, records):
        return process(states, "customers/0", records, CONTEXT, now=NOW, role="customers")

    data = WORST["customer.acquired"]
    records = [
        KafkaRecord(n, NOW, b"c1", body("customer.acquired", {"customer_id": long(n), **data(n)}))
        for n in range(EVENTS)
    ]
    first, last, largest = costs(work, records, {})
    assert largest == 0
    assert last < 3 * first


def test_a_customer_into_whom_as_many_are_merged_as_may_be_costs_no_more_with_each():
    def work(states, records):
        return exchange(states, "identity/0", records, CONTEXT)

    def message(n):
        guest = CustomerRecord(version=1)
        return encode_message(Absorb(f"g{n}", guest.aggregate, 1, MergedCustomer(1, n + 1), {}))

    numbers = count()
    full = CustomerRecord(version=1)
    full.absorbed = {f"f{n:04}": MergedCustomer(1, 1) for n in range(MOST_MERGED)}
    for state, bound in ((CustomerRecord(version=1), 0.01), (full, 0.01)):
        states = {b"c1": encode_record(state)}
        records = [KafkaRecord(n, NOW, b"c1", message(next(numbers))) for n in range(MOST_MERGED)]
        first, last, largest = costs(work, records, states)
        assert (first + last) / (MOST_MERGED / 2) < bound
        assert largest < 64 * 1024
