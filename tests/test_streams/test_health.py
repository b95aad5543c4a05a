"""Health, lag and stalls, judged by themselves; how the answers look."""

import asyncio
import json
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from types import SimpleNamespace

import aiohttp
import pytest
from faust.types import TP

from streams.counts import Counts
from streams.health.assess import CacheState, Observation, StallClock, assess
from streams.health.observer import Observer
from streams.health.server import health_server
from streams.health.watchdog import stacks
from streams.transport.changelog import RecoveryProgress
from streams.transport.lag import _lag

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
