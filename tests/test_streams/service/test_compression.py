"""Publishers choose how they compress; every usual way is read."""

from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from streams.kafka.partitions import home_partition

from .cluster import cluster
from .test_service import order


@pytest.mark.parametrize("broker", ["kafka"])
async def test_every_compression_of_kafka_is_read(broker, tmp_path: Path):
    codecs = ["gzip", "snappy", "lz4", "zstd"]
    async with cluster(tmp_path, broker) as service:
        await service.start_worker()
        for codec in codecs:
            async with AIOKafkaProducer(
                **service.broker.client_options(), compression_type=codec
            ) as producer:
                event = order("c1", codec)
                home = home_partition(event.key, service.partitions)
                await producer.send_and_wait(
                    service.settings.topics.orders, event.value, event.key, partition=home
                )
        await service.settled()
        assert (await service.updates())["c1"]["totals"]["orders"] == len(codecs)
        assert await service.workers[0].stop() == 0
