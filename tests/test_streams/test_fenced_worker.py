"""A worker that its group gave up, as a process."""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from streams.connection import Broker
from streams.embedded import embedded_servers
from streams.files.outgoing import cloud_event
from streams.publisher import Publisher
from streams.settings import Settings
from streams.topics import prepare_topics
from streams.transport.lease import FENCED

ROOT = Path(__file__).parents[2]
TIME = datetime(2026, 3, 1, tzinfo=UTC)
PROGRAM = """
import sys
from streams.cli import main
from streams.pipeline import Pipeline
fold = Pipeline.fold
async def give_up_and_fold(self, event):
    self.app.lease.lose()
    await fold(self, event)
Pipeline.fold = give_up_and_fold
sys.argv = ["clv", "worker"]
main()
"""


@pytest.mark.slow
async def test_it_ends_with_a_status_of_its_own_and_says_why(tmp_path):
    data = {"order_id": "o", "customer_id": "c", "placed_at": TIME, "currency": "USD", "total": "1"}
    order = cloud_event(
        "orders", "order.placed", source="/s", event_id="e", time=TIME, data=data, customer_id="c"
    )
    log = tmp_path / "worker.log"
    async with embedded_servers() as servers:
        settings, broker = Settings(), Broker(servers.broker.address)
        partitions = await prepare_topics(settings, broker)
        async with Publisher(broker, settings.topics, partitions) as publisher:
            await publisher.publish([order])
        own = {k: v for k, v in os.environ.items() if not k.startswith("CLV_")}
        own |= {"CLV_BROKER": servers.broker.address, "CLV_REDIS": servers.redis.url}
        own |= {"CLV_SESSION_TIMEOUT": "3", "CLV_HEARTBEAT_INTERVAL": "0.5"}
        with log.open("wb") as output:
            worker = await asyncio.create_subprocess_exec(
                sys.executable, "-c", PROGRAM, cwd=ROOT, stdout=output, stderr=output, env=own
            )
        try:
            status = await asyncio.wait_for(worker.wait(), 60)
        finally:
            if worker.returncode is None:
                worker.kill()
                await worker.wait()
    assert status == FENCED, log.read_text()
    last = json.loads(log.read_text().splitlines()[-1])
    assert last["level"] == "critical"
    assert "given this worker up" in last["event"]
    assert last["session_timeout"] == 3.0
