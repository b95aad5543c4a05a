"""Every contender of the benchmark does its work; no test here is about how fast."""

from __future__ import annotations

import asyncio

import pytest

from benchmarks.contenders import CONTENDERS
from benchmarks.contenders.settings import BrokerKind
from benchmarks.measure import Run
from benchmarks.publishing import totals_of
from benchmarks.report import ratios
from benchmarks.rounds import Plan, bench
from benchmarks.workload import WORKLOADS, events
from tests.servers.kafka import kafka_missing_reason

EVENTS = 300
SECONDS = 240.0
MADE = sorted(set(WORKLOADS) - {"cdnow", "online-retail"})


def run(names: list[str], broker: BrokerKind, workload: str) -> list[Run]:
    """Run contenders, or skip the test; those on the embedded broker at the same time.

    The benchmark itself fails if one comes to other totals than the events.
    """
    reasons = [why for name in names if (why := CONTENDERS[name].missing(broker))]
    if reasons:
        pytest.skip("; ".join(reasons))
    counts = dict.fromkeys(names, EVENTS)
    groups = [names] if broker == "kafka" else [[name] for name in names]

    async def together() -> list[list[Run]]:
        plans = (
            Plan([workload], group, [broker], counts, 1, 2, SECONDS, from_start=True)
            for group in groups
        )
        return await asyncio.gather(*(bench(plan, print) for plan in plans))

    return [done for runs in asyncio.run(together()) for done in runs]


@pytest.mark.slow
def test_contenders_in_python_come_to_the_totals_of_the_events():
    names = ["ours", "faust", "quix", "recompute", "decode", "produce"]
    runs = run(names, "embedded", "support")
    assert [done.contender for done in runs] == names
    for done in runs:
        assert done.events == EVENTS
        assert done.cpu_us > 0
        assert bool(done.sent) == (done.contender != "decode")


@pytest.mark.kafka
@pytest.mark.slow
def test_kafka_streams_comes_to_the_totals_of_the_events():
    if reason := kafka_missing_reason():
        pytest.skip(reason)
    names = ["kstreams", "kstreams-memory-eos"]
    assert [done.contender for done in run(names, "kafka", "known")] == names


@pytest.mark.parametrize("name", MADE)
def test_a_workload_has_as_many_events_as_asked_for_in_the_order_of_time(name):
    found = list(events(name, 200))
    assert len(found) == 200
    times = [event.timestamp for event in found]
    assert times == sorted(times)
    assert len({event.value for event in found}) == 200
    assert list(events(name, 200)) == found


def test_new_and_known_customers_are_what_they_are_called():
    assert totals_of(events("new", 200)).customers == 200
    known = [event.key for event in events("known", 200)]
    assert set(known[:100]) == set(known[100:])
    assert len(set(known)) == 100


def test_nine_of_ten_events_are_tickets():
    totals = totals_of(events("support", 5_000))
    assert totals.orders + totals.contacts == 5_000
    # 4,500 are expected, with a standard deviation of 21.
    assert abs(totals.contacts - 4_500) < 150


def test_ratios_are_of_the_same_round():
    def one(name: str, number: int, cpu: float) -> Run:
        return Run(
            name, "hot", "embedded", number, 10, 10, 1.0, cpu, cpu, 1.0, 1, 1, 1, 1, {}, 0, []
        )

    runs = [one("ours", 1, 2.0), one("quix", 1, 1.0), one("ours", 2, 8.0), one("quix", 2, 2.0)]
    assert ratios(runs, "quix", lambda run: run.cpu_us) == [0.5, 0.25]
    assert ratios([one("quix", 3, 1.0), *runs], "quix", lambda run: run.cpu_us) == [0.5, 0.25]
