"""The reckoner agrees with the batch core, and the workload has all that it must reckon with."""

import json
from collections import Counter
from datetime import timedelta
from decimal import Decimal
from typing import NamedTuple

import pytest

from models.aggregate.record import customers
from models.aggregate.summary import Summary
from streams.batch import score_events
from streams.topics import home_partition
from tests.faults.offline import CONTEXT, ECONOMICS, NOW, PARTITIONS, TERMS, workload
from tests.faults.published import TIME_FIELD
from tests.faults.reckoner import reckon
from tests.faults.workload import Workload

SCALE = 10_000


@pytest.mark.parametrize("identity", [False, True])
@pytest.mark.parametrize("seed", range(4))
def test_the_reckoner_agrees_with_the_batch_core(seed: int, identity: bool):
    made = workload(seed, identity=identity)
    expected = reckon(made.events, TERMS, NOW, "run1")
    batch = score_events(made.events, CONTEXT, NOW + timedelta(days=1))
    records = {key.decode(): record for key, record in customers(batch.states)}
    assert records.keys() == expected.customers.keys()
    for customer, record in records.items():
        summary = Summary(record.aggregate, ECONOMICS)
        due = expected.customers[customer]
        assert (
            summary.orders, summary.purchase_days, summary.refunds, summary.contacts,
            summary.complaints, summary.gross, summary.refunded, summary.margin(ECONOMICS),
            summary.acquisition_cost, summary.support_cost,
        ) == (
            due.orders, due.purchase_days, due.refunds, due.contacts, due.complaints,
            due.gross * SCALE, due.refunded * SCALE, due.margin * SCALE,
            due.acquisition_cost * SCALE, due.cost_to_serve * SCALE,
        )  # fmt: skip
        assert due.last_event <= record.as_of <= due.latest_event
    reasons = Counter()
    for refusal, count in expected.refused.items():
        reasons[refusal.reason] += count
    # The batch leaves out what lies after its time, where the stream refuses it.
    assert reasons.pop("future") == batch.left_out
    assert reasons == batch.dead_letters
    assert len(reasons) == 10


def test_a_workload_is_the_same_for_the_same_seed():
    assert workload(3).items == workload(3).items
    assert workload(3).items != workload(4).items


def test_a_workload_has_everything_that_goes_wrong():
    made = workload()
    expected = reckon(made.events, TERMS, NOW, "run1")
    values = Counter(event.value for event in made.events)
    assert max(values.values()) > 1
    elsewhere = [i for i in made.items if i.partition is not None and i.event.key is not None]
    assert any(i.partition != home_partition(i.event.key, PARTITIONS) for i in elsewhere)
    assert any(event.key is None for event in made.events)
    assert any(name == "ce_type" for event in made.events for name, _ in event.headers)
    assert any(due.orders > 10 for due in expected.customers.values())
    assert all(due.orders < 200 for due in expected.customers.values())
    times = [event.time for event in made.events if event.time <= NOW]
    assert max(b - a for a, b in zip(times[1:], times, strict=False)) > timedelta(days=300)


def test_no_event_is_nearly_too_far_ahead():
    """So that what is refused is the same, however many hours after `now` it arrives."""
    hour = timedelta(hours=1)
    for seed in range(4):
        made = Workload(seed, 120, 8_000, "run1", now=NOW, partitions=PARTITIONS)
        ahead = [event.time - NOW for event in made.events]
        assert not any(15 * hour < span < 30 * hour for span in ahead)
        assert any(timedelta(0) < span <= 15 * hour for span in ahead)
        assert any(span >= 30 * hour for span in ahead)


def test_plain_events_are_clean_and_unique():
    made = workload(plain=True)
    expected = reckon(made.events, TERMS, NOW, "run1")
    orders = [e for e in made.events if b'"order.placed"' in e.value]
    assert not expected.refused
    assert len({e.value for e in made.events}) == len(made.events)
    assert sum(due.orders for due in expected.customers.values()) == len(orders)
    assert [e.time for e in made.events] == sorted(e.time for e in made.events)


def event(kind: str, customer: str, days: float, **data) -> object:
    """An event that the reckoner reads, so many days before now."""

    class Given(NamedTuple):
        key: bytes | None
        value: bytes
        headers: tuple[tuple[str, bytes], ...] = ()

    data = {"customer_id": customer, TIME_FIELD[kind]: (NOW - timedelta(days=days)).isoformat()} | {
        **data
    }
    document = {"specversion": "1.0", "id": "1", "source": "/s", "type": kind, "data": data}
    return Given(customer.encode(), json.dumps(document).encode())


def ordered(customer: str, order: str, days: float, total: str) -> object:
    return event("order.placed", customer, days, order_id=order, total=total, currency="USD")


def test_merged_customers_count_as_one_through_merges_of_merges():
    expected = reckon(
        [
            ordered("a", "1", 9, "1.00"),
            event("customer.merged", "b", 8, merged_from="c"),
            event("customer.merged", "a", 7, merged_from="b"),
            ordered("b", "2", 6, "2.00"),
            ordered("c", "3", 5, "4.00"),
        ],
        TERMS,
        NOW,
    )
    assert {c: d.gross for c, d in expected.customers.items()} == {"a": Decimal("7.00")}
    assert expected.merged == {"b": "a", "c": "a"}


def test_erased_customers_keep_only_what_came_later():
    expected = reckon(
        [
            ordered("a", "1", 9, "1.00"),
            event("customer.erased", "a", 5),
            event("customer.erased", "b", 5),
            ordered("a", "2", 5, "2.00"),
            ordered("a", "3", 4, "4.00"),
            ordered("b", "1", 6, "8.00"),
        ],
        TERMS,
        NOW,
    )
    assert {c: d.gross for c, d in expected.customers.items()} == {"a": Decimal("4.00")}
    assert expected.erased == {"b"}
