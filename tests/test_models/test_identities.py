"""Merges: whatever the order, the crashes and the circles, one customer has it all."""

import json
from collections import defaultdict

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.aggregate.absorb import absorb
from models.aggregate.fold import fold, merge
from models.aggregate.record import (
    CustomerRecord,
    MergedCustomer,
    UnreadableRecord,
    decode_record,
    encode_record,
)
from models.aggregate.state import Aggregate
from models.aggregate.summary import SUMS, Summary
from models.context import Context
from models.contracts import decode
from models.economics import Economics
from models.engine import exchange, process
from models.identities import MOST_MERGED_BYTES, MOST_MERGES_FOLLOWED
from models.identity import Absorb, Release, Return, decode_message, encode_message
from models.outbox import DeliveryState
from models.routing import ROUTE, Route, route_header

from .events import (
    KafkaRecord,
    at,
    body,
    cancelled,
    event,
    events,
    milliseconds,
    opened,
    placed,
)
from .parameters import PARAMETERS
from .worlds import (
    CONTEXT,
    ECONOMICS,
    IDS,
    MANY,
    NOW,
    World,
    apply,
    check_chains,
    order,
    reckoned,
)

said = st.lists(
    st.one_of(
        st.tuples(st.just("event"), st.sampled_from(IDS), events()),
        st.tuples(st.just("merge"), st.sampled_from(MANY), st.sampled_from(MANY)),
    ),
    max_size=14,
)


@given(said, st.randoms(use_true_random=False), st.booleans())
@settings(max_examples=300, deadline=None)
def test_one_customer_has_everything_of_all_who_were_merged(history, random, crashing):
    world = World()
    groups = {name: {name} for name in MANY}
    spoken = defaultdict(list)
    for kind, customer, what in history:
        if kind == "event":
            own = what.data.model_copy(update={"customer_id": customer})
            said_of = what.model_copy(update={"data": own})
            world.put(said_of, customer)
            spoken[customer].append(said_of)
        elif customer != what:
            world.say("customer.merged", customer, merged_from=what, merged_at=at(999))
            joined = groups[customer] | groups[what]
            for name in joined:
                groups[name] = joined
    crashes = [12 if crashing else 0]

    def crash():
        if crashes[0] and random.random() < 0.1:
            crashes[0] -= 1
            return True
        return False

    world.run(random.choice, crash)
    assert world.letters == []
    present = world.present()
    for group in {frozenset(group) for group in groups.values()}:
        events_of_group = [each for name in group for each in spoken[name]]
        here = [name for name in group if name in present]
        if not events_of_group and len(group) == 1:
            assert here == []
            continue
        assert len(here) == 1
        assert present[here[0]].aggregate == reckoned(events_of_group)
        assert {name for name in group if name in world.published} == set(here)
        record = present[here[0]]
        assert world.published[here[0]].version == record.version
    check_chains(world)


def test_what_was_not_told_outlives_the_record_it_came_with():
    """Two batches are stored, the first of them untold; then the worker is killed."""
    world = World()
    world.say("order.placed", "ann", **order(1, 1))
    world.say("order.placed", "ann", **order(2, 2))
    world.work(("orders", "ann"))
    world.work(("orders", "ann"))
    world.store("ann")
    world.store("ann")
    world.crash("ann")
    world.say("customer.acquired", "ann", acquired_at=at(0), cost="5", currency="USD")
    world.step(("customers", "ann"))
    check_chains(world)
    world.run()
    check_chains(world)
    assert {notice["data"]["version"] for notice in world.notices} >= {1}


def test_a_message_that_cannot_be_read_is_a_dead_letter():
    newer = KafkaRecord(0, NOW, b"ann", b"\x07")
    with pytest.raises(UnreadableRecord, match="newer version"):
        exchange({}, "identity/0", [newer], CONTEXT)
    for key, value, reason in (
        (b"ann", b"\x01junk", "unsupported-format"),
        (b"ann", None, "unsupported-format"),
        (None, b"\x01", "missing-customer"),
    ):
        outputs = exchange({}, "identity/0", [KafkaRecord(0, NOW, key, value)], CONTEXT)
        assert outputs.reasons() == {reason: 1}
        assert outputs.records == {}


def folded(all_events, config):
    state = Aggregate()
    for each in all_events:
        fold(state, each, config)
    return state


SMALL = Economics(remembered=4)


@given(st.integers(0, 12), st.integers(0, 12), st.randoms(use_true_random=False))
@settings(max_examples=200, deadline=None)
def test_sums_of_two_long_histories_are_exact(left, right, random):
    every = random.sample(range(40), left + right)
    first = [placed(f"l{n}", days) for n, days in enumerate(sorted(every[:left]))]
    second = [placed(f"r{n}", days) for n, days in enumerate(sorted(every[left:]))]
    joined = absorb(folded(first, SMALL), folded(second, SMALL), SMALL)
    whole = folded(sorted([*first, *second], key=lambda each: each.data.placed_at), SMALL)
    summary, expected = Summary(joined, SMALL), Summary(whole, SMALL)
    for name in SUMS:
        assert getattr(summary, name) == getattr(expected, name), name


def test_the_same_state_taken_twice_counts_once():
    first = [placed(f"l{n}", n) for n in range(9)]
    second = [placed(f"r{n}", n + 0.5) for n in range(9)]
    other = folded(second, SMALL)
    once = absorb(folded(first, SMALL), other, SMALL)
    again = merge(once, other, SMALL)
    assert Summary(again, SMALL).orders == 18


@pytest.mark.parametrize("each", [cancelled("o1", 3), opened("t1", 3, complaint=True)])
def test_other_events_follow_a_merge_too(each):
    world = World()
    own = {"customer_id": "ann"}
    world.say("customer.merged", "bea", merged_from="ann", merged_at=at(2))
    world.run()
    follower = each.model_copy(update={"data": each.data.model_copy(update=own)})
    world.put(follower, "ann")
    world.run()
    assert decode_record(world.states["bea"][b"bea"]).aggregate == folded([each], ECONOMICS)
    assert decode(b"bea", follower.model_dump_json().encode(), ()).data.customer_id == "ann"
    assert event("survey.answered", {
        "survey_id": "s", "answered_at": at(1), "kind": "nps", "score": 9,
        "scale": {"min": 0, "max": 10},
    }).type == "survey.answered"  # fmt: skip


def test_a_state_is_handed_over_as_it_was_closed_however_often():
    """The record is closed before its state is sent; what comes later follows as events."""
    world = World()
    for number in range(9):
        world.say("order.placed", "ann", **order(number, number))
    world.run()
    world.say("customer.merged", "bea", merged_from="ann", merged_at=at(20))
    world.step(("identities", "bea"))
    world.work(("identity", "ann"))
    world.store("ann")
    world.crash("ann")
    world.say("order.placed", "ann", **order(10, 21))
    world.step(("orders", "ann"))
    world.run()
    assert len(world.present()["bea"].aggregate.orders) == 10
    [state] = {value for *_, value, _ in world.logs["identity", "bea"]}
    assert state


def test_an_event_that_was_accepted_is_no_dead_letter_when_it_is_replayed():
    """The shop's rates were changed in between."""
    record = KafkaRecord(
        0,
        NOW,
        b"ann",
        body(
            "order.placed",
            {"customer_id": "ann", **order(1, 1), "currency": "EUR", "total": "1" + 13 * "0"},
        ),
    )
    rated = Context(Economics(exchange_rates={"EUR": "2"}), PARAMETERS)
    dearer = Context(Economics(exchange_rates={"EUR": "20"}), PARAMETERS)
    outputs = process({}, "orders/0", [record], rated, now=NOW)
    states = {key: value for key, value in outputs.records.items() if value is not None}
    again = process(
        states, "orders/0", [record], dearer, now=NOW, delivery_of=lambda *_: DeliveryState.UNKNOWN
    )
    assert (again.replayed, again.dead_letters) == (1, [])
    ids = [[json.loads(each)["id"] for _, each in of.segment_changes] for of in (again, outputs)]
    assert ids[0] == ids[1]
    assert [update.key for update in again.updates] == [b"ann"]


@pytest.mark.parametrize("content", [None, b'{"origin": "orders/0", "offset": 9}', b"junk"])
def test_a_publishers_header_under_our_name_means_nothing(content):
    order_of_another = body("order.placed", {"customer_id": "ann", **order(1, 1)})
    record = KafkaRecord(0, NOW, b"bea", order_of_another, ((ROUTE, content),))
    outputs = process({}, "orders/0", [record], CONTEXT, now=NOW)
    [rerouted] = outputs.rerouted
    assert (rerouted.key, rerouted.route) == (b"ann", Route("orders/0", 0, b"bea"))


@pytest.mark.parametrize("headers", [(), ((ROUTE, None),), ((ROUTE, b"junk"),)])
def test_what_no_worker_sent_on_is_refused_among_the_rerouted(headers):
    record = KafkaRecord(
        0, NOW, b"ann", body("order.placed", {"customer_id": "ann", **order(1, 1)}), headers
    )
    outputs = process({}, "rerouted/0", [record], CONTEXT, now=NOW, role="rerouted")
    assert outputs.reasons() == {"invalid-field": 1}
    assert outputs.records == {}


LONG = "𝛼" * 196
"""An id of two hundred characters takes eight hundred bytes."""


def absorbing(number, merged=0):
    state = Absorb(
        f"{LONG}{number:04}",
        folded([placed(f"o{number}", number % 9)], ECONOMICS),
        milliseconds(9),
        MergedCustomer(3, milliseconds(5)),
        {f"{LONG}{number:04}/{each}"[-200:]: MergedCustomer(1, 1) for each in range(merged)},
    )
    return KafkaRecord(number, NOW, b"bea", encode_message(state))


@pytest.mark.heavy
def test_what_the_merged_take_of_a_record_is_bounded_and_the_others_stay_customers():
    """Many are asked before the first of them arrives, so that nobody could be refused."""
    states, returned, letters = {}, [], []
    records = [absorbing(number) for number in range(5_600)]
    while records:
        outputs = exchange(states, "identity/0", records, CONTEXT)
        apply(states, outputs.records)
        records = records[outputs.taken :]
        returned += outputs.messages
        letters += outputs.dead_letters
    bea = decode_record(states[b"bea"])
    assert 900 < len(bea.absorbed) < 1_000
    assert len(states[b"bea"]) < MOST_MERGED_BYTES + 200 * 1024
    assert len(bea.aggregate.orders) <= ECONOMICS.remembered
    assert len(bea.absorbed) + len(returned) == 5_600
    assert {letter.refused.reason.value for letter in letters} == {"beyond-memory"}
    assert len(letters) == len(returned)


def test_a_customer_whose_state_could_not_be_taken_goes_on():
    full = {
        f"{LONG}{number:04}": MergedCustomer(1, 1) for number in range(MOST_MERGED_BYTES // 800)
    }
    world = World()
    world.say("order.placed", "ann", **order(1, 1))
    world.say("customer.merged", "bea", merged_from="ann", merged_at=at(5))
    world.say("order.placed", "bea", **order(1, 1, "bea"))
    world.step(("identities", "bea"))
    world.step(("orders", "ann"))
    world.step(("orders", "bea"))
    bea = decode_record(world.states["bea"][b"bea"])
    bea.absorbed = full
    world.states["bea"][b"bea"] = world.stored["bea"][b"bea"] = encode_record(bea)
    world.run()
    world.say("order.placed", "ann", **order(2, 7))
    world.run()
    present = world.present()
    assert len(present["ann"].aggregate.orders) == 2
    assert len(present["bea"].aggregate.orders) == 1
    assert len(world.letters) == 1
    check_chains(world)


def test_a_merge_into_a_full_customer_is_refused_at_once():
    world = World()
    world.say("order.placed", "bea", **order(1, 1, "bea"))
    world.step(("orders", "bea"))
    bea = decode_record(world.states["bea"][b"bea"])
    bea.absorbed = {f"{LONG}{number:04}": MergedCustomer(1, 1) for number in range(1_000)}
    world.states["bea"][b"bea"] = encode_record(bea)
    world.say("customer.merged", "bea", merged_from="ann", merged_at=at(5))
    world.step(("identities", "bea"))
    assert [letter.refused.reason.value for letter in world.letters] == ["beyond-memory"]
    assert not world.logs["identity", "ann"]


def test_a_message_for_somebody_who_lives_elsewhere_is_passed_on():
    """Partitions were added since it was sent."""
    record = absorbing(1)
    outputs = exchange({}, "identity/0", [record], CONTEXT, at_home=lambda _key: False)
    assert outputs.messages == [(b"bea", record.value)]
    assert outputs.records == {}


@pytest.mark.parametrize("message", ["event", "release", "state"])
def test_what_follows_a_long_chain_of_merges_ends_as_a_letter_and_nobody_is_lost(message):
    chain = tuple(f"c{number}" for number in range(MOST_MERGES_FOLLOWED))
    closed = CustomerRecord(folded([placed("o", 1)], ECONOMICS), 2, into="zoe", merged_at=5)
    states = {b"bea": encode_record(closed)}
    if message == "event":
        route = route_header(Route("orders/0", 1, b"c0", via=chain))
        value = body("order.placed", {"customer_id": "c0", **order(1, 1)})
        record = KafkaRecord(0, NOW, b"bea", value, (route,))
        outputs = process(states, "rerouted/0", [record], CONTEXT, now=NOW, role="rerouted")
    else:
        sent = (
            Release("ann", 7, chain)
            if message == "release"
            else Absorb("ann", Aggregate(), 1, MergedCustomer(1, 7), {}, chain)
        )
        record = KafkaRecord(0, NOW, b"bea", encode_message(sent))
        outputs = exchange(states, "identity/0", [record], CONTEXT)
    assert outputs.reasons() == {"beyond-memory": 1}
    returned = [(key, decode_message(value)) for key, value in outputs.messages]
    assert returned == ([(b"ann", Return("c0", 7))] if message == "state" else [])
    assert outputs.records == {}
