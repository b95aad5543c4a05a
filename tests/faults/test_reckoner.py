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
from streams.kafka.partitions import home_partition
from tests.faults.misrouting import crc32_partition, is_misrouted
from tests.faults.offline import CONTEXT, ECONOMICS, NOW, PARTITIONS, TERMS, workload
from tests.faults.published import TIME_FIELD, TOPIC
from tests.faults.reckoner import reckon
from tests.faults.remembered import REMEMBERED, Undecided
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
    assert len(reasons) == 12


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
        topic: str
        headers: tuple[tuple[str, bytes], ...] = ()

    topic = TOPIC.get(kind) or TOPIC[kind.partition(".")[0]]
    data = {"customer_id": customer, TIME_FIELD[kind]: (NOW - timedelta(days=days)).isoformat()} | {
        **data
    }
    document = {"specversion": "1.0", "id": "1", "source": "/s", "type": kind, "data": data}
    return Given(customer.encode(), json.dumps(document).encode(), topic)


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


def test_an_order_revised_to_an_earlier_time_is_what_it_was_when_that_is_erased():
    expected = reckon(
        [
            ordered("a", "1", 5, "1.00"),
            event("order.placed", "a", 9, order_id="1", total="2.00", currency="USD", revision=1),
            event("customer.erased", "a", 7),
        ],
        TERMS,
        NOW,
    )
    due = expected.customers["a"]
    assert (due.orders, due.gross) == (1, Decimal("1.00"))


def test_of_two_cancellations_the_one_after_an_erasure_still_cancels():
    events = [
        ordered("a", "1", 5, "1.00"),
        event("order.cancelled", "a", 8, order_id="1"),
        event("order.cancelled", "a", 4, order_id="1"),
        event("customer.erased", "a", 7),
    ]
    assert reckon(events, TERMS, NOW).customers["a"].orders == 0
    # Without it nothing says that the order was cancelled.
    del events[2]
    assert reckon(events, TERMS, NOW).customers["a"].orders == 1


def test_what_happened_at_the_very_moment_of_an_erasure_is_erased():
    events = [ordered("a", "1", 7, "1.00"), event("customer.erased", "a", 7)]
    assert reckon(events, TERMS, NOW).customers == {}


def ticket(number: int, days: float, kind: str = "opened", **more) -> object:
    more = {"channel": "email"} | more if kind == "opened" else more
    more |= {"score": 3, "scale": {"min": 1, "max": 5}} if kind == "rated" else {}
    return event(f"ticket.{kind}", "a", days, ticket_id=f"t{number}", **more)


def refunded(number: int, days: float, **more) -> object:
    return event(
        "order.refunded", "a", days, refund_id=f"r{number}", amount="1.00", currency="USD", **more
    )


def again(record) -> object:
    """The same event, as a publisher sends it a second time."""
    return record._replace(headers=(("x-attempt", b"2"),))


def reckoned(events):
    """Of the one customer: what they come to, what must be refused, and what may be."""
    expected = reckon(events, TERMS, NOW)
    assert {refusal.reason for refusal in (*expected.refused, *expected.optional)} <= {
        "beyond-memory"
    }
    refused = Counter({r.value: count for r, count in expected.refused.items()})
    return expected.customers["a"], refused, {r.value for r in expected.optional}


FULL = REMEMBERED
TICKETS = [ticket(n, 300 - n) for n in range(FULL + 1)]
"""One more than is remembered: the first is forgotten, of 300 days ago."""

ORDERS = [ordered("a", f"o{n}", 300 - n, "1.00") for n in range(FULL + 1)]
REFUNDS = [refunded(n, 300 - n) for n in range(FULL + 1)]


def test_a_long_history_counts_whole():
    due, refused, optional = reckoned([*TICKETS, *ORDERS, *REFUNDS])
    assert (due.contacts, due.orders, due.refunds) == (FULL + 1, FULL + 1, FULL + 1)
    assert not refused
    assert not optional


def test_as_many_as_are_remembered_are_no_long_history():
    """Nothing is forgotten: a ticket that nobody heard of may be resolved."""
    due, refused, _ = reckoned([*TICKETS[:FULL], ticket(0, 20, "resolved")])
    assert due.contacts == FULL
    assert not refused


@pytest.mark.parametrize("kind", ["resolved", "rated"])
def test_a_forgotten_ticket_is_neither_resolved_nor_rated(kind: str):
    late = ticket(0, 20, kind)
    due, refused, optional = reckoned([*TICKETS, late])
    assert due.contacts == FULL + 1
    assert due.cost_to_serve == (FULL + 1) * TERMS.contact_costs["email"]
    assert refused == {late.value: 1}
    assert not optional


def test_nor_is_one_that_nobody_heard_of():
    early, late = ticket(998, 299.5, "resolved"), ticket(999, 20, "resolved")
    due, refused, _ = reckoned([early, *TICKETS, late])
    assert due.contacts == FULL + 2
    assert refused == {late.value: 1}


def test_tickets_without_their_opening_are_kept_apart():
    early = ticket(998, 299.5, "resolved")
    due, refused, _ = reckoned([early, *TICKETS[:FULL], ticket(0, 20, "resolved")])
    assert due.contacts == FULL + 1
    assert not refused
    # When it is opened there is one too many, and the oldest is forgotten: the first of all.
    opened = ticket(998, 299.6)
    late = ticket(0, 20, "resolved")
    _, refused, _ = reckoned([early, *TICKETS[:FULL], opened, late])
    assert refused == {late.value: 1}


def test_a_ticket_is_not_opened_where_tickets_are_forgotten():
    late, in_time = ticket(998, 300.5), ticket(999, 299.5)
    due, refused, _ = reckoned([*TICKETS, late, in_time])
    assert due.contacts == FULL + 2
    assert refused == {late.value: 1}


@pytest.mark.parametrize("history", [TICKETS, ORDERS, REFUNDS], ids=["ticket", "order", "refund"])
def test_a_duplicate_of_what_is_forgotten_may_be_refused_and_does_not_count(history):
    due, refused, optional = reckoned([*history, again(history[0]), again(history[1])])
    assert due.contacts + due.orders + due.refunds == FULL + 1
    assert not refused
    # The second is remembered, and recognised.
    assert optional == {history[0].value}


def test_a_duplicate_that_nothing_tells_from_the_first_is_not_reckoned_with():
    with pytest.raises(ValueError, match="nothing would tell its letter"):
        reckon([*TICKETS, TICKETS[0]], TERMS, NOW)


def test_a_forgotten_order_is_neither_revised_nor_cancelled():
    revised = event(
        "order.placed", "a", 300, order_id="o0", total="5.00", currency="USD", revision=1
    )
    cancelled = event("order.cancelled", "a", 20, order_id="o0")
    of_nobody = event("order.cancelled", "a", 20, order_id="nobody's")
    due, refused, _ = reckoned([*ORDERS, revised, cancelled, of_nobody])
    assert (due.orders, due.gross) == (FULL + 1, Decimal(FULL + 1))
    assert refused == {revised.value: 1, cancelled.value: 1, of_nobody.value: 1}


def test_a_remembered_order_is_revised_but_not_to_where_orders_are_forgotten():
    revised = {"order_id": "o9", "total": "5.00", "currency": "USD", "revision": 1}
    here, there = (event("order.placed", "a", days, **revised) for days in (290, 301))
    due, refused, _ = reckoned([*ORDERS, there, here])
    assert due.gross == Decimal(FULL + 5)
    assert refused == {there.value: 1}


def test_refunds_of_a_cancelled_order_are_void_before_and_after_they_are_forgotten():
    order = ordered("a", "o1", 320, "10.00")
    events = [
        order,
        refunded(901, 310, order_id="o1"),
        event("order.cancelled", "a", 309, order_id="o1"),
        *REFUNDS,
        refunded(902, 20, order_id="o1"),
    ]
    due, refused, _ = reckoned(events)
    assert (due.orders, due.refunds, due.refunded) == (0, FULL + 1, Decimal(FULL + 1))
    assert not refused


def test_an_order_of_which_a_refund_may_be_forgotten_is_not_cancelled():
    cancelled = event("order.cancelled", "a", 20, order_id="o1")
    events = [ordered("a", "o1", 320, "10.00"), refunded(901, 310, order_id="o1"), *REFUNDS]
    due, refused, _ = reckoned([*events, cancelled])
    assert (due.orders, due.refunds) == (1, FULL + 2)
    assert refused == {cancelled.value: 1}
    # Nobody knows whether there was a refund.
    _, refused, _ = reckoned([events[0], *REFUNDS, cancelled])
    assert refused == {cancelled.value: 1}
    # One that was placed since can have no refund among the forgotten.
    due, refused, _ = reckoned(
        [*events, ordered("a", "o2", 30, "1.00"), event("order.cancelled", "a", 20, order_id="o2")]
    )
    assert due.orders == 1
    assert not refused


def test_what_is_not_documented_is_not_guessed_at():
    revised = event(
        "order.placed", "a", 20, order_id="o0", total="5.00", currency="USD", revision=1
    )
    with pytest.raises(Undecided, match="told again at a later time"):
        reckon([*ORDERS, revised], TERMS, NOW)
    with pytest.raises(ValueError, match="long history, and is merged or erased"):
        reckon([*ORDERS, event("customer.erased", "a", 5)], TERMS, NOW)


def test_long_histories_have_all_that_is_beyond_memory():
    for seed in range(3):
        made = workload(seed, events=100, long_histories=3)
        expected = reckon(made.events, TERMS, NOW, "run1")
        assert expected.long == set(made.long)
        for customer in made.long:
            due = expected.customers[customer]
            assert max(due.orders, due.refunds, due.contacts) > REMEMBERED
            own = [r for r in expected.refused if customer.encode() in r.value]
            assert {refusal.reason for refusal in own} == {"beyond-memory"}
            assert any(customer.encode() in refusal.value for refusal in expected.optional)
        places = {
            (item.event.topic, item.partition, item.event.key)
            for item in made.items
            if made.long[0].encode() in item.event.value
        }
        assert len(places) == 1


def test_librdkafka_partitions_by_crc32():
    """The hashes that its own tests expect."""
    assert crc32_partition(b"23456", 2**32) == 0xB1B451D7
    assert crc32_partition(b"", 4) == 0


def test_a_part_of_the_events_is_partitioned_by_another_rule():
    made = workload(events=3_000, customers=100)
    elsewhere: Counter[bytes] = Counter()
    for (_, key, *_), partition in made.items:
        if partition is not None and key is not None:
            elsewhere[key] += partition != home_partition(key, PARTITIONS)
    events = Counter(event.key for event in made.events)
    whole = [key for key, count in elsewhere.items() if count > 0.9 * events[key]]
    assert len(whole) > 5
    assert all(is_misrouted(key, PARTITIONS) for key in whole)
    assert 0.1 < sum(elsewhere.values()) / len(made.items) < 0.4
