"""Health, lag and watchdogs: judged by themselves, and on workers that are really broken."""

import asyncio
import json
import os
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from types import SimpleNamespace

import aiohttp
import pytest
from faust.types import TP

from streams.counts import Counts
from streams.embedded import embedded_servers
from streams.files.outgoing import cloud_event
from streams.health.assess import CacheState, Observation, StallClock, assess
from streams.health.observer import Observer
from streams.health.server import health_server
from streams.health.watchdog import FROZEN, STALLED, STOP_HUNG, stacks
from streams.kafka.connection import Broker
from streams.pipeline import IN_WORK
from streams.publisher import Publisher
from streams.settings import Settings
from streams.topics import prepare_topics
from streams.transport.changelog import RecoveryProgress
from streams.transport.lag import _lag
from tests.servers import forks

ROOT = Path(__file__).parents[2]
TIME = datetime(2026, 1, 3, 10, tzinfo=UTC)

GOOD = Observation(
    "running",
    stall_timeout=60,
    recovered=True,
    lags={"orders[0]": 0, "orders[1]": 0},
    fetch_age=0.1,
    parameters="v1",
)
SOURCE = TP("orders", 0)
BEGUN = RecoveryProgress(5, 0, 0.0, None, done=False)
HALF_READ = RecoveryProgress(50, 100, 0.5, 3.0, done=False)


class TestAssess:
    def test_a_worker_that_lacks_nothing_is_ok(self):
        health = assess(GOOD)
        assert (health.status, health.reasons, health.ready) == ("ok", (), True)

    def test_lag_alone_is_work_and_no_fault(self):
        busy = replace(GOOD, lags={"orders[0]": 7, "orders[1]": 5}, in_work=2, standing_still=59)
        assert busy.lag == 12
        assert assess(busy).status == "ok"

    def test_without_partitions_it_is_ready_once_the_group_has_said_so(self):
        spare = replace(GOOD, lags={}, fetch_age=None)
        assert assess(spare).ready
        assert spare.lag == 0
        assert not assess(replace(spare, recovered=False)).ready

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"broker_silent": 20.0}, "the broker does not answer since 20 s"),
            ({"cache": CacheState(7.0, 1_234)}, "since 7 s; 1,234 customers wait"),
            (
                {"cache": CacheState(catching_up={1: 800, 4: 1_200})},
                "2 partitions and catches up; 2,000",
            ),
            ({"cache": CacheState(catching_up={1: 800, 4: None})}, "how far is not known"),
            ({"store_problem": "disk full"}, "on disk: disk full"),
            ({"parameters": None}, "weak prior"),
        ],
    )
    def test_what_is_missing_degrades_and_is_said_but_work_goes_on(self, change, reason):
        health = assess(replace(GOOD, **change))
        assert health.status == "degraded"
        assert health.ready
        assert len(health.reasons) == 1
        assert reason in health.reasons[0]

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"phase": "starting"}, "starting"),
            ({"recovered": False}, "waiting for the consumer group"),
            ({"rebalancing": True}, "waiting for the consumer group"),
            ({"recovered": False, "recovery": HALF_READ}, "50 changelog records read of 100 (50%)"),
            ({"recovered": False, "recovery": BEGUN}, "5 changelog records read"),
        ],
    )
    def test_before_it_processes_it_is_starting_and_not_ready(self, change, reason):
        health = assess(replace(GOOD, **change))
        assert health.status == "starting"
        assert not health.ready
        assert reason in health.unready

    def test_a_worker_that_stops_takes_nothing_more(self):
        health = assess(replace(GOOD, phase="stopping", standing_still=1e6, in_work=3))
        assert (health.status, health.ready) == ("degraded", False)
        assert "stopping" in health.unready

    @pytest.mark.parametrize(
        ("change", "what"),
        [
            ({"lags": {"orders[0]": 3}}, "3 records wait"),
            ({"in_work": 2}, "2 batches are in work"),
            ({"lags": {"orders[0]": 0, "orders[1]": None}}, "first fetch from orders[1]"),
            ({"fetch_age": 61.0}, "nothing was fetched for 61 s"),
            ({"recovered": False, "recovery": HALF_READ}, "recovery: 50"),
        ],
    )
    def test_work_that_waits_is_a_stall_after_the_timeout_and_not_before(self, change, what):
        standing = replace(GOOD, **change, standing_still=60.0)
        health = assess(standing)
        assert (health.status, health.ready) == ("stalled", False)
        assert what in health.unready
        assert assess(replace(standing, standing_still=59.9)).status != "stalled"

    @pytest.mark.parametrize(
        "change",
        [
            {},
            {"lags": {}},
            {"lags": {}, "fetch_age": 1e6},
            {"lags": {"orders[0]": 3}, "broker_silent": 20.0},
            {"lags": {"orders[0]": 3}, "in_work": 8, "phase": "stopping"},
            {"lags": {"orders[0]": None}, "phase": "starting"},
            {"recovered": False, "recovery": HALF_READ, "broker_silent": 20.0},
        ],
    )
    def test_nothing_to_do_or_no_broker_is_never_a_stall(self, change):
        assert assess(replace(GOOD, **change, standing_still=1e6)).status != "stalled"

    def test_lag_is_unknown_rather_than_too_small(self):
        assert replace(GOOD, lags={"orders[0]": 3, "orders[1]": None}).lag is None
        assert replace(GOOD, phase="starting").lag is None


class TestStallClock:
    def test_it_runs_only_while_work_waits_and_none_is_done(self):
        clock = StallClock(0)
        assert clock.note(5, waiting=True, marker="a") == 0
        assert clock.note(9, waiting=True, marker="a") == 4
        assert clock.note(10, waiting=True, marker="b") == 0
        assert clock.note(13, waiting=True, marker="b") == 3

    def test_a_long_idle_time_does_not_count_when_work_comes(self):
        clock = StallClock(0)
        clock.note(1, waiting=False, marker="a")
        clock.note(1_000, waiting=False, marker="a")
        assert clock.note(1_001, waiting=True, marker="a") == 1

    def test_time_without_a_broker_does_not_count(self):
        clock = StallClock(0)
        clock.note(0, waiting=True, marker="a")
        clock.note(50, waiting=False, marker="a")
        assert clock.note(51, waiting=True, marker="a") == 1


class TestLag:
    """Of one partition whose records were delivered up to offset 5, and are finished."""

    def lag(self, highwater, lso, delivered=5, position=5):
        consumer = SimpleNamespace(_in_work={}, _expected={SOURCE: delivered})
        state = SimpleNamespace(
            highwater=highwater, lso=lso, position=position, has_valid_position=True
        )
        return _lag(consumer, SOURCE, state)

    def test_an_open_transaction_is_nothing_that_waits(self):
        assert self.lag(highwater=9, lso=5) == 0
        assert self.lag(highwater=9, lso=7) == 2

    def test_a_broker_that_tells_no_stable_offset_is_judged_by_its_high_watermark(self):
        assert self.lag(highwater=9, lso=-1) == 4
        assert self.lag(highwater=9, lso=None) == 4

    def test_before_the_first_fetch_it_is_not_known(self):
        assert self.lag(highwater=None, lso=None) is None

    def test_what_is_in_work_is_lag_though_a_transaction_is_open_behind_it(self):
        records = [SimpleNamespace(offset=offset) for offset in (2, 3, 4)]
        message = SimpleNamespace(acked=False, value=SimpleNamespace(records=records))
        consumer = SimpleNamespace(_in_work={SOURCE: [message]}, _expected={SOURCE: 5})
        assert _lag(consumer, SOURCE, SimpleNamespace(highwater=9, lso=5)) == 3


def observed(counts: Counts) -> Observation:
    """What an observer sees of a worker that processes records and has counted so much."""
    recovery = SimpleNamespace(progress=RecoveryProgress(0, 0, 1.0, None, done=True))
    tables = SimpleNamespace(actives_ready=True, recovery=recovery)
    app = SimpleNamespace(tables=tables, rebalancing=False, _consumer=None)
    cache = SimpleNamespace(healthy=True, pending=0, catching_up={}, problem=None)
    pipeline = SimpleNamespace(
        in_work=0, last_done=0.0, cache=cache, counts=counts,
        table=SimpleNamespace(durable=None),
        feed=SimpleNamespace(timeline=SimpleNamespace(latest=SimpleNamespace(version="v1"))),
    )  # fmt: skip
    observer = Observer(stall_timeout=60)
    observer.attach(app, pipeline)
    return observer.observe()


async def answers(seen: Observation) -> dict[str, tuple[int, str]]:
    """Status and text of every path, of a worker of which this is observed."""
    found = {}
    async with (
        health_server(lambda: seen, "127.0.0.1", 0) as port,
        aiohttp.ClientSession() as session,
    ):
        for path in ("/live", "/ready", "/health"):
            async with session.get(f"http://127.0.0.1:{port}{path}") as response:
                found[path] = response.status, await response.text()
    return found


class TestServer:
    @pytest.mark.parametrize(
        ("seen", "status", "unready"),
        [
            pytest.param(Observation("starting", 60), "starting", "starting", id="starting"),
            pytest.param(
                replace(GOOD, recovered=False, recovery=HALF_READ), "starting",
                "recovering: 50 changelog records read of 100", id="recovering",
            ),
            pytest.param(GOOD, "ok", None, id="ready"),
            pytest.param(
                observed(Counts(records=3, dead_letters=Counter({"not-json": 2, "future": 1}))),
                "ok", None, id="with dead letters",
            ),
            pytest.param(
                replace(
                    GOOD, broker_silent=20.0, store_problem="disk full", parameters=None,
                    cache=CacheState(7.0, 12, {0: 800, 1: None}, "keys were evicted"),
                ),
                "degraded", None, id="degraded",
            ),
            pytest.param(
                replace(GOOD, lags={"orders[0]": 3}, standing_still=60.0), "stalled",
                "stalled for 60 s: 3 records wait", id="stalled",
            ),
            pytest.param(replace(GOOD, phase="stopping"), "degraded", "stopping", id="stopping"),
        ],
    )  # fmt: skip
    async def test_every_path_answers_in_every_state(self, seen, status, unready):
        found = await answers(seen)
        assert found["/live"] == (200, "live\n")
        code, text = found["/ready"]
        assert code == (200 if unready is None else 503)
        assert text.startswith("ready" if unready is None else unready)
        code, text = found["/health"]
        assert code == 200, text
        document = json.loads(text)
        assert (document["status"], document["ready"]) == (status, unready is None)

    async def test_dead_letters_are_counted_by_reason(self):
        reasons = Counter({"not-json": 2, "future": 1})
        _, text = (await answers(observed(Counts(records=3, dead_letters=reasons))))["/health"]
        counts = json.loads(text)["counts"]
        assert (counts["records"], counts["dead_letters"]) == (3, {"not-json": 2, "future": 1})

    @pytest.mark.parametrize(
        ("value", "shown"),
        [
            (float("nan"), "nan"),
            (float("-inf"), "-inf"),
            (0.5, 0.5),
            (True, True),
            (Decimal("1.5"), "1.5"),
            (TIME, "2026-01-03 10:00:00+00:00"),
            (b"\xff", "b'\\xff'"),
            ("\udcff\x1b", "\udcff\x1b"),
            ({("orders", 0): {1}, 2: ()}, {"('orders', 0)": [1], "2": []}),
            (ValueError("why"), "why"),
        ],
    )
    async def test_a_value_that_json_does_not_have_is_shown_as_text(self, value, shown):
        status, text = (await answers(replace(GOOD, counts={"odd": value})))["/health"]
        assert status == 200, text
        document = json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} in JSON"))
        assert document["counts"] == {"odd": shown}


async def test_stacks_name_where_each_task_waits_down_to_the_innermost():
    async def inner():
        await asyncio.Event().wait()

    async def outer():
        await inner()

    task = asyncio.create_task(outer(), name="the one")
    await asyncio.sleep(0)
    [said] = [line for line in stacks() if line.startswith("the one: ")]
    task.cancel()
    outermost, next_one, *_ = said.removeprefix("the one: ").split(" > ")
    assert outermost.startswith("outer (test_streams/test_health.py:")
    assert next_one.startswith("inner (test_streams/test_health.py:")


@dataclass
class Worker:
    """A worker process, its health and its log."""

    process: forks.Forked
    log: Path
    _port: int = 0

    @property
    def port(self) -> int:
        """Where its health is served, by a port that the system chose; 0 before it is."""
        if not self._port:
            said = (line["port"] for line in self.lines() if line["event"] == "health is served")
            self._port = next(said, 0)
        return self._port

    def lines(self):
        """The log lines that are JSON, as all of a worker's are."""
        said = self.log.read_text().splitlines(keepends=True)
        # The last one may be half written.
        return [json.loads(line) for line in said if line.startswith("{") and line.endswith("\n")]

    async def get(self, path: str) -> tuple[int, str]:
        """Status and text of a GET; status 0 while nobody listens."""
        if not self.port:
            return 0, ""
        try:
            async with (
                aiohttp.ClientSession() as session,
                session.get(f"http://127.0.0.1:{self.port}{path}") as response,
            ):
                return response.status, await response.text()
        except aiohttp.ClientConnectionError:
            return 0, ""

    async def alive(self):
        """Wait until somebody listens."""
        async with asyncio.timeout(120):
            while (await self.get("/live"))[0] != 200:
                assert self.process.returncode is None, self.log.read_text()
                await asyncio.sleep(0.02)

    async def health(self):
        status, text = await self.get("/health")
        return json.loads(text) if status == 200 else {"status": "no answer", "reasons": []}

    async def until(self, condition, seconds=120.0):
        """Wait until the health is so; returns it."""
        async with asyncio.timeout(seconds):
            while not condition(health := await self.health()):
                assert self.process.returncode is None, self.log.read_text()
                await asyncio.sleep(0.1)
        return health

    async def ended(self, seconds=120.0) -> int:
        return await asyncio.wait_for(self.process.wait(), seconds)

    def memory(self) -> int:
        """Resident bytes."""
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")


@dataclass
class World:
    servers: object
    settings: Settings
    directory: Path
    workers: list[Worker]

    async def worker(self, fault: str = "", **variables: str) -> Worker:
        """A `clv worker`, after these lines of Python have broken something."""
        program = (
            "import asyncio, sys, time\nimport streams.worker\nfrom streams.cli import main\n"
            f"from streams.folding import Folding\n{fault}\nsys.argv = ['clv', 'worker']\nmain()"
        )
        return await self._start(["-c", program], variables)

    async def command(self, *arguments: str, **variables: str) -> Worker:
        """Another command that serves its health."""
        return await self._start(["-m", "streams.cli", *arguments], variables)

    async def _start(self, arguments: list[str], variables: dict[str, str]) -> Worker:
        log = self.directory / f"worker-{len(self.workers)}.log"
        environment = {
            k: v
            for k, v in os.environ.items()
            if k == "CLV_ERASURE_KEY" or not k.startswith("CLV_")
        } | {
            "CLV_BROKER": self.servers.broker.address,
            "CLV_REDIS": self.servers.redis.url,
            "CLV_SESSION_TIMEOUT": "3",
            "CLV_HEARTBEAT_INTERVAL": "0.5",
            "CLV_COMMIT_INTERVAL": "0.3",
            "CLV_HEALTH_PORT": "0",
            **variables,
        }
        with log.open("wb") as output:
            process = await forks.start(
                sys.executable, *arguments, cwd=ROOT, stdout=output, stderr=output,
                env=environment,
            )  # fmt: skip
        self.workers.append(Worker(process, log))
        return self.workers[-1]

    async def publish(self, count: int) -> None:
        """Publish orders, each of a customer of its own."""
        async with Publisher(
            Broker(self.servers.broker.address), self.settings.topics, self.settings.partitions
        ) as publisher:
            await publisher.publish(order(n) for n in range(count))


def order(n):
    data = {
        "order_id": f"o{n}", "customer_id": f"c{n}", "placed_at": TIME, "currency": "USD",
        "total": "40.00", "note": "x" * 300,
    }  # fmt: skip
    return cloud_event(
        "orders", "order.placed", source="/shop", event_id=f"o{n}", time=TIME, data=data,
        customer_id=f"c{n}",
    )  # fmt: skip


@asynccontextmanager
async def world(directory: Path, partitions: int = 2) -> AsyncIterator[World]:
    async with embedded_servers() as servers:
        settings = Settings(partitions=partitions)
        await prepare_topics(settings, Broker(servers.broker.address))
        running = World(servers, settings, directory, [])
        try:
            yield running
        finally:
            for server in (servers.broker, servers.redis):
                os.kill(server.pid, signal.SIGCONT)
            for worker in running.workers:
                if worker.process.returncode is None:
                    worker.process.kill()
                    await worker.process.wait()


def ready(health):
    return health.get("ready", False)


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
