"""The order in which a batch's outputs, changelog records and acknowledgement happen.

Broker, table and cache are stand-ins here, so that the test decides when each delivery arrives.
"""

import asyncio
import json
from datetime import UTC, datetime
from itertools import count
from types import SimpleNamespace

import pytest
from faust.types import TP
from structlog.testing import capture_logs

from models.aggregate.record import (
    ERASURE_KEY,
    decode_record,
    erasure_fingerprint,
    is_customer,
)
from models.contracts.clock import Tick
from models.engine import advance, process, process_together
from models.routing import Route, route_header
from models.segments import DEFAULT_RULES
from models.timeline import Timeline
from streams import folding as folding_module
from streams import pacing as pacing_module
from streams import ticks as ticks_module
from streams.basis.key import ErasureKeyChanged
from streams.cache import score as score_module
from streams.folding import Folding
from streams.kafka.partitions import home_partition
from streams.outgoing import LARGEST_LETTER, positions
from streams.pacing import LIVE_SECONDS
from streams.pipeline import Pipeline
from streams.settings import Settings
from streams.simulation.settings import TESTING_ERASURE_KEY
from streams.ticks import Ticks
from streams.transport.batches import RecordBatch
from streams.transport.producer import Delivery
from tests.test_models.events import KafkaRecord, at, body, milliseconds

DIMENSIONS = len(DEFAULT_RULES.dimensions)


class Promise(asyncio.Future):
    """A delivery that knows what it will say."""

    delivery: Delivery


class Broker:
    """Keeps what was sent, in order; deliveries arrive when told to."""

    def __init__(self):
        self.sent = []
        self.headers = []
        self.deliveries = []
        self.held = False
        self.written = 0

    def send_records(self, topic, partition, records):
        futures = []
        for key, value, headers in records:
            self.sent.append((topic, key, value))
            self.headers.append(headers)
            future = Promise()
            self.written += 1
            future.delivery = Delivery(self.written - 1, self.written)
            if self.held:
                self.deliveries.append(future)
            else:
                future.set_result(future.delivery)
            futures.append(future)
        return futures

    def arrive(self):
        for future in self.deliveries:
            future.set_result(future.delivery)
        self.deliveries.clear()

    def fail(self, error):
        self.deliveries.pop(0).set_exception(error)
        self.arrive()


class Table:
    """Records in memory, and the changelog at the broker."""

    def __init__(self, broker):
        self.broker = broker
        self.of_erased = []
        self.states = {
            ERASURE_KEY: erasure_fingerprint(TESTING_ERASURE_KEY.get_secret_value().encode())
        }

    def partition(self, _number):
        return self.states

    def update_partition(self, _partition, items):
        for key, value in items.items():
            if value is None:
                self.states.pop(key, None)
            else:
                self.states[key] = value

    def erased(self, partition):
        self.of_erased.append(partition)

    def send_items(self, partition, items):
        return self.broker.send_records(
            "changelog", partition, ((k, v, []) for k, v in items.items())
        )


class Cache:
    def __init__(self):
        self.scores, self.removals, self.ends, self.unsure_of = [], [], [], []

    def submit(self, partition, end, scores, removals, *, start):
        self.ends.append(end)
        self.scores += scores
        self.removals += removals

    def unsure(self, partition):
        self.unsure_of.append(partition)

    async def flush(self):
        await asyncio.sleep(0)


class Event:
    """A Faust event of some records."""

    def __init__(self, topic, *records, partition=0):
        self.value = RecordBatch(TP(topic, partition), records)
        self.acked = False

    def ack(self):
        self.acked = True


def orders(offset, *customers, partition=0):
    return Event(
        "shop.orders",
        *(
            KafkaRecord(
                offset + n,
                milliseconds(1),
                customer.encode(),
                body(
                    "order.placed",
                    {
                        "customer_id": customer,
                        "order_id": f"{customer}-{offset}",
                        "placed_at": at(0),
                        "currency": "USD",
                        "total": "40",
                    },
                ),
            )
            for n, customer in enumerate(customers)
        ),
        partition=partition,
    )


@pytest.fixture
def running():
    broker, crashes = Broker(), []

    async def crash(error):
        crashes.append(error)

    consumer = SimpleNamespace(committed_to=lambda tp: 0)
    app = SimpleNamespace(producer=broker, crash=crash, consumer=consumer)
    feed = SimpleNamespace(timeline=Timeline(), rules=Timeline())
    cache = Cache()
    pipeline = Pipeline(app, Table(broker), Settings(), partitions=1, feed=feed, cache=cache)
    return SimpleNamespace(
        pipeline=pipeline,
        folding=Folding(pipeline, pause_seconds=0.0),
        ticks=Ticks(pipeline, step_seconds=None),
        broker=broker,
        cache=cache,
        crashes=crashes,
    )


async def turns(count=50):
    for _ in range(count):
        await asyncio.sleep(0)


def topics(broker):
    return [topic for topic, _, _ in broker.sent]


async def test_changelog_then_outputs_then_cache_then_ack(running):
    running.broker.held = True
    event = orders(0, "c1")
    await running.folding.fold(event)
    await turns()
    assert topics(running.broker) == ["changelog"]
    running.broker.arrive()
    await turns()
    assert topics(running.broker)[1:] == ["clv.updates", *["clv.segment-changes"] * DIMENSIONS]
    assert (running.cache.scores, event.acked) == ([], False)
    running.broker.arrive()
    await turns()
    assert [score.customer_id for score in running.cache.scores] == ["c1"]
    assert event.acked


async def test_a_letter_comes_before_the_changelog_and_a_stray_before_the_ack(running):
    """A stored record makes a replay of the refused one before it, which gives no letter."""
    running.broker.held = True
    running.pipeline.partitions = 2
    stray = next(f"c{n}" for n in range(9) if home_partition(f"c{n}".encode(), 2))
    here = next(f"c{n}" for n in range(9) if not home_partition(f"c{n}".encode(), 2))
    bad = KafkaRecord(9, milliseconds(1), b"c1", b"not json")
    batch = Event("shop.orders", *orders(0, stray, here).value.records, bad)
    await running.folding.fold(batch)
    await turns()
    assert topics(running.broker) == ["clv.dead-letters"]
    for _ in range(2):
        running.broker.arrive()
        await turns()
    sent = topics(running.broker)
    assert sent[1:3] == ["changelog", "clv.updates"]
    assert sent[-1] == "clv.rerouted"
    *others, sent_on = running.broker.deliveries
    running.broker.deliveries = others
    running.broker.arrive()
    await turns()
    assert not batch.acked
    sent_on.set_result(sent_on.delivery)
    await turns()
    assert batch.acked


async def test_nothing_is_stored_over_an_event_that_still_follows_a_merge(running):
    await running.folding.fold(orders(0, "c1"))
    await running.folding.fold(said("merged", "c2", 0, merged_from="c1", merged_at=at(2)))
    await turns()
    [release] = [value for topic, _, value in running.broker.sent if topic == "clv.identity"]
    await running.pipeline.exchange(
        Event("clv.identity", KafkaRecord(0, milliseconds(60), b"c1", release))
    )
    await turns()
    running.broker.sent.clear()
    running.broker.held = True
    follower, later = orders(5, "c1"), orders(6, "c3")
    await running.folding.fold(follower)
    await running.folding.fold(later)
    await turns()
    assert topics(running.broker) == ["clv.rerouted"]
    running.broker.arrive()
    await turns()
    assert topics(running.broker) == ["clv.rerouted", "changelog"]
    assert follower.acked
    assert not later.acked


async def test_messages_to_other_customers_come_before_the_changelog(running):
    """A replay does not give them again."""
    running.broker.held = True
    await running.folding.fold(said("merged", "c2", 0, merged_from="c1", merged_at=at(2)))
    await running.folding.fold(orders(0, "c3"))
    await turns()
    assert topics(running.broker) == ["clv.identity"]
    running.broker.arrive()
    await turns()
    assert topics(running.broker) == ["clv.identity", "changelog"]


async def test_batches_of_a_partition_follow_each_other_through_every_step(running):
    running.broker.held = True
    first, second = orders(0, "c1"), orders(5, "c1")
    await running.folding.fold(first)
    await running.folding.fold(second)
    await turns()
    # The second is stored before the first is told: its record says what both have to tell.
    assert topics(running.broker) == ["changelog", "changelog"]
    one, two = (decode_record(value) for _, _, value in running.broker.sent)
    assert [one.version, two.version] == [1, 2]
    assert two.outbox[0].version == 1
    assert [(c.dimension, c.current) for c in two.outbox[0].changes] == [
        (c.dimension, c.current) for c in one.outbox[0].changes
    ]
    assert all(two.outbox[0].evidence)
    # Acknowledged in the wrong order, they are told in the right one.
    late, early = running.broker.deliveries
    running.broker.deliveries = []
    early.set_result(early.delivery)
    await turns()
    assert topics(running.broker) == ["changelog", "changelog"]
    late.set_result(late.delivery)
    await turns()
    versions = [
        json.loads(v)["data"]["version"] for t, _, v in running.broker.sent if t == "clv.updates"
    ]
    assert versions == [1, 2]
    assert not first.acked
    running.broker.arrive()
    await turns()
    assert first.acked
    assert second.acked


async def test_what_is_told_is_not_carried_on(running):
    await running.folding.fold(orders(0, "c1"))
    await turns()
    await running.folding.fold(orders(5, "c1"))
    await turns()
    last = [decode_record(v) for topic, _, v in running.broker.sent if topic == "changelog"][-1]
    assert all(entry.version == 2 for entry in last.outbox)


async def test_time_passing_never_stores_an_older_record_over_a_newer(running, monkeypatch):
    monkeypatch.setattr(pacing_module, "MOST", 1)
    await running.folding.fold(orders(0, "c1", "c2", "c3"))
    await turns()
    tick = Tick(as_of=datetime(2026, 6, 1, tzinfo=UTC)).model_dump_json().encode()
    event = Event("clv.clock", KafkaRecord(0, milliseconds(1), None, tick))
    running.broker.held = True
    sweeping = asyncio.create_task(running.ticks.pass_time(event))
    await turns(2)
    await running.folding.fold(orders(10, "c1"))
    for _ in range(20):
        running.broker.arrive()
        await turns()
    await sweeping
    assert event.acked
    stored = {}
    for topic, key, value in running.broker.sent:
        if topic == "changelog":
            version = decode_record(value).version
            assert version > stored.get(key, 0)
            stored[key] = version
    assert stored == {b"c1": 3, b"c2": 2, b"c3": 2}


@pytest.mark.parametrize("live", [True, False])
async def test_sweeps_of_several_partitions_take_their_steps_in_turn_and_rest_for_live_events(
    live, running, monkeypatch
):
    await running.folding.fold(orders(0, "c1", "c2", "c3"))
    await turns()
    if not live:
        running.pipeline.live_at -= LIVE_SECONDS
    monkeypatch.setattr(pacing_module, "MOST", 1)
    steps = []

    def advanced(*given, **named):
        steps.append(given[2])
        return advance(*given, **named)

    async def slept(seconds):
        for _ in range(20):
            await pause(0)
        if seconds:
            steps.append("rest")

    pause = asyncio.sleep
    monkeypatch.setattr(ticks_module, "advance", advanced)
    tick = Tick(as_of=datetime(2026, 6, 1, tzinfo=UTC)).model_dump_json().encode()
    events = [
        Event("clv.clock", KafkaRecord(0, milliseconds(1), None, tick), partition=partition)
        for partition in (0, 1)
    ]
    ticks = Ticks(running.pipeline)
    with monkeypatch.context() as during:
        during.setattr(asyncio, "sleep", slept)
        await asyncio.gather(*map(ticks.pass_time, events))
    await turns()
    assert [event.acked for event in events] == [True, True]
    # Three customers, and the key that is no customer.
    in_turn = ["clv.clock/0", "clv.clock/1"] * 4
    if live:
        in_turn = [each for step in in_turn for each in (step, "rest")]
    assert steps == in_turn


async def test_a_failed_delivery_stops_everything_behind_it(running):
    running.broker.held = True
    first, second = orders(0, "c1"), orders(5, "c1")
    await running.folding.fold(first)
    await running.folding.fold(second)
    await turns()
    running.broker.fail(OSError("the broker is gone"))
    await turns()
    assert [str(error) for error in running.crashes] == ["the broker is gone"]
    assert set(topics(running.broker)) == {"changelog"}
    assert not first.acked
    assert not second.acked
    with pytest.raises(OSError, match="gone"):
        await running.folding.fold(orders(9, "c2"))


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'{"as_of": 3}', "invalid-field"),
        (b"not json", "invalid-field"),
        (b'{"as_of": "9999-12-31T23:59:59-14:00"}', "invalid-field"),
        (b'{"as_of": "2999-01-01T00:00:00Z"}', "future"),
    ],
)
async def test_a_tick_that_cannot_be_followed_becomes_a_dead_letter(running, value, reason):
    await running.folding.fold(orders(0, "c1"))
    await turns()
    before = dict(running.pipeline.table.states)
    event = Event("clv.clock", KafkaRecord(0, milliseconds(1), b"k", value))
    await running.ticks.pass_time(event)
    await turns()
    assert topics(running.broker)[-1] == "clv.dead-letters"
    assert running.pipeline.counts.dead_letters == {reason: 1}
    assert running.pipeline.table.states == before
    assert event.acked


async def test_refusals_are_noted_with_the_place_where_the_record_was_published(running):
    order = {
        "customer_id": "c1", "order_id": "o1", "placed_at": at(0), "currency": "EUR", "total": "4",
    }  # fmt: skip
    value, route = body("order.placed", order), Route("shop.orders/3", 7, b"c9")
    bad = KafkaRecord(0, milliseconds(1), b"c1", value, [route_header(route)])
    await running.folding.fold(Event("clv.rerouted", bad))
    await running.ticks.pass_time(
        Event("clv.clock", KafkaRecord(4, milliseconds(1), b"k", b'{"as_of": 3}'))
    )
    with capture_logs() as logged:
        running.pipeline.refusals.tell_all()
    places = [(each["reason"], each["topic"], each["partition"]) for each in logged]
    assert ("no-exchange-rate", "shop.orders", 3) in places
    assert ("invalid-field", "clv.clock", 0) in places


async def test_a_new_customer_in_a_foreign_partition_is_sent_home(running):
    running.pipeline.partitions = 2
    customers = [f"c{n}" for n in range(8)]
    here = {c for c in customers if home_partition(c.encode(), 2) == 0}
    assert 0 < len(here) < 8
    await running.folding.fold(orders(0, *customers))
    await turns()
    sent_home = {key.decode() for topic, key, _ in running.broker.sent if topic == "clv.rerouted"}
    assert sent_home == set(customers) - here
    assert {key.decode() for key in running.pipeline.table.states if is_customer(key)} == here


async def test_a_value_beyond_the_caches_numbers_does_not_stop_the_worker(running, monkeypatch):
    monkeypatch.setattr(score_module, "MAX_CLV", 1.0)
    await running.folding.fold(orders(0, "c1"))
    await turns()
    assert [score.clv for score in running.cache.scores] == [1.0]


async def test_a_refused_record_too_large_for_the_topic_is_cut_and_says_so(running):
    huge = KafkaRecord(0, milliseconds(1), b"c1", b"x" * (LARGEST_LETTER + 5))
    await running.folding.fold(Event("shop.orders", huge))
    await turns()
    [(topic, _key, value)] = running.broker.sent
    assert topic == "clv.dead-letters"
    assert len(value) == LARGEST_LETTER
    assert running.broker.headers[-1][-1] == ("clv.cut-from", str(len(huge.value)).encode())


def said(kind, customer, offset, **data):
    value = body(f"customer.{kind}", {"customer_id": customer, **data})
    return Event("shop.identities", KafkaRecord(offset, milliseconds(60), customer.encode(), value))


async def test_an_erased_customer_is_a_tombstone_everywhere_with_its_version(running):
    await running.folding.fold(orders(0, "c1"))
    await running.folding.fold(said("erased", "c1", 0, erased_at=at(2)))
    await turns()
    tombstones = [
        (topic, key, headers)
        for (topic, key, value), headers in zip(
            running.broker.sent, running.broker.headers, strict=True
        )
        if value is None
    ]
    assert tombstones == [("changelog", b"c1", []), ("clv.updates", b"c1", [("clv-version", b"2")])]
    sent = enumerate(running.broker.sent)
    place = next(at for at, (topic, _, value) in sent if (topic, value) == ("clv.updates", None))
    assert running.cache.removals == [("c1", place)]
    assert all(b"c1" not in key for key in running.pipeline.table.states)


async def test_a_merge_goes_by_way_of_both_partitions(running):
    await running.folding.fold(orders(0, "c1"))
    await running.folding.fold(said("merged", "c2", 0, merged_from="c1", merged_at=at(2)))
    await turns()
    for offset in range(2):
        *_, (topic, key, message) = (s for s in running.broker.sent if s[0] == "clv.identity")
        assert key == (b"c1", b"c2")[offset]
        record = KafkaRecord(offset, milliseconds(60), key, message)
        await running.pipeline.exchange(Event(topic, record))
        await turns()
    states = running.pipeline.table.states
    assert decode_record(states[b"c1"]).into == "c2"
    assert len(decode_record(states[b"c2"]).aggregate.orders) == 1
    await running.folding.fold(orders(5, "c1"))
    await turns()
    topic, key, _ = running.broker.sent[-1]
    assert (topic, key) == ("clv.rerouted", b"c2")
    route = Route("shop.orders/0", 5, b"c1", via=("c1",))
    assert running.broker.headers[-1][-1] == route_header(route)


async def test_after_a_crash_what_was_stored_is_told_before_anything_new(running):
    """Stored, and then killed: an event of another topic comes before the replay."""
    await running.folding.fold(orders(0, "c1"))
    await turns()
    changes = [sent for sent in running.broker.sent if sent[0] == "clv.segment-changes"]
    assert len(changes) == DIMENSIONS
    running.broker.sent.clear()
    running.pipeline.assigned()
    ticket = {"ticket_id": "t", "opened_at": at(0), "channel": "email"}
    record = KafkaRecord(0, milliseconds(1), b"c1", body("ticket.opened", ticket))
    await running.folding.fold(Event("shop.support", record))
    await turns()
    assert [sent for sent in running.broker.sent if sent[0] == "clv.segment-changes"] == changes
    await running.folding.fold(orders(0, "c1"))
    await turns()
    running.broker.sent.clear()
    # Its replay was the last to tell of it.
    again = KafkaRecord(
        1, milliseconds(1), b"c1", body("ticket.opened", ticket | {"ticket_id": "u"})
    )
    await running.folding.fold(Event("shop.support", again))
    await turns()
    assert "clv.segment-changes" not in topics(running.broker)
    assert "clv.updates" in topics(running.broker)


async def test_what_is_committed_is_not_told_again(running):
    await running.folding.fold(orders(0, "c1"))
    await turns()
    running.broker.sent.clear()
    running.pipeline.assigned()
    running.pipeline.app.consumer.committed_to = lambda tp: 1
    await running.folding.fold(orders(5, "c1"))
    await turns()
    changes = [
        json.loads(v) for topic, _, v in running.broker.sent if topic == "clv.segment-changes"
    ]
    assert all(change["data"]["version"] == 2 for change in changes)


async def test_another_erasure_key_stops_the_worker(running):
    await running.folding.fold(orders(0, "c1"))
    await turns()
    running.pipeline._erasure_key = b"another"
    await running.folding.fold(orders(5, "c1"))
    await turns()
    [error] = running.crashes
    assert isinstance(error, ErasureKeyChanged)
    assert "CLV_ERASURE_KEY" in str(error)
    with pytest.raises(ErasureKeyChanged):
        await running.folding.fold(orders(6, "c1"))


def at_home(partition, number=0):
    """The name of a customer whose home is one of three partitions."""
    names = (f"{number}-{each}" for each in count())
    return next(name for name in names if home_partition(name.encode(), 3) == partition)


def orders_of(partition, offset, *numbers):
    return orders(offset, *(at_home(partition, number) for number in numbers), partition=partition)


class Calls:
    """Counts how many batches each call of the engine folds."""

    def __init__(self, running, monkeypatch):
        running.pipeline.partitions = 3
        self.sizes = []
        monkeypatch.setattr(folding_module, "process_together", self.together)
        monkeypatch.setattr(folding_module, "process", self.alone)

    def together(self, intakes, **more):
        self.sizes.append(len(intakes))
        return process_together(intakes, **more)

    def alone(self, *args, **more):
        self.sizes.append(1)
        return process(*args, **more)


async def fold(running, *events):
    for event in events:
        await running.folding.fold(event)
    await turns(200)
    assert not running.crashes
    assert all(event.acked for event in events)


async def test_batches_of_other_partitions_that_wait_are_folded_together(running, monkeypatch):
    calls = Calls(running, monkeypatch)
    await fold(running, orders_of(0, 0, 1), orders_of(1, 0, 1), orders_of(2, 0, 1))
    assert calls.sizes == [3]
    updated = {key.decode() for topic, key, _ in running.broker.sent if topic == "clv.updates"}
    assert updated == {at_home(0, 1), at_home(1, 1), at_home(2, 1)}
    assert running.pipeline.counts.accepted == 3


async def test_batches_of_a_partition_are_folded_one_after_the_other(running, monkeypatch):
    calls = Calls(running, monkeypatch)
    await fold(
        running, orders_of(0, 0, 1), orders_of(0, 1, 1), orders_of(1, 0, 1), orders_of(0, 2, 1)
    )
    assert calls.sizes == [2, 1, 1]
    assert decode_record(running.pipeline.table.states[at_home(0, 1).encode()]).version == 3


async def test_large_batches_are_folded_alone(running, monkeypatch):
    calls = Calls(running, monkeypatch)
    monkeypatch.setattr(folding_module, "TOGETHER", 3)
    await fold(running, orders_of(0, 0, 1, 2), orders_of(1, 0, 1), orders_of(2, 0, 1, 2, 3, 4))
    assert calls.sizes == [2, 1]


async def test_if_one_makes_the_engine_raise_all_are_folded_one_by_one(running, monkeypatch):
    """So that it is known which it is, and the others go on."""
    calls = Calls(running, monkeypatch)

    def raises(*_args, **_more):
        raise ZeroDivisionError

    monkeypatch.setattr(folding_module, "process_together", raises)
    await fold(running, orders_of(0, 0, 1), orders_of(1, 0, 1))
    assert calls.sizes == [1, 1]
    assert running.pipeline.counts.accepted == 2


async def test_the_cache_is_told_the_offset_of_each_record_across_deliveries(running):
    await running.folding.fold(orders(0, "c1", "c2", "c3"))
    await turns()
    told = [(score.customer_id.encode(), score.position) for score in running.cache.scores]
    published = [
        (key, at)
        for at, (topic, key, _) in enumerate(running.broker.sent)
        if topic == "clv.updates"
    ]
    assert told == published
    assert len(told) == 3
    assert positions([Delivery(3, 6), Delivery(9, 10)]) == [3, 4, 5, 9]
    assert positions([]) == []
    assert positions([Delivery(3, 6), Delivery(-1, -1)]) is None


async def test_what_the_broker_does_not_say_where_is_left_to_a_catch_up(running):
    running.broker.held = True
    event = orders(0, "c1", "c2")
    await running.folding.fold(event)
    await turns()
    running.broker.arrive()
    await turns()
    running.broker.deliveries[1].delivery = Delivery(-1, -1)
    assert not event.acked
    running.broker.arrive()
    await turns()
    assert (running.cache.scores, running.cache.ends, running.cache.unsure_of) == ([], [], [0])
    assert event.acked
    await running.folding.fold(orders(5, "c3"))
    for _ in range(3):
        await turns()
        running.broker.arrive()
    await turns()
    assert [score.customer_id for score in running.cache.scores] == ["c3"]


async def test_a_delivery_that_was_cancelled_stops_the_worker_too(running):
    running.broker.held = True
    event = orders(0, "c1")
    await running.folding.fold(event)
    await turns()
    running.broker.deliveries.pop(0).cancel()
    await turns()
    assert [type(error) for error in running.crashes] == [asyncio.CancelledError]
    assert topics(running.broker) == ["changelog"]
    assert not event.acked
