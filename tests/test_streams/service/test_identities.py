"""Erased and merged customers in the running service, across partitions and a kill."""

import asyncio
import itertools
import random
import signal
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from models.aggregate.record import customers, is_customer
from streams.cache import connect
from streams.embedded import EmbeddedRedis
from streams.files.outgoing import cloud_event
from streams.kafka.connection import Broker
from streams.kafka.partitions import home_partition
from streams.settings import Settings
from streams.topics import changelog_topic, prepare_topics
from tests.servers.broker import BOTH
from tests.servers.kafka import KafkaCluster

from .cluster import Cluster, cluster, own_names

TIME = datetime(2026, 1, 3, 10, tzinfo=UTC)
ERASED = "somebody-who-wants-to-be-forgotten"


def order(customer, order_id, days=0):
    placed_at = TIME + timedelta(days=days)
    return cloud_event(
        "orders", "order.placed", source="/shop", event_id=order_id, time=placed_at,
        customer_id=customer,
        data={
            "order_id": order_id, "customer_id": customer, "placed_at": placed_at,
            "currency": "USD", "total": "40.00",
        },
    )  # fmt: skip


def said(kind, customer, days=0, **more):
    at = TIME + timedelta(days=days)
    return cloud_event(
        "identities", f"customer.{kind}", source="/crm", event_id=f"{kind}-{customer}-{days}",
        time=at, customer_id=customer,
        data={"customer_id": customer, f"{kind}_at": at, **more},
    )  # fmt: skip


async def everything_in_redis(url):
    redis = connect(url)
    try:
        found = []
        async for key in redis.scan_iter():
            found += [key, await redis.dump(key)]
            kind = await redis.type(key)
            if kind == b"zset":
                found += await redis.zrange(key, 0, -1)
            elif kind == b"set":
                found += await redis.smembers(key)
            elif kind == b"hash":
                for field, value in (await redis.hgetall(key)).items():
                    found += [field, value]
        return b"\n".join(found)
    finally:
        await redis.aclose()


def last_by_key(records):
    last = {record.key: record.value for record in records}
    return {key: value for key, value in last.items() if value is not None}


@BOTH
async def test_no_store_knows_the_erased_and_late_events_do_not_bring_them_back(
    broker, tmp_path: Path
):
    async with cluster(tmp_path, broker) as service:
        worker = await service.start_worker()
        await service.publish([order(ERASED, "o1"), order(ERASED, "o2", 1), order("other", "o3")])
        await service.settled()
        assert ERASED.encode() in await everything_in_redis(service.redis_url)
        await service.publish([said("erased", ERASED, 10)])
        await service.settled()
        await service.publish([order(ERASED, "o4", 5)])
        await service.settled()
        # What a restarted worker restores must have forgotten them too.
        await worker.stop(signal.SIGKILL)
        await service.start_worker()
        await service.publish([order(ERASED, "o5", 6)])
        await service.settled()
        redis = await everything_in_redis(service.redis_url)
        updates = last_by_key(await service.records(service.settings.topics.updates))
        stored = last_by_key(await service.records(changelog_topic(service.settings)))
    assert b"other" in redis
    assert ERASED.encode() not in redis
    assert set(updates) == {b"other"}
    assert {key for key in stored if is_customer(key)} == {b"other"}
    assert all(ERASED.encode() not in key + value for key, value in stored.items())


@BOTH
async def test_merges_of_merges_across_partitions_survive_kills(broker, tmp_path: Path):
    names = [f"known-as-{n}" for n in range(12)]
    assert len({home_partition(name.encode(), 4) for name in names}) == 4
    chance = random.Random(7)
    orders = [order(name, f"{name}/{n}", n) for name in names for n in range(5)]
    # Each is merged into the one before, in a random order: chains meet while they move.
    merges = [
        said("merged", into, 20, merged_from=name) for into, name in itertools.pairwise(names)
    ]
    chance.shuffle(merges)
    late = [order(name, f"{name}/late", 30) for name in names]
    events = [*orders, *merges, *late]
    async with cluster(tmp_path, broker) as service:
        workers = [await service.start_worker(), await service.start_worker()]
        await service.publish(orders[:10])
        publishing = asyncio.create_task(publish_slowly(service, events[10:]))
        for turn in range(3):
            await asyncio.sleep(1 + chance.random())
            await workers[turn % 2].stop(signal.SIGKILL)
            workers[turn % 2] = await service.start_worker()
        await publishing
        await service.settled()
        updates = await service.updates()
        stored = last_by_key(await service.records(changelog_topic(service.settings)))
        cached = await service.cached(names)
    present = [key for key, _ in customers(stored)]
    assert present == [names[0].encode()]
    assert set(updates) == set(cached) == {names[0]}
    assert updates[names[0]]["totals"]["orders"] == len(names) * 6
    assert cached == updates


async def publish_slowly(service: Cluster, events):
    for start in range(0, len(events), 3):
        await service.publish(events[start : start + 3])
        await asyncio.sleep(0.1)


@pytest.mark.kafka
async def test_compaction_leaves_nothing_of_the_erased_on_disk(tmp_path: Path):
    logs = tmp_path / "kafka"
    logs.mkdir()
    cleaning = {"log.cleaner.backoff.ms": "200"}
    async with KafkaCluster(1, logs, properties=cleaning) as kafka, EmbeddedRedis() as redis:
        names = own_names()
        settings = Settings(broker=kafka.address, redis=redis.url, partitions=1, **names)
        connection = Broker.of(settings)
        await prepare_topics(settings, connection)
        service = Cluster(settings, connection, redis.url, 1, tmp_path)
        await service.start_worker()
        await service.publish([order(ERASED, "o1"), said("erased", ERASED, 10)])
        await service.settled()
        compacted = [settings.topics.updates, changelog_topic(settings)]
        await compact_at_once(kafka.address, compacted)
        number = 0
        async with asyncio.timeout(60):
            while any(ERASED in text for text in files_of(logs, compacted)):
                # The newest segment is never compacted: others have to follow.
                await service.publish([order(f"other-{number}", f"x{number}")])
                await service.settled()
                number += 1
        assert any("other-0" in text for text in files_of(logs, compacted))
        assert await service.workers[0].stop() == 0


def files_of(logs: Path, topics):
    return [
        path.read_bytes().decode("latin-1")
        for topic in topics
        for path in logs.rglob(f"{topic}-*/*.log")
    ]


async def compact_at_once(address, topics):
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        wanted = {
            "cleanup.policy": "compact", "segment.ms": "100", "delete.retention.ms": "0",
            "min.cleanable.dirty.ratio": "0.0001", "max.compaction.lag.ms": "100",
        }  # fmt: skip
        resources = [
            ConfigResource(ConfigResourceType.TOPIC, topic, configs=wanted) for topic in topics
        ]
        for response in await admin.alter_configs(resources):
            assert all(code == 0 for code, *_ in response.resources), response
    finally:
        await admin.close()
