"""The Kafka that the tests run: it lives through a killed node, and keeps its data."""

import asyncio
import signal
import ssl
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from tests.servers.kafka import KafkaCluster, Security, kafka_missing_reason

pytestmark = [
    pytest.mark.kafka,
    pytest.mark.skipif(kafka_missing_reason() is not None, reason=kafka_missing_reason() or ""),
]
PARTITION = TopicPartition("orders", 0)


async def create_topic(address: str, replication: int, **options) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address, **options)
    await admin.start()
    try:
        response = await admin.create_topics([NewTopic("orders", 1, replication)])
        assert [error[1] for error in response.topic_errors] == [0]
    finally:
        await admin.close()


async def publish(address: str, *values: bytes, **options) -> None:
    producer = AIOKafkaProducer(bootstrap_servers=address, acks="all", **options)
    try:
        await producer.start()
        for value in values:
            await producer.send_and_wait("orders", value)
    finally:
        await producer.stop()


async def read(address: str, count: int, **options) -> list[bytes]:
    found: list[bytes] = []
    async with AIOKafkaConsumer(
        bootstrap_servers=address, auto_offset_reset="earliest", **options
    ) as consumer:
        consumer.assign([PARTITION])
        async with asyncio.timeout(180):
            while len(found) < count:
                for records in (await consumer.getmany(timeout_ms=100)).values():
                    found += [record.value for record in records]
    return found


async def leader(address: str) -> tuple[int, set[int]]:
    """The leader of the partition, and the replicas in sync."""
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        [topic] = await admin.describe_topics(["orders"])
        [partition] = topic["partitions"]
        return partition["leader"], set(partition["isr"])
    finally:
        await admin.close()


async def test_acknowledged_records_survive_killed_nodes(tmp_path: Path):
    async with KafkaCluster(3, tmp_path) as kafka:
        await create_topic(kafka.address, 3)
        await publish(kafka.address, b"1")
        first, _ = await leader(kafka.address)
        kafka.nodes[first - 1].kill()
        # The producer waits for the next leader.
        await publish(kafka.address, b"2")
        second, in_sync = await leader(kafka.address)
        assert second != first
        assert in_sync == {1, 2, 3} - {first}
        assert await read(kafka.address, 2) == [b"1", b"2"]
        await kafka.nodes[first - 1].start()
        async with asyncio.timeout(180):
            while (await leader(kafka.address))[1] != {1, 2, 3}:  # noqa: ASYNC110
                await asyncio.sleep(0.2)
        # Its copy is whole: it serves what it slept through.
        kafka.nodes[second - 1].kill()
        await publish(kafka.address, b"3")
        assert await read(kafka.address, 3) == [b"1", b"2", b"3"]


async def test_a_single_node_can_be_stopped_started_and_frozen_and_keeps_its_data(tmp_path: Path):
    async with KafkaCluster(1, tmp_path) as kafka:
        await create_topic(kafka.address, 1)
        await publish(kafka.address, b"1")
        [node] = kafka.nodes
        pid = node.pid
        await node.terminate()
        assert not node.is_running
        with pytest.raises(KafkaError):
            await publish(kafka.address, b"2", request_timeout_ms=1_000)
        await node.start()
        assert node.pid != pid
        await publish(kafka.address, b"3")
        assert await read(kafka.address, 2) == [b"1", b"3"]
        node.freeze()
        reading = asyncio.create_task(read(kafka.address, 2))
        finished, _ = await asyncio.wait([reading], timeout=1)
        assert not finished
        node.thaw()
        assert await reading == [b"1", b"3"]


async def test_clients_need_the_certificate_and_the_password(tmp_path: Path):
    security = Security("SASL_SSL", "SCRAM-SHA-512", username="shop", password="open sesame")
    async with KafkaCluster(1, tmp_path, security=security) as kafka:
        options = {
            "security_protocol": "SASL_SSL",
            "ssl_context": ssl.create_default_context(cafile=str(kafka.certificates.ca)),
            "sasl_mechanism": "SCRAM-SHA-512",
            "sasl_plain_username": "shop",
            "sasl_plain_password": "open sesame",
        }
        await create_topic(kafka.address, 1, **options)
        await publish(kafka.address, b"1", **options)
        assert await read(kafka.address, 1, **options) == [b"1"]
        wrong = options | {"sasl_plain_password": "a guess"}
        with pytest.raises(KafkaError):
            await publish(kafka.address, b"2", **wrong)
        stranger = options | {"ssl_context": ssl.create_default_context()}
        with pytest.raises(KafkaError):
            await publish(kafka.address, b"2", **stranger)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends it with its parent")
def test_nodes_end_with_the_process_that_started_them(tmp_path: Path):
    program = f"""
        import asyncio, os, signal
        from pathlib import Path
        from tests.servers.kafka import KafkaCluster

        async def main():
            kafka = KafkaCluster(1, Path({str(tmp_path)!r}))
            await kafka.start()
            print(kafka.nodes[0].pid, flush=True)
            os.kill(os.getpid(), signal.SIGKILL)

        asyncio.run(main())
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == -signal.SIGKILL, done.stderr
    node = Path("/proc") / done.stdout.strip()
    for _ in range(100):
        if not node.exists() or "Z" in node.joinpath("stat").read_text().rsplit(")")[1].split()[0]:
            return
        time.sleep(0.05)
    pytest.fail(f"process {node.name} still runs")
