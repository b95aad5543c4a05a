"""The worker is killed outright in the middle of its work; nothing is lost and nothing doubled."""

import asyncio
import json
import signal
from collections import defaultdict
from collections.abc import Iterable
from decimal import Decimal
from itertools import islice
from pathlib import Path

from aiokafka import AIOKafkaConsumer

from models.aggregate.record import decode_record, is_customer
from models.aggregate.summary import Summary
from models.economics import MONEY_SCALE, Economics
from streams.datasets import DATASETS
from streams.files.outgoing import OutgoingEvent
from streams.topics import changelog_topic
from tests.servers.broker import BOTH, Kind

from ..service.cluster import Cluster, cluster

EVENTS = 6_000
AT_ONCE = 100
KILLED_AFTER_UPDATES = 500


def reckoned(events: Iterable[OutgoingEvent]) -> dict[str, tuple[int, Decimal]]:
    """Orders and gross of every customer, from the events themselves."""
    sums: defaultdict[str, tuple[int, Decimal]] = defaultdict(lambda: (0, Decimal(0)))
    for event in events:
        order = json.loads(event.value)["data"]
        orders, gross = sums[order["customer_id"]]
        sums[order["customer_id"]] = orders + 1, gross + Decimal(order["total"])
    return dict(sums)


async def publish_slowly(service: Cluster, events: list[OutgoingEvent]) -> None:
    for start in range(0, len(events), AT_ONCE):
        await service.publish(events[start : start + AT_ONCE])
        await asyncio.sleep(0.03)


async def updates_seen(consumer: AIOKafkaConsumer, count: int) -> None:
    seen = 0
    async with asyncio.timeout(120):
        while seen < count:
            seen += sum(map(len, (await consumer.getmany(timeout_ms=20)).values()))


@BOTH
async def test_every_order_counts_once_though_the_worker_is_killed(
    broker: Kind, tmp_path: Path
) -> None:
    events = list(islice(DATASETS["cdnow"].events(), EVENTS))
    expected = reckoned(events)
    economics = Economics(currency="USD")
    async with cluster(tmp_path, broker, economics=economics) as service:
        watching = AIOKafkaConsumer(
            service.settings.topics.updates,
            **service.broker.client_options(),
            auto_offset_reset="earliest",
        )
        async with watching:
            worker = await service.start_worker()
            await service.publish(events[:AT_ONCE])
            await updates_seen(watching, 1)
            publishing = asyncio.create_task(publish_slowly(service, events[AT_ONCE:]))
            await updates_seen(watching, KILLED_AFTER_UPDATES)
            await worker.stop(signal.SIGKILL)
            assert not publishing.done()
            await service.start_worker()
            await publishing
        await service.settled()
        published = {
            customer: (update["totals"]["orders"], Decimal(str(update["totals"]["gross"])))
            for customer, update in (await service.updates()).items()
        }
        changelog = await service.records(changelog_topic(service.settings))
    assert published == expected
    records = {
        record.key.decode(): decode_record(record.value)
        for record in changelog
        if is_customer(record.key)
    }
    stored = {
        customer: Summary(record.aggregate, economics) for customer, record in records.items()
    }
    assert {
        customer: (summary.orders, Decimal(summary.gross) / MONEY_SCALE)
        for customer, summary in stored.items()
    } == expected
    # A version is an applied event: that none was applied twice shows even where the fold forgives.
    assert {customer: record.version for customer, record in records.items()} == {
        customer: orders for customer, (orders, _) in expected.items()
    }
