"""Workers that end by themselves, as processes: their status, and what they say."""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from streams.embedded import embedded_servers
from streams.files.outgoing import cloud_event
from streams.kafka.connection import Broker
from streams.publisher import Publisher
from streams.settings import Settings
from streams.topics import prepare_topics
from streams.transport import batch_app
from streams.transport.lease import FENCED, LeaseLost
from streams.worker import _cause, _status
from tests.servers import forks

ROOT = Path(__file__).parents[2]
TIME = datetime(2026, 3, 1, tzinfo=UTC)
PROGRAM = """
import asyncio, sys
from streams.cli import main
from streams.folding import Folding
fold = Folding.fold
async def broken(self, event):
    {what}
    await fold(self, event)
Folding.fold = broken
sys.argv = ["clv", "worker"]
main()
"""


async def status_and_log(what, log):
    """Of a worker that does something wrong when an order comes."""
    data = {"order_id": "o", "customer_id": "c", "placed_at": TIME, "currency": "USD", "total": "1"}
    order = cloud_event(
        "orders", "order.placed", source="/s", event_id="e", time=TIME, data=data, customer_id="c"
    )
    async with embedded_servers() as servers:
        settings, broker = Settings(), Broker(servers.broker.address)
        partitions = await prepare_topics(settings, broker)
        async with Publisher(broker, settings.topics, partitions) as publisher:
            await publisher.publish([order])
        own = {
            k: v
            for k, v in os.environ.items()
            if k == "CLV_ERASURE_KEY" or not k.startswith("CLV_")
        }
        own |= {"CLV_BROKER": servers.broker.address, "CLV_REDIS": servers.redis.url}
        own |= {"CLV_SESSION_TIMEOUT": "3", "CLV_HEARTBEAT_INTERVAL": "0.5"}
        program = PROGRAM.format(what=what)
        with log.open("wb") as output:
            worker = await forks.start(
                sys.executable, "-c", program, cwd=ROOT, stdout=output, stderr=output, env=own
            )
        try:
            status = await asyncio.wait_for(worker.wait(), 180)
        finally:
            if worker.returncode is None:
                worker.kill()
                await worker.wait()
    return status, log.read_text()


@pytest.mark.slow
async def test_one_that_was_given_up_has_a_status_of_its_own_and_says_why(tmp_path):
    status, said = await status_and_log("self._pipeline.app.lease.lose()", tmp_path / "worker.log")
    assert status == FENCED, said
    last = json.loads(said.splitlines()[-1])
    assert last["level"] == "critical"
    assert "given this worker up" in last["event"]
    assert last["session_timeout"] == 3.0


@pytest.mark.slow
async def test_one_of_which_a_part_was_cancelled_does_not_pass_for_stopped(tmp_path):
    what = "await self._pipeline.app.crash(asyncio.CancelledError())"
    status, said = await status_and_log(what, tmp_path / "worker.log")
    assert status == 1, said
    assert "the worker stopped: WorkerBroken: CancelledError()" in said


def test_the_first_reason_of_a_crash_stays():
    app = batch_app("a", broker="kafka://127.0.0.1:1")
    first = ValueError("first")
    app._crash(first)
    app._crash(asyncio.CancelledError())
    assert app.crash_reason is first


def test_an_error_that_was_raised_from_itself_is_told_like_any_other():
    error = ValueError("its own cause, as Faust raises it again")
    error.__cause__ = error
    assert _cause(error, LeaseLost) is None
    assert _status(error) == 1
    assert _status(LeaseLost("given up")) == FENCED
