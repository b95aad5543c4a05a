"""Merges and erasures: whatever the order, the crashes and the circles, one customer has it all."""

import json
from collections import defaultdict
from itertools import islice
from random import Random

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.aggregate.absorb import absorb
from models.aggregate.fold import fold, merge
from models.aggregate.record import (
    UnreadableRecord,
    customers,
    decode_record,
    forgotten_key,
    is_customer,
)
from models.aggregate.state import Aggregate
from models.aggregate.summary import Summary
from models.context import Context
from models.contracts import decode
from models.contracts.outputs import CustomerRemoved
from models.customers import Fate
from models.economics import Economics
from models.engine import advance, exchange, process
from models.identity import via_header

from .events import KafkaRecord, at, body, cancelled, event, events, milliseconds, opened, placed
from .parameters import PARAMETERS

ECONOMICS = Economics()
CONTEXT = Context(ECONOMICS, PARAMETERS, erasure_key=b"secret")
NOW = milliseconds(1_000)


class World:
    """Every customer id is a partition of its own, read by one worker that may die at any moment.

    What a worker has in memory is ahead of what is stored, and that of what is told and committed;
    several batches may be on their way, each step of them in their order.
    """

    def __init__(self):
        self.logs = defaultdict(list)
        self.done = defaultdict(int)
        self.told = defaultdict(int)
        self.committed = defaultdict(int)
        self.states = defaultdict(dict)
        self.stored = defaultdict(dict)
        self.to_store = defaultdict(list)
        self.to_tell = defaultdict(list)
        self.published = {}
        self.notices = []
        self.letters = []

    def publish(self, topic, key, value, headers=()):
        log = self.logs[topic, key]
        log.append(KafkaRecord(len(log), NOW, key.encode(), value, tuple(headers)))

    def say(self, type_, customer, **data):
        topic = "customers" if type_.startswith("customer.") else "orders"
        self.publish(topic, customer, body(type_, {"customer_id": customer, **data}))

    def work(self, tp, count=1):
        """Work on some records; nothing of it is stored yet."""
        topic, customer = tp
        start = self.done[tp]
        records = self.logs[tp][start : start + count]
        states, origin = self.states[customer], f"{topic}/{MANY.index(customer)}"
        if topic == "identity":
            outputs = exchange(states, origin, records, CONTEXT, fates=self.fate)
        else:
            outputs = process(states, origin, records, CONTEXT, now=NOW, fates=self.fate)
        self.done[tp] = start + len(records)
        apply(states, outputs.records)
        self.send_on(topic, [stray for stray in outputs.rekeyed if stray.via is None])
        for key, message in outputs.messages:
            self.publish("identity", key.decode(), message)
        self.letters += outputs.dead_letters
        self.to_store[customer].append((tp, self.done[tp], outputs))

    def store(self, customer):
        """The changelog gets the records of the oldest batch."""
        batch = self.to_store[customer].pop(0)
        apply(self.stored[customer], batch[-1].records)
        self.to_tell[customer].append(batch)

    def tell(self, customer):
        """What the oldest stored batch led to is told."""
        (topic, _), end, outputs = batch = self.to_tell[customer].pop(0)
        for key, message in outputs.handovers:
            self.publish("identity", key.decode(), message)
        self.send_on(topic, [stray for stray in outputs.rekeyed if stray.via is not None])
        for update in outputs.updates:
            self.published[update.customer_id] = update
        for gone in outputs.removed:
            self.published.pop(gone.customer_id, None)
        self.notices += [json.loads(document) for _, document in outputs.segment_changes]
        self.told[batch[0]] = end

    def commit(self, tp):
        self.committed[tp] = self.told[tp]

    def crash(self, customer):
        """The worker of a customer dies; the next one knows what is stored and committed."""
        self.to_store[customer].clear()
        self.to_tell[customer].clear()
        self.states[customer] = dict(self.stored[customer])
        for tp in [tp for tp in self.logs if tp[1] == customer]:
            self.done[tp] = self.told[tp] = self.committed[tp]

    def rewind(self, customer):
        """Somebody sets the group's offsets of a customer back to the beginning."""
        for tp in self.logs:
            if tp[1] == customer:
                self.committed[tp] = 0
        self.crash(customer)

    def send_on(self, topic, strays):
        for stray in strays:
            headers = [
                *stray.record.headers,
                *([] if stray.via is None else [via_header(stray.via)]),
            ]
            self.publish(topic, stray.key.decode(), stray.record.value, headers)

    def possible(self):
        """All that may happen next; what was begun first."""
        steps = [(self.tell, name, name) for name in MANY if self.to_tell[name]]
        steps += [(self.store, name, name) for name in MANY if self.to_store[name]]
        steps += [
            (self.commit, tp, tp[1]) for tp in self.logs if self.committed[tp] < self.told[tp]
        ]
        return steps + [
            (self.work, tp, tp[1])
            for tp, log in sorted(self.logs.items())
            if self.done[tp] < len(log)
        ]

    def step(self, tp, count=1):
        """Work on some records and see them through."""
        self.work(tp, count)
        self.store(tp[1])
        self.tell(tp[1])
        self.commit(tp)

    def run(self, choose=lambda steps: steps[0], crash=lambda: False):
        """Work until nothing is left to be done."""
        taken = 0
        while steps := self.possible():
            taken += 1
            assert taken < 5_000, "it goes round for ever"
            step, what, customer = choose(steps)
            step(what)
            if crash():
                self.crash(customer)

    def fate(self, origin, offset):
        topic, number = origin.split("/")
        tp = topic, MANY[int(number)]
        if offset < self.told[tp]:
            return Fate.TOLD
        return Fate.UNDER_WAY if offset < self.done[tp] else Fate.UNKNOWN

    def notices_once(self):
        """The notices once each, in their order; those of one id say the same."""
        once = {}
        for notice in self.notices:
            assert once.setdefault(notice["id"], notice) == notice
        return list(once.values())

    def present(self):
        return {
            key.decode(): record
            for states in self.states.values()
            for key, record in customers(states)
        }


def apply(states, records):
    for key, record in records.items():
        if record is None:
            states.pop(key, None)
        else:
            states[key] = record


def reckoned(all_events, erased_at=-1):
    state = Aggregate()
    for each in all_events:
        if round(each.data.occurred_at.timestamp() * 1000) > erased_at:
            fold(state, each, ECONOMICS)
    return state


IDS = ["ann", "bea", "cyd"]
MANY = [*IDS, "dot"]
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
            world.publish("orders", customer, said_of.model_dump_json().encode())
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


def check_chains(world):
    """Whoever follows the changes, each once, knows the segments of every customer."""
    known = defaultdict(dict)
    versions = defaultdict(int)
    for notice in world.notices_once():
        data = notice["data"]
        customer = data["customer_id"]
        assert data["version"] >= versions[customer]
        versions[customer] = data["version"]
        if notice["type"] == "clv.customer-removed":
            known.pop(customer, None)
        else:
            assert known[customer].get(data["dimension"]) == data["previous"]
            assert data["reason"]["values"]
            known[customer][data["dimension"]] = data["current"]
    assert dict(known) == {name: record.segments for name, record in world.present().items()}


@given(
    st.lists(events(), max_size=12),
    st.integers(0, 900),
    st.randoms(use_true_random=False),
)
@settings(max_examples=200, deadline=None)
def test_what_happened_until_an_erasure_is_forgotten_whenever_it_arrives(spoken, day, random):
    # An entity that is spoken of on both sides of the erasure is another matter: see erase.py.
    until = milliseconds(day / 4)
    sides = defaultdict(set)
    for each in spoken:
        late = round(each.data.occurred_at.timestamp() * 1000) > until
        ids = each.data.model_dump(include={"order_id", "refund_id", "kind"})
        sides[each.source, each.type, str(ids)].add(late)
    ambiguous = {name for name, seen in sides.items() if len(seen) > 1}
    kept = [
        each
        for each in spoken
        if (
            each.source,
            each.type,
            str(each.data.model_dump(include={"order_id", "refund_id", "kind"})),
        )
        not in ambiguous
        and not each.type.startswith("customer.")
        and not each.type.startswith("ticket.")
    ]
    world = World()
    for each in kept:
        own = each.data.model_copy(update={"customer_id": "ann"})
        world.publish(
            "orders", "ann", each.model_copy(update={"data": own}).model_dump_json().encode()
        )
    world.say("customer.erased", "ann", erased_at=at(day / 4))
    world.run(random.choice)
    left = reckoned(kept, until)
    record = world.present().get("ann")
    if record is None:
        assert left == Aggregate()
        assert b"ann" not in b"".join(world.states["ann"])
    else:
        assert record.aggregate == left


def order(number, days, customer="ann"):
    return {
        "order_id": f"{customer}{number}", "placed_at": at(days), "currency": "USD", "total": "40",
    }  # fmt: skip


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
    assert record.version > world.notices[-4]["data"]["version"]
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
    world.step(("customers", "bea"))
    world.step(("identity", "ann"))
    world.say("customer.erased", "bea", erased_at=at(10))
    world.step(("customers", "bea"))
    world.run()
    assert world.present() == {}
    assert not any(is_customer(key) for states in world.states.values() for key in states)


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
    for name in Summary.__slots__:
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
    world.publish("orders", "ann", follower.model_dump_json().encode())
    world.run()
    assert decode_record(world.states["bea"][b"bea"]).aggregate == folded([each], ECONOMICS)
    assert decode(b"bea", follower.model_dump_json().encode(), ()).data.customer_id == "ann"
    assert event("survey.answered", {
        "survey_id": "s", "answered_at": at(1), "kind": "nps", "score": 9,
        "scale": {"min": 0, "max": 10},
    }).type == "survey.answered"  # fmt: skip


CHAIN = [("ann", "bea"), ("bea", "cyd")]
days = st.integers(0, 40)
lives = st.lists(
    st.one_of(
        st.tuples(st.just("order"), st.sampled_from(IDS), days),
        st.tuples(st.just("merge"), st.sampled_from(CHAIN), days),
        st.tuples(st.just("erase"), st.sampled_from(IDS), days),
    ),
    max_size=8,
)


def lived(history, choose):
    world = World()
    for number, (kind, who, day) in enumerate(history):
        if kind == "order":
            world.say("order.placed", who, **order(number, day, who))
        elif kind == "merge":
            into, name = who
            world.say("customer.merged", into, merged_from=name, merged_at=at(day))
        else:
            world.say("customer.erased", who, erased_at=at(day))
    world.run(choose)
    check_chains(world)
    return {name: record.aggregate for name, record in world.present().items()}


@given(lives, st.randoms(use_true_random=False))
@example(
    [("order", "bea", 1), ("merge", ("ann", "bea"), 0), ("erase", "ann", 0), ("erase", "bea", 1)],
    Random(0),
)
@settings(max_examples=400, deadline=None)
def test_whoever_said_it_first_an_erasure_and_an_earlier_life_do_not_mix(history, random):
    """Orders of before an erasure of their own name are gone in every order of arrival."""
    kept = lived(history, random.choice)
    orders = [order for aggregate in kept.values() for order in aggregate.orders.values()]
    erased = defaultdict(lambda: -1)
    for kind, who, day in history:
        if kind == "erase":
            erased[who] = max(erased[who], day)
    living = [(who, day) for kind, who, day in history if kind == "order" and day > erased[who]]
    if not any(kind == "merge" for kind, *_ in history):
        assert len(orders) == len(living)
    assert len(orders) <= len(living)


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


def test_a_state_is_handed_over_as_it_was_closed_however_often():
    """The record is closed before its state is sent; what comes later follows as events."""
    world = World()
    for number in range(9):
        world.say("order.placed", "ann", **order(number, number))
    world.run()
    world.say("customer.merged", "bea", merged_from="ann", merged_at=at(20))
    world.step(("customers", "bea"))
    world.work(("identity", "ann"))
    world.store("ann")
    world.crash("ann")
    world.say("order.placed", "ann", **order(10, 21))
    world.step(("orders", "ann"))
    world.run()
    assert len(world.present()["bea"].aggregate.orders) == 10
    [state] = {value for *_, value, _ in world.logs["identity", "bea"]}
    assert state


def test_a_replay_does_not_bring_the_erased_back_nor_count_twice():
    world = World()
    world.say("order.placed", "ann", **order(1, 100), revision=1)
    world.say("order.placed", "ann", **order(1, 50), revision=2)
    world.run()
    world.say("customer.erased", "ann", erased_at=at(60))
    world.run()
    # What happened later than the erasure had been replaced by what happened before.
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


def test_an_event_that_was_accepted_is_no_dead_letter_when_it_is_replayed():
    """The shop's rates were changed in between."""
    record = KafkaRecord(
        0,
        NOW,
        b"ann",
        body("order.placed", {"customer_id": "ann", **order(1, 1), "currency": "EUR"}),
    )
    rated = Context(Economics(exchange_rates={"EUR": "2"}), PARAMETERS)
    outputs = process({}, "orders/0", [record], rated, now=NOW)
    states = {key: value for key, value in outputs.records.items() if value is not None}
    again = process(states, "orders/0", [record], CONTEXT, now=NOW, fates=lambda *_: Fate.UNKNOWN)
    assert (again.replayed, again.dead_letters) == (1, [])
    assert again.segment_changes == outputs.segment_changes
    assert [update.key for update in again.updates] == [b"ann"]


def records_of(world):
    return sum(map(len, world.logs.values()))


def test_an_event_of_a_guest_who_came_after_an_erasure_finds_its_customer():
    """Bea asks for cyd before bea itself is closed; ann is erased as of a time between."""
    world = World()
    world.say("customer.merged", "bea", merged_from="cyd", merged_at=at(11))
    world.step(("customers", "bea"))
    world.say("customer.merged", "ann", merged_from="bea", merged_at=at(3))
    world.step(("customers", "ann"))
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
    world.work(("customers", "ann"))
    world.crash("ann")
    world.step(("customers", "ann"))
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
    world.work(("customers", "ann"))
    *_, outputs = world.to_store["ann"][0]
    apply(world.stored["ann"], dict(islice(outputs.records.items(), 1)))
    world.crash("ann")
    world.run()
    world.say("order.placed", "ann", **order(9, 20))
    world.run()
    check_chains(world)


@pytest.mark.parametrize("content", [None, b'["\xff"]', b"junk"])
def test_a_publishers_header_under_our_name_does_no_harm(content):
    order_of_another = body("order.placed", {"customer_id": "ann", **order(1, 1)})
    record = KafkaRecord(0, NOW, b"bea", order_of_another, (("clv.merged-via", content),))
    outputs = process({}, "orders/0", [record], CONTEXT, now=NOW)
    assert [stray.key for stray in outputs.rekeyed] == [b"ann"]
