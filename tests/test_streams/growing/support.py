"""A shop with customers of all kinds, and what is stored, published and cached of them."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from aiokafka import AIOKafkaProducer

from models.aggregate.record import (
    BASIS_KEY,
    decode_forgotten,
    decode_record,
    encode_record,
    is_customer,
    is_forgotten,
)
from streams.basis.record import Basis, decode_basis, encode_basis
from streams.cache import ScoreCache, connect
from streams.files.outgoing import OutgoingEvent, cloud_event
from streams.growing.group import group_held
from streams.growing.growth import Grown, grow
from streams.growing.survey import Findings, look
from streams.kafka.clients import started
from streams.kafka.partitions import home_partition
from streams.topics import changelog_topic
from tests.test_streams.service.cluster import Cluster

TIME = datetime(2026, 1, 3, 10, tzinfo=UTC)
NAMES = [f"customer-{number}" for number in range(300)]
ERASED = NAMES[::25]
MERGED = NAMES[1::25]


def order(customer: str, order_id: str, days: float = 0) -> OutgoingEvent:
    placed_at = TIME + timedelta(days=days)
    return cloud_event(
        "orders", "order.placed", source="/shop", event_id=order_id, time=placed_at,
        customer_id=customer,
        data={
            "order_id": order_id, "customer_id": customer, "placed_at": placed_at,
            "currency": "USD", "total": "40.00",
        },
    )  # fmt: skip


def said(kind: str, customer: str, days: float = 0, **more: str) -> OutgoingEvent:
    at = TIME + timedelta(days=days)
    return cloud_event(
        "identities", f"customer.{kind}", source="/crm", event_id=f"{kind}-{customer}-{days}",
        time=at, customer_id=customer,
        data={"customer_id": customer, f"{kind}_at": at, **more},
    )  # fmt: skip


def first_orders() -> list[OutgoingEvent]:
    chance = random.Random(3)
    return [
        order(name, f"{name}/{number}", chance.uniform(0, 90))
        for name in NAMES
        for number in range(chance.randint(1, 6))
    ]


def identities() -> list[OutgoingEvent]:
    erased = [said("erased", name, 100) for name in ERASED]
    merged = [
        said("merged", NAMES[(25 * number + 38) % 300], 101, merged_from=name)
        for number, name in enumerate(MERGED)
    ]
    return erased + merged


@dataclass
class Snapshot:
    """What a service has: records, updates and entries of the cache by customer.

    astray: keys that are stored or published in a partition where they are not at home.
    """

    customers: dict[bytes, bytes]
    updates: dict[bytes, bytes]
    erased: dict[bytes, tuple[int, int]]
    cached: dict[str, Any]
    totals: dict[str, Any]
    astray: list[str]
    bases: list[Basis | None]


async def newest(service: Cluster, topic: str) -> dict[int, dict[bytes, bytes]]:
    found: dict[int, dict[bytes, bytes]] = {}
    for tp, records in (await service.read(topic)).items():
        last = {record.key: record.value for record in records}
        found[tp.partition] = {key: value for key, value in last.items() if value is not None}
    return found


async def snapshot(service: Cluster) -> Snapshot:
    stored = await newest(service, changelog_topic(service.settings))
    published = await newest(service, service.settings.topics.updates)
    customers: dict[bytes, bytes] = {}
    updates: dict[bytes, bytes] = {}
    erased: dict[bytes, tuple[int, int]] = {}
    astray = []
    for partition, held in stored.items():
        for key, data in held.items():
            if is_forgotten(key):
                left = decode_forgotten(data)
                erased[key] = max(erased.get(key, (0, 0)), (left.version, left.erased_at))
            elif is_customer(key):
                if home_partition(key, service.partitions) != partition:
                    astray.append(f"{key!r} is stored in {partition}")
                customers[key] = encode_record(
                    msgspec.structs.replace(decode_record(data), outbox=())
                )
    for partition, held in published.items():
        for key, data in held.items():
            if home_partition(key, service.partitions) != partition:
                astray.append(f"{key!r} is published in {partition}")
            updates[key] = data
    redis = connect(service.redis_url)
    try:
        cache = ScoreCache(redis)
        cached = {}
        for ranked in await cache.top(await cache.size()):
            score = await cache.get(ranked.customer_id)
            assert score is not None
            cached[ranked.customer_id] = (score.clv, score.segments, score.update)
        totals = {name: await cache.totals(name) for name in ("lifecycle", "tier", "behaviour")}
    finally:
        await redis.aclose()
    bases = [stored.get(n, {}).get(BASIS_KEY) for n in range(service.partitions)]
    return Snapshot(
        customers, updates, erased, cached, totals, astray,
        [None if each is None else decode_basis(each, n) for n, each in enumerate(bases)],
    )  # fmt: skip


def assert_same_customers(before: Snapshot, after: Snapshot) -> None:
    assert after.astray == []
    assert after.customers == before.customers
    assert after.updates == before.updates
    assert after.erased == before.erased
    assert after.cached == before.cached
    assert after.totals == before.totals


async def note_bases(service: Cluster) -> None:
    """What a worker notes when it first has a partition."""
    settings = service.settings
    basis = Basis(
        service.partitions, {}, {}, settings.economics.currency, str(settings.economics.timezone)
    )
    for partition in range(service.partitions):
        await written(service, changelog_topic(settings), BASIS_KEY, encode_basis(basis), partition)


async def written(
    service: Cluster, topic: str, key: bytes, value: bytes, partition: int | None = None
) -> None:
    """A record that all replicas have; where its key is at home, unless it is said."""
    client = AIOKafkaProducer(bootstrap_servers=service.broker.servers, acks="all")
    async with started(client) as producer:
        home = home_partition(key, service.partitions) if partition is None else partition
        await producer.send_and_wait(topic, value, key, home)


async def grown(
    service: Cluster, partitions: int, step: Callable[[str], None] = lambda _step: None
) -> Grown:
    """Grow the topics, as the command does."""
    settings, broker = service.settings, service.broker
    redis = connect(service.redis_url)
    try:
        async with group_held(settings, broker) as held:
            found = await look(settings, broker, partitions)
            done = await grow(
                settings, broker, found, cache=ScoreCache(redis), held=held, step=step
            )
    finally:
        await redis.aclose()
    service.partitions = partitions
    return done


async def found_for(service: Cluster, partitions: int) -> Findings:
    return await look(service.settings, service.broker, partitions)


def orders_of(updates: Mapping[str, dict[str, Any]]) -> dict[str, int]:
    return {customer: update["totals"]["orders"] for customer, update in updates.items()}
