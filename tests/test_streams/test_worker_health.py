"""Health and watchdogs of workers that are really broken."""

import asyncio
import json
import os
import signal

import aiohttp
import pytest

from streams.health.watchdog import FROZEN, STALLED, STOP_HUNG
from streams.kafka.connection import Broker
from streams.pipeline import IN_WORK
from streams.publisher import Publisher

from .watched_workers import order, ready, world

HANG = """
async def hang(self, event):
    await asyncio.Event().wait()
Folding.fold = hang
"""
SPIN = """
async def spin(self, event):
    while True:
        pass
Folding.fold = spin
"""
SLOW = """
fold = Folding.fold
async def slow(self, event):
    await asyncio.sleep(1)
    await fold(self, event)
Folding.fold = slow
"""
TAKES_NOTHING = """
from streams.transport import StrictProducer
send = StrictProducer.send_records
def send_records(self, topic, partition, records):
    records = list(records)
    if all(key.startswith(b"\\0") for key, _, _ in records):
        return send(self, topic, partition, records)
    return [asyncio.get_running_loop().create_future()]
StrictProducer.send_records = send_records
"""


@pytest.mark.slow
class TestWorker:
    async def test_it_is_live_before_it_is_ready_and_a_spare_one_is_ready_too(self, tmp_path):
        async with world(tmp_path, partitions=1) as w:
            first = await w.worker()
            await first.alive()
            status, why = await first.get("/ready")
            assert status == 503
            assert why.startswith(("starting", "waiting for the consumer group", "recovering"))
            await first.until(ready)
            second = await w.worker()
            await second.until(ready)
            await first.until(ready)
            shares = [(await each.health())["partitions"] for each in (first, second)]
            topics = w.settings.topics
            read = sorted(f"{topic}[0]" for topic in topics.sources)
            assert sorted(shares) == [[], read]
            assert (await first.get("/ready"))[0] == (await second.get("/ready"))[0] == 200
            await w.publish(50)
            owner = first if shares[0] else second
            seen = await owner.until(lambda h: h["counts"]["records"] == 50 and h["lag"] == 0)
            assert seen["status"] == "degraded"
            assert seen["reasons"] == ["no parameters are published: weak prior ones are used"]
            assert "c1" not in json.dumps(seen)
            for path in ("/health", "/ready", "/live"):
                async with aiohttp.ClientSession() as session:
                    url = f"http://127.0.0.1:{owner.port}{path}"
                    assert [(await session.request(m, url)).status for m in
                            ("POST", "PUT", "DELETE", "PATCH", "HEAD")] == [405] * 5  # fmt: skip
            for each in (first, second):
                each.process.send_signal(signal.SIGTERM)
                assert await each.ended() == 0

    async def test_its_health_goes_on_after_a_dead_letter(self, tmp_path):
        async with world(tmp_path, partitions=1) as w:
            worker = await w.worker()
            await worker.until(ready)
            await w.publish(1)
            broken = order(1)._replace(value=b"no JSON")
            async with Publisher(
                Broker(w.servers.broker.address), w.settings.topics, 1
            ) as publisher:
                await publisher.publish([broken])
            seen = await worker.until(lambda h: h.get("counts", {}).get("records") == 2)
            assert seen["counts"]["dead_letters"] == {"not-json": 1}
            assert (await worker.get("/ready"))[0] == (await worker.get("/live"))[0] == 200

    async def test_one_that_stands_still_ends_with_its_own_status_and_says_where(self, tmp_path):
        async with world(tmp_path) as w:
            await w.publish(10)
            worker = await w.worker(HANG, CLV_STALL_TIMEOUT="5")
            assert await worker.ended() == STALLED
            last = worker.lines()[-1]
            assert last["level"] == "critical"
            assert last["what"].startswith("10 records wait")
            assert any("hang (<string>" in line for line in last["waiting"])

    async def test_an_event_loop_that_does_not_turn_ends_the_process_from_outside(self, tmp_path):
        async with world(tmp_path) as w:
            await w.publish(10)
            worker = await w.worker(SPIN, CLV_STALL_TIMEOUT="5")
            assert await worker.ended() == FROZEN
            assert "in spin" in worker.log.read_text()

    async def test_a_process_that_was_frozen_too_long_ends_when_it_thaws(self, tmp_path):
        async with world(tmp_path) as w:
            worker = await w.worker(CLV_STALL_TIMEOUT="5")
            await worker.until(ready)
            worker.process.send_signal(signal.SIGSTOP)
            await asyncio.sleep(6)
            worker.process.send_signal(signal.SIGCONT)
            assert await worker.ended(5) == FROZEN

    async def test_without_a_broker_it_waits_degraded_and_goes_on_after(self, tmp_path):
        async with world(tmp_path) as w:
            worker = await w.worker(SLOW, CLV_STALL_TIMEOUT="6")
            await worker.until(ready)
            await w.publish(10)
            await worker.until(lambda h: h["lag"] == 10)
            os.kill(w.servers.broker.pid, signal.SIGSTOP)
            seen = await worker.until(lambda h: any("broker" in r for r in h["reasons"]))
            assert (seen["status"], seen["lag"]) == ("degraded", 10)
            await asyncio.sleep(7)
            assert worker.process.returncode is None
            os.kill(w.servers.broker.pid, signal.SIGCONT)
            await worker.until(
                lambda h: h["counts"]["records"] >= 10 and h["lag"] == 0 and ready(h)
            )

    async def test_without_redis_it_goes_on_degraded_and_writes_what_waited_after(self, tmp_path):
        async with world(tmp_path) as w:
            worker = await w.worker(CLV_STALL_TIMEOUT="25")
            await worker.until(ready)
            os.kill(w.servers.redis.pid, signal.SIGSTOP)
            await w.publish(3_000)
            seen = await worker.until(lambda h: any("Redis" in r for r in h["reasons"]))
            assert seen["cache"]["away_seconds"] is not None
            seen = await worker.until(lambda h: h["lag"] == 0 and not h["batches_in_work"])
            assert (seen["status"], seen["cache"]["pending"]) == ("degraded", 3_000)
            os.kill(w.servers.redis.pid, signal.SIGCONT)
            await worker.until(lambda h: h["cache"]["pending"] == 0)

    async def test_a_stop_that_cannot_end_is_ended_and_a_second_signal_ends_it_at_once(
        self, tmp_path
    ):
        async with world(tmp_path) as w:
            await w.publish(10)
            worker = await w.worker(HANG + "streams.worker.START_SECONDS = 3.0")
            await worker.until(lambda h: h.get("lag") == 10)
            await asyncio.sleep(1)
            worker.process.send_signal(signal.SIGTERM)
            assert await worker.ended(8) == STOP_HUNG
            last = worker.lines()[-1]
            assert last["level"] == "critical"
            assert any("hang (<string>" in line for line in last["waiting"])
            impatient = await w.worker(HANG)
            await impatient.until(lambda h: h.get("lag") == 10)
            await asyncio.sleep(1)
            impatient.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.5)
            impatient.process.send_signal(signal.SIGTERM)
            assert await impatient.ended(2) == 128 + signal.SIGTERM

    async def test_a_signal_while_the_broker_keeps_it_from_starting_ends_it(self, tmp_path):
        async with world(tmp_path) as w:
            os.kill(w.servers.broker.pid, signal.SIGSTOP)
            worker = await w.worker()
            await worker.alive()
            worker.process.send_signal(signal.SIGTERM)
            assert await worker.ended(10) == 0

    async def test_a_broker_that_takes_nothing_leaves_a_bounded_amount_in_memory(self, tmp_path):
        async with world(tmp_path) as w:
            await w.publish(60_000)
            worker = await w.worker(TAKES_NOTHING, CLV_POLL_RECORDS="100")
            seen = await worker.until(lambda h: h.get("batches_in_work") == IN_WORK)
            await asyncio.sleep(3)
            before = worker.memory()
            await asyncio.sleep(6)
            seen = await worker.health()
            # A ninth batch is not even folded; the rest stays at the broker.
            assert seen["batches_in_work"] == IN_WORK
            assert seen["counts"]["records"] <= IN_WORK * 100
            assert seen["lag"] == 60_000
            assert worker.memory() - before < 4 * 1024 * 1024
