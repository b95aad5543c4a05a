"""A node comes back with less than it had acknowledged: its log lost its end."""

import struct
from pathlib import Path

import pytest

from streams.basis.findings import LOST
from streams.embedded import EmbeddedRedis
from streams.kafka.connection import Broker
from streams.settings import Settings
from streams.topics import prepare_topics
from tests.servers.kafka import KafkaCluster, kafka_missing_reason
from tests.test_streams.service.cluster import Cluster, own_names

from .support import clv, critical, end_of, failing, orders, totals

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

_BATCH = struct.Struct(">qi")
"""How a batch begins in a segment: its first offset, and the bytes that follow."""


def lose_last_batch(data: Path, topic: str) -> None:
    """Cut a log's only segment before its last batch, as a disk does that was not flushed."""
    segment = data / f"{topic}-0" / f"{0:020}.log"
    content = segment.read_bytes()
    place = last = 0
    while place < len(content):
        last = place
        place += _BATCH.size + _BATCH.unpack_from(content, place)[1]
    segment.write_bytes(content[:last])
    for index in segment.parent.glob("*index"):
        index.unlink()


async def test_a_log_that_lost_its_end_is_found_and_accepted(tmp_path: Path):
    if reason := kafka_missing_reason():
        pytest.skip(reason)
    async with KafkaCluster(1, tmp_path / "kafka") as kafka, EmbeddedRedis() as redis:
        settings = Settings(
            broker=kafka.address, redis=redis.url, replication=1, partitions=1, **own_names()
        )
        broker = Broker.of(settings)
        service = Cluster(
            settings, broker, redis.url, await prepare_topics(settings, broker), tmp_path
        )
        try:
            worker = await service.start_worker()
            for name in "1234":
                await service.publish(orders("c1", name))
            await service.settled()
            assert await worker.stop() == 0
            kafka.nodes[0].kill()
            lose_last_batch(kafka.nodes[0].data, settings.topics.orders)
            await kafka.nodes[0].start()

            status, said = await end_of(await service.start_worker())
            assert status == LOST, said[-3_000:]
            lost = f"{settings.topics.orders}[0]: the log ends at offset 3, and 4 was reached"
            assert lost in critical(said)
            assert "clv accept-loss" in (await failing(service))["offsets"].advice

            # New events take the offsets of those that are lost.
            await service.publish(orders("c1", "5"))
            status, _, said = await clv(service, "accept-loss", "--yes")
            assert status == 0, said
            assert not await failing(service)
            service.workers.clear()
            worker = await service.start_worker()
            await service.publish(orders("c1", "6"))
            await service.settled()
            # The order that was lost was counted, and counts once when it is published again.
            assert await totals(service) == {"c1": (6, 240.0)}
            await service.publish(orders("c1", "4"))
            await service.settled()
            assert await totals(service) == {"c1": (6, 240.0)}
            assert await worker.stop() == 0
        finally:
            for running in service.workers:
                await running.stop(9)
