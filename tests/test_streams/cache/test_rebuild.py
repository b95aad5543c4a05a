"""`clv rebuild-cache` against real servers."""

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaProducer

from streams.cache import ScoreCache, connect
from streams.embedded import embedded_servers
from streams.kafka.connection import Broker
from streams.kafka.partitions import home_partition
from streams.settings import Settings
from streams.topics import prepare_topics
from tests.servers import forks

ROOT = Path(__file__).parents[3]


async def command(environment: dict[str, str], *options: str) -> subprocess.CompletedProcess[str]:
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == "CLV_ERASURE_KEY" or not name.startswith("CLV_")
    }
    return await asyncio.to_thread(
        forks.run,
        [sys.executable, "-m", "streams.cli", "rebuild-cache", "--json", *options],
        cwd=ROOT, env=kept | environment, timeout=120,
    )  # fmt: skip


async def rebuilt(environment: dict[str, str], *options: str) -> dict[str, Any]:
    done = await command(environment, *options)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


async def test_a_rebuild_fills_repairs_and_clears_and_may_be_repeated() -> None:
    async with embedded_servers() as servers:
        environment = {"CLV_BROKER": servers.broker.address, "CLV_REDIS": servers.redis.url}
        settings = Settings(broker=servers.broker.address, redis=servers.redis.url)
        partitions = await prepare_topics(settings, Broker.of(settings))
        producer = AIOKafkaProducer(bootstrap_servers=servers.broker.address, acks="all")
        await producer.start()
        for number in range(100):
            name = f"c{number}"
            data = {"customer_id": name, "version": 1, "clv": 2.5, "segments": {"tier": "gold"}}
            value = json.dumps({"data": data}).encode()
            home = home_partition(name.encode(), partitions)
            await producer.send(settings.topics.updates, value, name.encode(), home)
        await producer.flush()
        home = home_partition(b"c0", partitions)
        await producer.send_and_wait(settings.topics.updates, None, b"c0", home)
        await producer.stop()
        redis = connect(servers.redis.url)
        cache = ScoreCache(redis)
        first = await rebuilt(environment)
        assert (first["records"], first["written"], first["customers"]) == (101, 99, 99)
        assert await cache.get("c0") is None
        assert all(await cache.marks(range(partitions)))
        again = await rebuilt(environment)
        assert (again["records"], again["written"], again["customers"]) == (101, 0, 99)
        await redis.delete("clv:customer:c5")
        await redis.set("clv:customer:stray", "somebody's hand")
        await redis.hset("clv:marks", "0", "5000")
        refused = await command(environment)
        assert refused.returncode != 0
        assert "clv rebuild-cache --clear" in " ".join(refused.stderr.split())
        cleared = await rebuilt(environment, "--clear")
        assert (cleared["customers"], cleared["cleared"]) == (99, True)
        assert await cache.totals("tier") == {"gold": (99, 99 * 250)}
        assert not await redis.exists("clv:customer:stray")
        await redis.aclose()
