"""Records that are sent on to where their customer is: each counts once, however often it comes."""

from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.aggregate.record import decode_record
from models.aggregate.summary import Summary
from models.context import Context
from models.contracts import Refused
from models.economics import Economics
from models.engine import process
from models.outbox import DeliveryState
from models.routing import MOST_LANES, Route, check_lane, route_header, route_of, without_route

from .events import KafkaRecord, at, body
from .parameters import PARAMETERS
from .worlds import CONTEXT, IDS, MANY, NOW, World, apply, check_chains, order

SMALL = Context(Economics(remembered=4), PARAMETERS, erasure_key=b"secret")


def ticket(number, days):
    return {"ticket_id": f"t{number}", "opened_at": at(days), "channel": "email"}


def crashing(random, most=12):
    left = [most]

    def crash():
        if left[0] and random.random() < 0.15:
            left[0] -= 1
            return True
        return False

    return crash


partitions = st.lists(st.sampled_from(MANY), min_size=1, max_size=3)


@given(
    st.lists(st.tuples(st.sampled_from(IDS), st.booleans()), min_size=5, max_size=40),
    st.dictionaries(st.sampled_from(IDS), partitions),
    st.randoms(use_true_random=False),
)
@settings(max_examples=200, deadline=None)
def test_misrouted_events_beyond_the_memory_count_once_through_any_crash(said, placed, random):
    """A publisher with another partitioner: a customer's events lie in one wrong partition."""
    world, number = World(SMALL), Counter()
    for customer, is_order in said:
        number[customer, is_order] += 1
        n = number[customer, is_order]
        partition = placed.get(customer, [customer])[0]
        if is_order:
            value = body("order.placed", {"customer_id": customer, **order(n, n, customer)})
        else:
            value = body("ticket.opened", {"customer_id": customer, **ticket(n, n)})
        world.publish("orders" if is_order else "support", customer, value, partition=partition)
    world.run(random.choice, crashing(random))
    assert world.letters == []
    present = world.present()
    for customer in {customer for customer, _ in said}:
        summary = Summary(present[customer].aggregate, SMALL.economics)
        assert summary.orders == number[customer, True]
        assert summary.contacts == number[customer, False]
    check_chains(world)


@given(
    st.lists(st.tuples(st.sampled_from(IDS), st.sampled_from(MANY)), min_size=3, max_size=30),
    st.lists(st.tuples(st.integers(0, 30), st.sampled_from(IDS), st.sampled_from(IDS)), max_size=2),
    st.randoms(use_true_random=False),
)
@settings(max_examples=200, deadline=None)
def test_merges_of_misrouted_customers_count_each_order_once(said, merges, random):
    """Within the memory, where any order of arrival is right; the way has up to three stations."""
    world = World(Context(Economics(), PARAMETERS, erasure_key=b"secret"))
    for number, (customer, partition) in enumerate(said):
        for _, stays, goes in (merge for merge in merges if merge[0] == number):
            if stays != goes:
                world.say("customer.merged", stays, merged_from=goes, merged_at=at(999))
        value = body("order.placed", {"customer_id": customer, **order(number, number, customer)})
        world.publish("orders", customer, value, partition=partition)
    world.run(random.choice, crashing(random))
    assert world.letters == []
    orders = [len(record.aggregate.orders) for record in world.present().values()]
    assert sum(orders) == len(said)


def test_a_lane_remembers_how_far_it_was_taken_in():
    world = World(SMALL)
    for number in range(6):
        value = body("ticket.opened", {"customer_id": "ann", **ticket(number, number)})
        world.publish("support", "ann", value, partition="bea")
    world.run()
    record = decode_record(world.states["ann"][b"ann"])
    assert record.applied == {f"support/{MANY.index('bea')}>": 5}
    world.committed["support", "bea"] = 0
    world.crash("bea")
    world.run()
    assert len(world.logs["rerouted", "ann"]) == 12
    assert decode_record(world.states["ann"][b"ann"]) == record
    assert world.letters == []


def test_a_wrong_key_in_the_right_partition_counts_after_later_records():
    """It is sent on, and comes back behind what was published after it."""
    world = World(SMALL)
    for number in range(3):
        value = body("order.placed", {"customer_id": "ann", **order(number, number, "ann")})
        world.publish("orders", "wrong" if number == 0 else "ann", value, partition="ann")
    world.run()
    assert len(decode_record(world.states["ann"][b"ann"]).aggregate.orders) == 3


def test_a_route_is_read_as_it_was_written_and_only_the_last_counts():
    route = Route("shop.orders/3", 7, b"\xff").further("clv.rerouted/1", ("a", "b"))
    headers = [route_header(Route("shop.orders/9", 1, None)), ("x", b"1"), route_header(route)]
    assert route_of(headers) == route
    assert (route.lane, route.times) == ("shop.orders/3>1>", 2)
    assert without_route(headers) == [("x", b"1")]


def test_a_customer_remembers_so_many_lanes_and_no_more():
    applied = {f"shop.orders/{number}": 1 for number in range(MOST_LANES)}
    check_lane(applied, "shop.orders/3")
    with pytest.raises(Refused, match="murmur2"):
        check_lane(applied, "shop.orders/3>")


def rerouted(offset, lane, at_lane, value):
    route = Route(f"orders/{lane}", at_lane, b"ann")
    return KafkaRecord(offset, NOW, b"ann", value, (route_header(route),))


def test_a_replay_after_a_new_event_of_the_same_batch_does_not_bring_the_former_value_back():
    """Lanes are replayed each by itself; what the customer was told before is still on its way."""
    values = [body("order.placed", {"customer_id": "ann", **order(n, n)}) for n in range(3)]
    first = [rerouted(0, 1, 7, values[0]), rerouted(1, 2, 7, values[1])]
    states = {}

    def work(records, delivery):
        outputs = process(
            states,
            "rerouted/0",
            records,
            CONTEXT,
            now=NOW,
            role="rerouted",
            delivery_of=lambda *_: delivery,
        )
        apply(states, outputs.records)
        return outputs

    work(first, DeliveryState.DELIVERED)
    again = [rerouted(2, 1, 8, values[2]), rerouted(3, 2, 7, values[1])]
    [update] = work(again, DeliveryState.IN_FLIGHT).updates
    [resent] = work(again, DeliveryState.IN_FLIGHT).updates
    assert update.version == resent.version == 3
    assert update.document == resent.document
