"""The order in which a batch's outputs, changelog records and acknowledgement happen."""

import asyncio
import json

import pytest
from structlog.testing import capture_logs

from models.aggregate.record import decode_record, is_customer
from models.routing import Route, route_header
from models.segments import DEFAULT_RULES
from streams.basis.key import ErasureKeyChanged
from streams.cache import score as score_module
from streams.kafka.partitions import home_partition
from streams.outgoing import LARGEST_LETTER, positions
from streams.transport.producer import Delivery
from tests.test_models.events import KafkaRecord, at, body, milliseconds

from .support import Event, orders, said, topics, turns

DIMENSIONS = len(DEFAULT_RULES.dimensions)


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
