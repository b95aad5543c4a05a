"""The running service: refusals, stray keys, new parameters, what Redis holds."""

import json
from collections import Counter
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path

import pytest

from models.contracts.clock import Tick
from models.contracts.dead_letters import reason_of
from models.economics import Economics
from models.segments import DEFAULT_DIMENSIONS
from streams.cache import ScoreCache, connect
from streams.files.outgoing import OutgoingEvent, cloud_event
from streams.topics import changelog_topic
from tests.servers.broker import BOTH
from tests.test_models.hostile import hostile_records
from tests.test_models.parameters import PARAMETERS

from .cluster import cluster

TIME = datetime(2026, 1, 3, 10, tzinfo=UTC)
PUBLISHED = 20_000


def order(customer, order_id, key=...):
    data = {
        "order_id": order_id, "customer_id": customer, "placed_at": TIME, "currency": "USD",
        "total": "40.00",
    }  # fmt: skip
    event = cloud_event(
        "orders", "order.placed", source="/shop", event_id=order_id, time=TIME, data=data,
        customer_id=customer,
    )  # fmt: skip
    return event if key is ... else event._replace(key=key)


@BOTH
async def test_hostile_records_end_as_dead_letters_byte_for_byte(broker, tmp_path: Path):
    hostile = [
        OutgoingEvent("orders", key, value, list(headers), TIME)
        for key, value, headers in islice(hostile_records(3), PUBLISHED)
        if (key is not None or value is not None) and all(v is not None for _, v in headers)
    ]
    async with cluster(tmp_path, broker, economics=Economics(currency="EUR")) as service:
        await service.start_worker()
        await service.publish(hostile)
        await service.settled()
        letters = await service.records(service.settings.topics.dead_letters)
        stored = await service.read(changelog_topic(service.settings))
        inputs = {
            (str(r.partition), str(r.offset)): r
            for r in await service.records(service.settings.topics.orders)
        }
        assert await service.workers[0].stop() == 0
    reasons = Counter(reason_of(letter.headers) for letter in letters)
    assert reasons["not-json"] > 1_000
    assert reasons["invalid-field"] > 1_000
    assert any(stored.values())
    for letter in letters:
        added = dict(letter.headers[-6:])
        where = (
            added["__streams.errors.partition"].decode(),
            added["__streams.errors.offset"].decode(),
        )
        original = inputs[where]
        assert (letter.key, letter.value) == (original.key, original.value)
        assert letter.headers[:-6] == original.headers
        assert added["__streams.errors.topic"] == service.settings.topics.orders.encode()
        assert len(added["__streams.errors.message"]) > 10


@BOTH
async def test_stray_keys_find_home_and_refusals_say_why(broker, tmp_path: Path):
    events = [
        order("c1", "o1"),
        order("c1", "o1"),
        order("c2", "o2", key=b"somebody else"),
        order("c3", "o3", key=None),
        order(None, "o4"),
    ]
    async with cluster(tmp_path, broker) as service:
        await service.start_worker()
        await service.publish(events)
        await service.settled()
        updates = await service.updates()
        [letter] = await service.records(service.settings.topics.dead_letters)
        changes = await service.records(service.settings.topics.segment_changes)
        redis = connect(service.redis_url)
        cache = ScoreCache(redis)
        totals = await cache.totals("lifecycle")
        top = await cache.top(10)
        await redis.aclose()
    assert {customer: u["totals"]["orders"] for customer, u in updates.items()} == {
        "c1": 1, "c2": 1, "c3": 1,
    }  # fmt: skip
    assert reason_of(letter.headers) == "missing-customer"
    assert totals["new"].customers == 3
    assert {customer for customer, _ in top} == {"c1", "c2", "c3"}
    ids = [json.loads(change.value)["id"] for change in changes]
    assert len(ids) == len(set(ids)) == 3 * len(DEFAULT_DIMENSIONS)


@BOTH
async def test_parameters_take_effect_without_a_restart(broker, tmp_path: Path):
    later = datetime(2026, 3, 3, tzinfo=UTC)
    async with cluster(tmp_path, broker) as service:
        await service.start_worker()
        await service.publish([order("c1", "o1")])
        await service.settled()
        assert (await service.updates())["c1"]["model"]["version"] == "prior"
        await service.publish_parameters(PARAMETERS)
        await service.tick(Tick(as_of=later, parameters=PARAMETERS.version))
        await service.settled()
        update = (await service.updates())["c1"]
        assert update["model"] == {"name": "bg-nbd", "version": PARAMETERS.version}
        assert update["as_of"] == "2026-03-03T00:00:00Z"
        assert update["p_alive"] == pytest.approx(1.0)
        assert update["expected"]["purchases"] > 0


@BOTH
async def test_a_restarted_worker_goes_on_where_the_last_one_stopped(broker, tmp_path: Path):
    async with cluster(tmp_path, broker) as service:
        first = await service.start_worker()
        await service.publish([order("c1", f"o{n}") for n in range(10)])
        await service.settled()
        assert await first.stop() == 0
        await service.publish([order("c1", f"o{n}") for n in range(5, 15)])
        second = await service.start_worker()
        await service.settled()
        update = (await service.updates())["c1"]
        assert (update["totals"]["orders"], update["version"]) == (15, 15)
        assert await second.stop() == 0
