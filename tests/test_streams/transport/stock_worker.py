"""A stock Faust worker on a real broker: says what it committed, and what its changelog then held.

A process of its own, because Faust's threaded producer cannot be stopped.
Arguments: bootstrap address, and "threaded" or "plain".
"""

import asyncio
import os
import sys

import faust
from aiokafka import AIOKafkaConsumer, TopicPartition

LINGER_SECONDS = 1.5


async def main(address: str, mode: str) -> None:
    app = faust.App(
        mode,
        broker=f"kafka://{address}",
        broker_commit_interval=0.1,
        broker_heartbeat_interval=0.5,
        broker_session_timeout=2,
        producer_linger=LINGER_SECONDS,
        producer_threaded=mode == "threaded",
        store="memory://",
        topic_disable_leader=True,
        topic_partitions=1,
        web_enabled=False,
    )
    table = app.Table("counts", key_type=bytes, value_type=bytes, partitions=1)

    async def run(stream):
        async for _ in stream:
            table[b"k"] = b"1"

    app.agent(app.topic("orders"))(run)
    app.finalize()
    await app.start()
    reader = AIOKafkaConsumer(bootstrap_servers=address, group_id=mode, enable_auto_commit=False)
    await reader.start()
    source, changelog = TopicPartition("orders", 0), TopicPartition(f"{mode}-counts-changelog", 0)
    while not (committed := await reader.committed(source)):  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    print(committed, (await reader.end_offsets([changelog]))[changelog], flush=True)
    os._exit(0)


asyncio.run(main(*sys.argv[1:]))
