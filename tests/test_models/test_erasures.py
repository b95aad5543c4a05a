"""Erasures: what is forgotten stays forgotten, whenever it arrives and whoever was merged."""

from collections import Counter
from itertools import islice
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.aggregate.record import (
    forgotten_key,
    is_customer,
)
from models.aggregate.state import Aggregate
from models.contracts.outputs import CustomerRemoved
from models.engine import advance

from .events import at, events, milliseconds
from .worlds import (
    CONTEXT,
    IDS,
    NOW,
    World,
    apply,
    check_chains,
    order,
    reckoned,
)


@given(
    st.lists(events(), max_size=12),
    st.integers(0, 900),
    st.randoms(use_true_random=False),
)
@settings(max_examples=200, deadline=None)
def test_what_happened_until_an_erasure_is_forgotten_whenever_it_arrives(spoken, day, random):
    until = milliseconds(day / 4)
    kept = [each for each in spoken if not each.type.startswith("customer.")]
    world = World()
    for each in kept:
        own = each.data.model_copy(update={"customer_id": "ann"})
        world.put(each.model_copy(update={"data": own}), "ann")
    world.say("customer.erased", "ann", erased_at=at(day / 4))
    world.run(random.choice)
    left = reckoned(kept, until)
    record = world.present().get("ann")
    if record is None:
        assert left == Aggregate()
        assert b"ann" not in b"".join(world.states["ann"])
    else:
        assert record.aggregate == left


def test_an_erased_customer_leaves_a_fingerprint_and_no_id():
    world = World()
    world.say("order.placed", "ann", **order(1, 1))
    world.say("order.placed", "ann", **order(2, 2))
    world.run()
    world.say("customer.erased", "ann", erased_at=at(10))
    world.run()
    states = world.states["ann"]
    assert list(states) == [forgotten_key(b"ann", b"secret")]
    assert all(b"ann" not in key + value for key, value in states.items())
    assert forgotten_key(b"ann", b"secret") != forgotten_key(b"ann", b"other")
    assert world.published == {}
    notice = world.notices[-1]
    CustomerRemoved.model_validate(notice)
    assert (notice["data"]["reason"], notice["data"]["version"]) == ("erased", 3)


def test_late_events_do_not_bring_them_back_and_a_new_life_goes_on_with_versions():
    world = World()
    world.say("order.placed", "ann", **order(1, 1))
    world.say("customer.erased", "ann", erased_at=at(10))
    world.run()
    world.say("order.placed", "ann", **order(2, 9))
    world.run()
    assert world.present() == {}
    world.say("order.placed", "ann", **order(3, 11))
    world.run()
    record = world.present()["ann"]
    assert len(record.aggregate.orders) == 1
    removed = [each for each in world.notices if each["type"] == "clv.customer-removed"]
    assert record.version > removed[-1]["data"]["version"]
    assert world.published["ann"].version == record.version
    world.say("order.placed", "ann", **order(4, 9))
    world.run()
    assert len(world.present()["ann"].aggregate.orders) == 1


def test_time_passes_over_the_erased_and_the_merged():
    world = World()
    world.say("order.placed", "ann", **order(1, 1))
    world.say("order.placed", "bea", **order(1, 1, "bea"))
    world.say("customer.erased", "ann", erased_at=at(10))
    world.say("customer.merged", "cyd", merged_from="bea", merged_at=at(2))
    world.run()
    for name in ("ann", "bea"):
        states = world.states[name]
        assert states
        outputs = advance(states, list(states), "clock/0", 0, CONTEXT, as_of=NOW)
        assert outputs.records == {}
        assert outputs.updates == []


def test_an_erasure_reaches_everybody_who_was_merged_into_the_customer():
    world = World()
    for name in IDS:
        world.say("order.placed", name, **order(1, 1, name))
    world.say("customer.merged", "bea", merged_from="ann", merged_at=at(2))
    world.run()
    world.say("customer.merged", "cyd", merged_from="bea", merged_at=at(3))
    world.run()
    assert set(world.present()) == {"cyd"}
    assert len(world.present()["cyd"].aggregate.orders) == 3
    # Said of the oldest name; the person is the same.
    world.say("customer.erased", "ann", erased_at=at(10))
    world.run()
    assert world.present() == {}
    for states in world.states.values():
        assert not [key for key in states if is_customer(key)]
        for name in IDS:
            assert all(name.encode() not in key + value for key, value in states.items())


def test_a_state_that_arrives_after_the_erasure_is_not_taken_and_its_source_forgets_too():
    world = World()
    world.say("order.placed", "ann", **order(1, 1))
    world.say("customer.merged", "bea", merged_from="ann", merged_at=at(2))
    world.step(("orders", "ann"))
    world.step(("identities", "bea"))
    world.step(("identity", "ann"))
    world.say("customer.erased", "bea", erased_at=at(10))
    world.step(("identities", "bea"))
    world.run()
    assert world.present() == {}
    assert not any(is_customer(key) for states in world.states.values() for key in states)


days = st.integers(0, 40)
lives = st.lists(
    st.one_of(
        st.tuples(st.just("order"), st.sampled_from(IDS), days),
        st.tuples(st.just("merge"), st.just(("ann", "bea")), days),
        st.tuples(st.just("erase"), st.sampled_from(IDS), days),
    ),
    max_size=8,
)


def lived(history, choose, crash):
    world = World()
    for number, (kind, who, day) in enumerate(history):
        if kind == "order":
            world.say("order.placed", who, **order(number, day, who))
        elif kind == "merge":
            into, name = who
            world.say("customer.merged", into, merged_from=name, merged_at=at(day))
        else:
            world.say("customer.erased", who, erased_at=at(day))
    world.run(choose, crash)
    check_chains(world)
    return {name: record.aggregate for name, record in world.present().items()}


def names_of_persons(history):
    """Return for each name all names of the same person."""
    names = {name: {name} for name in IDS}
    for kind, who, _ in history:
        if kind == "merge":
            both = names[who[0]] | names[who[1]]
            names.update(dict.fromkeys(both, both))
    return names


@given(lives, st.randoms(use_true_random=False), st.booleans())
@example(
    [("order", "bea", 1), ("merge", ("ann", "bea"), 0), ("erase", "ann", 0), ("erase", "bea", 1)],
    Random(0),
    False,
)
@example(
    [
        ("order", "bea", 1),
        ("merge", ("ann", "bea"), 0),
        ("erase", "ann", 0),
        ("merge", ("ann", "bea"), 0),
    ],
    Random(1),
    False,
)
@settings(max_examples=400, deadline=None)
def test_an_erasure_is_of_the_person_in_every_order_of_arrival(history, random, crashing):
    """Orders up to the erasure of any name of a person are gone, and no others.

    An erasure undoes earlier merges: a second one reaches the other names only if it comes first.
    """
    kept = lived(history, random.choice, lambda: crashing and random.random() < 0.1)
    left = Counter(order.time for each in kept.values() for order in each.orders.values())
    orders = [(who, day) for kind, who, day in history if kind == "order"]
    erasures = [(who, day) for kind, who, day in history if kind == "erase"]
    names = names_of_persons(history)

    def living(names_of):
        return Counter(
            milliseconds(day)
            for who, day in orders
            if all(day > until for other, until in erasures if other in names_of[who])
        )

    if all(sum(who in person for who, _ in erasures) <= 1 for person in names.values()):
        assert left == living(names)
    assert living(names) <= left <= living({name: {name} for name in IDS})


def test_an_erasure_of_before_a_merge_does_not_undo_it():
    for early in (True, False):
        world = World()
        erasure = ("customer.erased", "bea", {"erased_at": at(10)})
        if early:
            world.say(erasure[0], erasure[1], **erasure[2])
            world.run()
        world.say("order.placed", "ann", **order(1, 1))
        world.say("customer.merged", "bea", merged_from="ann", merged_at=at(20))
        world.run()
        if not early:
            world.say(erasure[0], erasure[1], **erasure[2])
            world.run()
        world.say("order.placed", "ann", **order(2, 30))
        world.run()
        assert {name: len(r.aggregate.orders) for name, r in world.present().items()} == {"bea": 1}
        world.say("customer.erased", "bea", erased_at=at(40))
        world.run()
        assert world.present() == {}


def test_who_stays_merged_does_not_release_those_merged_into_them():
    """Cyd went into bea, and bea into ann, who is erased as of a time between and lives on."""
    world = World()
    world.say("customer.merged", "bea", merged_from="cyd", merged_at=at(2))
    world.run()
    world.say("customer.merged", "ann", merged_from="bea", merged_at=at(20))
    world.run()
    world.say("customer.erased", "bea", erased_at=at(10))
    world.run()
    world.say("order.placed", "cyd", **order(1, 30, "cyd"))
    world.run()
    assert set(world.present()) == {"ann"}


def merged_and_erased(ordered, merged, erased, *, known_first):
    """Bea orders, is merged into ann, and is erased as of a day.

    known_first: bea learns of the erasure before the merge.
    """
    world = World()
    world.say("order.placed", "bea", **order(1, ordered))
    world.run()
    world.say("customer.merged", "ann", merged_from="bea", merged_at=at(merged))
    world.step(("identities", "ann"))
    if not known_first:
        world.run()
    world.say("customer.erased", "bea", erased_at=at(erased))
    if known_first:
        world.step(("identities", "bea"))
    world.run()
    return world.present()


@pytest.mark.parametrize("known_first", [True, False])
def test_a_merge_is_an_event_at_its_own_time(known_first):
    """The order is erased, as of a time before the merge: nothing else is left."""
    [(name, record)] = merged_and_erased(1, 20, 10, known_first=known_first).items()
    assert (name, record.as_of) == ("ann", milliseconds(20))
    assert not record.aggregate.orders


@pytest.mark.parametrize("known_first", [True, False])
def test_a_merge_of_before_an_erasure_stands_if_somebody_lives_on(known_first):
    present = merged_and_erased(30, 5, 10, known_first=known_first)
    assert {name: len(record.aggregate.orders) for name, record in present.items()} == {"ann": 1}


def test_a_state_that_brings_an_erasure_finds_told_what_silence_brought():
    told = []
    for erased in (True, False):
        world = World()
        world.say("order.placed", "ann", **order(1, 100))
        if erased:
            world.say("customer.erased", "bea", erased_at=at(10))
        world.run()
        world.say("customer.merged", "ann", merged_from="bea", merged_at=at(400))
        world.run()
        changes = [each["data"] for each in world.notices if each["data"]["customer_id"] == "ann"]
        told.append([(each["as_of"], each["cause"], each["current"]) for each in changes])
    assert "at risk" in [current for _, cause, current in told[0] if cause == "time"]
    assert told[0] == told[1]


def test_a_replay_does_not_bring_the_erased_back_nor_count_twice():
    world = World()
    world.say("order.placed", "ann", **order(1, 100), revision=1)
    world.say("order.placed", "ann", **order(1, 50), revision=2)
    world.run()
    world.say("customer.erased", "ann", erased_at=at(60))
    world.run()
    # The version of before the erasure is gone, and the one that it had replaced counts again.
    assert len(world.present()["ann"].aggregate.orders) == 1
    world.rewind("ann")
    world.run()
    [order_left] = world.present()["ann"].aggregate.orders.values()
    assert (order_left.revision, order_left.time) == (1, milliseconds(100))
    world.say("customer.erased", "ann", erased_at=at(200))
    world.run()
    world.rewind("ann")
    world.run()
    assert world.present() == {}


def test_a_replay_after_a_merge_was_undone_counts_once():
    world = World()
    world.say("order.placed", "ann", **order(1, 10))
    world.run()
    world.say("customer.merged", "bea", merged_from="ann", merged_at=at(2))
    world.run()
    world.say("customer.erased", "bea", erased_at=at(5))
    world.run()
    world.rewind("ann")
    world.run()
    assert {name: len(r.aggregate.orders) for name, r in world.present().items()} == {"bea": 1}


def records_of(world):
    return sum(map(len, world.logs.values()))


def test_an_event_of_a_guest_who_came_after_an_erasure_finds_its_customer():
    """Bea asks for cyd before bea itself is closed; ann is erased as of a time between."""
    world = World()
    world.say("customer.merged", "bea", merged_from="cyd", merged_at=at(11))
    world.step(("identities", "bea"))
    world.say("customer.merged", "ann", merged_from="bea", merged_at=at(3))
    world.step(("identities", "ann"))
    world.step(("identity", "bea"))
    world.run()
    world.say("customer.erased", "ann", erased_at=at(5))
    world.run()
    for number in range(3):
        before = records_of(world)
        world.say("order.placed", "cyd", **order(number, 20, "cyd"))
        world.run()
        assert records_of(world) - before <= 3
    [record] = world.present().values()
    assert len(record.aggregate.orders) == 3


def test_an_erasure_that_is_worked_on_again_and_decides_otherwise_is_heeded():
    """In between, the order that had kept the customer alive was not there."""
    world = World()
    world.say("customer.merged", "ann", merged_from="bea", merged_at=at(5))
    world.run()
    world.say("order.placed", "ann", **order(1, 10))
    world.say("customer.erased", "ann", erased_at=at(9))
    world.work(("orders", "ann"))
    world.work(("identities", "ann"))
    world.crash("ann")
    world.step(("identities", "ann"))
    world.run()
    before = records_of(world)
    world.say("order.placed", "bea", **order(2, 20, "bea"))
    world.run()
    assert records_of(world) - before == 1
    assert len(world.present()["bea"].aggregate.orders) == 1


def test_an_erasure_of_which_only_the_first_record_was_stored_keeps_versions_and_ids():
    world = World()
    for number in range(3):
        world.say("order.placed", "ann", **order(number, number))
    world.run()
    world.say("customer.erased", "ann", erased_at=at(10))
    world.work(("identities", "ann"))
    *_, outputs = world.to_store["ann"][0]
    apply(world.stored["ann"], dict(islice(outputs.records.items(), 1)))
    world.crash("ann")
    world.run()
    world.say("order.placed", "ann", **order(9, 20))
    world.run()
    check_chains(world)
