"""Publishers may use Kafka's transactions: what they abort never happened."""

from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from streams.kafka.partitions import home_partition

from .cluster import cluster
from .test_service import order


@pytest.mark.kafka
async def test_orders_of_aborted_transactions_do_not_count(tmp_path: Path):
    async with cluster(tmp_path, "kafka") as service:
        topic = service.settings.topics.orders

        async def send(producer: AIOKafkaProducer, order_id: str) -> None:
            event = order("c1", order_id)
            await producer.send_and_wait(
                topic,
                event.value,
                key=event.key,
                headers=event.headers,
                partition=home_partition(event.key, service.partitions),
            )

        producer = AIOKafkaProducer(
            **service.broker.client_options(), transactional_id=service.settings.app_id
        )
        await service.start_worker()
        async with producer:
            async with producer.transaction():
                await send(producer, "o1")
            await producer.begin_transaction()
            await send(producer, "o2")
            await producer.abort_transaction()
            async with producer.transaction():
                await send(producer, "o3")
        # The last record is no transaction's marker: it can be committed, and waited for.
        await service.publish([order("c1", "o4")])
        await service.settled()
        update = (await service.updates())["c1"]
        assert (update["totals"]["orders"], update["version"]) == (3, 3)
        assert await service.workers[0].stop() == 0
