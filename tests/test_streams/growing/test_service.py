"""A service on Apache Kafka whose partitions become more."""

import random
from typing import NamedTuple

import pytest

from models.aggregate.fold import milliseconds
from models.identity import Release, encode_message
from models.routing import Route, route_header, route_of
from streams.growing.stage import GrowthRefused
from streams.kafka.groups import group_client
from streams.kafka.partitions import TopicPartition, home_partition
from streams.kafka.writing import Outgoing, record_writer
from streams.publisher import Publisher
from tests.test_streams.service.cluster import cluster

from .support import (
    ERASED,
    MERGED,
    NAMES,
    TIME,
    assert_same_customers,
    first_orders,
    found_for,
    grown,
    identities,
    order,
    orders_of,
    said,
    snapshot,
    written,
)

pytestmark = pytest.mark.kafka

ENCODED = [name.encode() for name in NAMES]


async def busy(service):
    """A service that had work of every kind, and was stopped."""
    worker = await service.start_worker()
    await service.publish(first_orders())
    await service.settled()
    await service.publish(identities())
    await service.settled()
    assert await worker.stop() == 0


@pytest.mark.parametrize("more", [12, 6])
async def test_customers_values_and_cache_are_the_same_in_more_partitions(more, tmp_path):
    async with cluster(tmp_path, "kafka") as service:
        await busy(service)
        before = await snapshot(service)
        found = await found_for(service, more)
        done = await grown(service, more)
        after = await snapshot(service)
        assert_same_customers(before, after)
        assert (
            done.customers
            == found.moving
            == sum(home_partition(key, 4) != home_partition(key, more) for key in before.customers)
        )
        assert [basis.partitions for basis in after.bases] == [more] * more
        with pytest.raises(GrowthRefused, match=f"{more} partitions already"):
            await found_for(service, more)

        # Events of all customers count on; those of the erased from before do not.
        await service.start_worker()
        await service.publish(
            [order(name, f"{name}/late", 50) for name in ERASED]
            + [order(name, f"{name}/new", 120) for name in NAMES]
        )
        await service.settled()
        counted, last = orders_of(await service.updates()), await snapshot(service)
        cached = await service.cached(NAMES)
    assert last.astray == []
    assert orders_of(cached) == counted
    assert {name: counted[name] for name in ERASED} == dict.fromkeys(ERASED, 1)
    assert counted.keys() == {*NAMES} - {*MERGED}


async def test_what_lay_unread_in_the_old_partitions_counts_once(tmp_path):
    async with cluster(tmp_path, "kafka") as service:
        worker = await service.start_worker()
        await service.publish([order(name, f"{name}/1") for name in NAMES])
        await service.settled()
        assert await worker.stop() == 0
        # Some again, under their own ids and under others: these have been counted.
        await service.publish([order(name, f"{name}/1") for name in NAMES[:100]])
        await service.publish([order(name, f"{name}/2", 1) for name in NAMES])
        moved_away, into = NAMES[7], NAMES[8]
        await service.publish([said("merged", into, 2, merged_from=moved_away)])
        await handed_on(service, NAMES[9], Release(NAMES[10], milliseconds(TIME)))
        await grown(service, 12)
        # A publisher that has not heard of the new partitions yet.
        await published_to_old_partitions(service, [order(name, f"{name}/3", 2) for name in NAMES])
        await service.publish([order(name, f"{name}/4", 3) for name in NAMES])
        await service.start_worker()
        await service.settled()
        counted = orders_of(await service.updates())
        last = await snapshot(service)
    assert last.astray == []
    both = {into: 8, NAMES[10]: 8}
    gone = {moved_away, NAMES[9]}
    assert counted == dict.fromkeys(set(NAMES) - gone, 4) | both
    assert set(last.cached) == set(counted)


async def handed_on(service, customer, message):
    """A message between workers that lies where the customer was at home."""
    topic = service.settings.topics.identity
    await written(service, topic, customer.encode(), encode_message(message))


async def published_to_old_partitions(service, events):
    async with Publisher(service.broker, service.settings.topics, 4) as publisher:
        await publisher.publish(events)


@pytest.mark.parametrize("published_at_home", [False, True])
async def test_misrouted_records_are_not_overtaken_by_newer_ones(published_at_home, tmp_path):
    async with cluster(tmp_path, "kafka") as service:
        left = await leave_unread(service, 6, published_at_home=published_at_home)
        done = await grown(service, 6)
        assert done.rerouted == len(left.routes)
        there = await service.read(service.settings.topics.rerouted)
        assert [route_of(record.headers) for record in there[left.now_in]] == left.routes
        await assert_none_was_overtaken(service, left)


class Left(NamedTuple):
    """Orders of one customer in turn: all that there are, and those that were sent on.

    routes: of misrouted records that nobody has read; now_in: where they belong when it has grown.
    """

    name: str
    orders: int
    routes: list[Route]
    now_in: TopicPartition


async def leave_unread(service, more, *, published_at_home):
    """Leave more orders of a customer than are remembered: one that is overtaken is refused.

    published_at_home: whether the partition that all are published to is the customer's home when
    there are more.
    """
    topics, orders = service.settings.topics, 800
    homes = ((name, home_partition(name, 4), home_partition(name, more)) for name in ENCODED)
    name, home, new_home = next(each for each in homes if each[2] < 4 and each[1] != each[2])
    elsewhere = next(number for number in range(4) if number not in (home, new_home))
    origin = TopicPartition(topics.orders, new_home if published_at_home else elsewhere)
    events = [order(name.decode(), f"o{number}", number / 10) for number in range(orders)]
    await published(service, origin, [Outgoing(e.key, e.value, e.headers) for e in events[:50]])
    worker = await service.start_worker()
    await service.settled()
    assert await worker.stop() == 0
    service.workers.clear()
    # Fifty more were sent on before the worker stopped, and nobody has read them.
    await published(service, origin, [Outgoing(e.key, e.value, e.headers) for e in events[50:]])
    routes = [Route(f"{origin.topic}/{origin.partition}", n, name) for n in range(50, 100)]
    # So large that it takes several fetches to read them; one brings all that came after them.
    padding = "padding", random.Random(1).randbytes(200_000)
    sent = [
        Outgoing(name, event.value, [*event.headers, padding, route_header(route)])
        for event, route in zip(events[50:100], routes, strict=True)
    ]
    await published(service, TopicPartition(topics.rerouted, home), sent)
    async with group_client(service.broker, service.settings.app_id) as group:
        await group.commit({origin: 100})
    return Left(name.decode(), orders, routes, TopicPartition(topics.rerouted, new_home))


async def assert_none_was_overtaken(service, left):
    await service.start_worker()
    await service.settled()
    assert await service.records(service.settings.topics.dead_letters) == []
    assert orders_of(await service.updates())[left.name] == left.orders


async def published(service, tp, records):
    async with record_writer(service.broker) as writer:
        await writer.write(tp, records)


async def test_a_copy_on_disk_from_before_is_not_used(tmp_path, monkeypatch):
    monkeypatch.setenv("CLV_STATE_DIR", str(tmp_path / "state"))
    async with cluster(tmp_path, "kafka") as service:
        worker = await service.start_worker()
        await service.publish([order(name, f"{name}/1") for name in NAMES])
        await service.settled()
        assert await worker.stop() == 0
        copies = sorted((tmp_path / "state").rglob("*.copy"))
        assert len(copies) == 4
        await grown(service, 12)
        worker = await service.start_worker()
        await service.publish([order(name, f"{name}/2", 1) for name in NAMES])
        await service.settled()
        assert orders_of(await service.updates()) == dict.fromkeys(NAMES, 2)
        assert await worker.stop() == 0
        assert worker.log.read_text().count("a file is no copy of this partition") == 4
        assert len(sorted((tmp_path / "state").rglob("*.copy"))) == 12
