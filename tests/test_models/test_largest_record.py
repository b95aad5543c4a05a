"""Whatever is sent, and whatever is configured: what is stored and handed over fits its topic."""

from models.aggregate.record import (
    Change,
    CustomerRecord,
    MergedCustomer,
    OutboxEntry,
    encode_record,
)
from models.economics import MOST_REMEMBERED
from models.identities import _MERGED_BYTES, MOST_MERGED_BYTES, MOST_MERGES_FOLLOWED
from models.identity import Absorb, encode_message
from models.outbox import OUTBOX_BYTES, most_in_flight
from models.routing import MOST_LANES
from models.sizes import record_size

from .test_pending import LONGEST, TOPICS
from .test_sizes import full

TOPIC_TAKES = 4 * 1024 * 1024
"""The changelog and clv.identity; see `streams.topics.plan`."""

LONG = "𝛼" * 196
"""An id of two hundred characters takes eight hundred bytes."""

MERGED = {
    f"{LONG}{number:04}": MergedCustomer(2**63 - 1, 2**63 - 1)
    for number in range(MOST_MERGED_BYTES // (784 + 4 + _MERGED_BYTES))
}
LANES = {
    f"{'t' * 201}/9999{''.join(['>9999'] * 7)}>{number:04}": 2**63 - 1
    for number in range(MOST_LANES)
}


def entries(topic):
    origin = f"{topic}.{'x' * 190}/9999"
    changes = tuple(
        Change(dimension.name, "𝛼" * 60, dimension.rules[0].segment, dimension.rules[0].id)
        for dimension in LONGEST.dimensions
    )
    evidence = tuple({"clv": 1.5, "orders": 1.5, "purchase_days": 1.5} for _ in changes)
    entry = OutboxEntry(
        2**63 - 1, 2**63 - 1, origin, 2**63 - 1, 1.5, 1.5, changes, evidence,
        rules="v" * 100, model="m" * 100,
    )  # fmt: skip
    return (entry,) * most_in_flight(LONGEST.entry_bytes)


def test_the_largest_record_of_a_customer_can_be_stored():
    record = CustomerRecord(
        full(MOST_REMEMBERED),
        version=2**63 - 1,
        as_of=2**63 - 1,
        applied=LANES,
        segments={each.name: each.rules[0].segment for each in LONGEST.dimensions},
        since={each.name: 2**63 - 1 for each in LONGEST.dimensions},
        clv=1.5,
        erased_at=2**63 - 1,
        into=LONG,
        absorbed=MERGED,
        outbox=tuple(entry for topic in TOPICS for entry in entries(topic)),
    )
    stored = encode_record(record)
    assert len(stored) > TOPIC_TAKES / 2
    assert record_size(LONG.encode(), stored, ()) < TOPIC_TAKES


def test_what_is_pending_of_one_topic_takes_what_it_may_and_no_more():
    sizes = [
        len(encode_record(CustomerRecord(outbox=entries(topic))))
        - len(encode_record(CustomerRecord()))
        for topic in TOPICS
    ]
    assert OUTBOX_BYTES / 2 < max(sizes) <= OUTBOX_BYTES


def test_the_largest_state_can_be_handed_over():
    via = (LONG,) * MOST_MERGES_FOLLOWED
    message = Absorb(LONG, full(MOST_REMEMBERED), 2**63 - 1, MergedCustomer(1, 1), MERGED, via)
    assert record_size(LONG.encode(), encode_message(message), ()) < TOPIC_TAKES
