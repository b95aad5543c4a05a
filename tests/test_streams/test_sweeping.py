"""A worker looks at those who are due by itself, and what it tells is what any other way tells."""

import asyncio
import json
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest

from streams.simulation.worker import MemoryWorker
from streams.sweeping import Sweeper
from streams.testing import Cluster, Topology, running_cluster, running_topology
from streams.testing.settings import shop_settings

DAYS = 500
LIFECYCLE = ["new", "needs attention", "at risk"]


def sweeper_of(topology: Topology, worker: MemoryWorker | None = None) -> Sweeper:
    worker = worker or topology.workers[-1]
    return Sweeper(worker.app, worker.pipeline, now=topology.clock.now, seconds=1.0)


async def sweep(topology: Topology) -> None:
    for worker in topology.workers:
        await sweeper_of(topology, worker).sweep()
    await topology.settled()


async def changes_of(topology: Topology | Cluster) -> list[dict[str, Any]]:
    """What was published of segments, each id once, by customer and time."""
    records = await topology._records(topology.settings.topics.segment_changes)
    documents = {json.loads(each.value)["id"]: json.loads(each.value) for each in records}
    return sorted(documents.values(), key=lambda each: (each["time"], each["id"]))


async def orders(topology: Topology | Cluster) -> None:
    for number in range(6):
        await topology.orders.placed(f"c{number}", 10 + number, at="2026-06-30T10:00:00Z")
    await topology.orders.placed("c0", 20, at="2026-07-01T10:00:00Z")
    await topology.settled()


async def by_a_tick() -> list[dict[str, Any]]:
    async with running_topology() as topology:
        await orders(topology)
        await topology.advance(days=DAYS)
        changes = await changes_of(topology)
        end = topology.clock.time.isoformat()[:19]
        return [each for each in changes if each["time"][:19] != end]


@pytest.mark.asyncio
async def test_silence_is_told_day_by_day_without_a_tick_of_anybody() -> None:
    async with running_topology() as topology:
        await orders(topology)
        for _ in range(DAYS // 10):
            topology.clock.move(timedelta(days=10))
            await sweep(topology)
        found = await changes_of(topology)
        lifecycle = [
            each["data"]["current"]
            for each in found
            if each["subject"] == "c1" and each["data"]["dimension"] == "lifecycle"
        ]
        assert lifecycle[:3] == LIFECYCLE
        assert {each["data"]["cause"] for each in found} == {"event", "time"}
        assert all(
            each["time"].endswith("T00:00:00Z") for each in found if each["data"]["cause"] == "time"
        )
        values = await topology.updates.current()
        assert values.keys() == {each["subject"] for each in found}
        for update in values.values():
            # It is published again every 30 days, and somebody looked every ten.
            assert topology.clock.time - update.as_of < timedelta(days=40)
    assert found == await by_a_tick()


@pytest.mark.asyncio
async def test_who_is_not_due_is_left_alone() -> None:
    async with running_topology() as topology:
        await orders(topology)
        topology.clock.move(timedelta(days=DAYS))
        await sweep(topology)
        changelog = topology.broker.changes
        for _ in range(3):
            await sweep(topology)
        assert topology.broker.changes == changelog


@pytest.mark.asyncio
@pytest.mark.parametrize("fault", ["kill", "hold", "two workers"])
async def test_what_a_sweep_tells_survives_the_end_of_its_worker(fault: str) -> None:
    """Nothing is lost, and nothing has another id."""
    async with running_topology(workers=2 if fault == "two workers" else 1) as topology:
        await orders(topology)
        for number in range(DAYS // 50):
            topology.clock.move(timedelta(days=50))
            held = topology.settings.topics.segment_changes
            if fault == "hold" and number % 2:
                topology.freeze(held)
            for worker in topology.workers:
                await sweeper_of(topology, worker).sweep()
            if fault == "hold" and number % 2:
                await topology.still()
                await topology.kill_worker()
                topology.release()
                await topology.start_worker()
            else:
                for _ in range(number % 4):
                    await asyncio.sleep(0)
                await topology.kill_worker()
                await topology.start_worker()
            await topology.settled()
            await sweep(topology)
        found = await changes_of(topology)
    assert found == await by_a_tick()


@pytest.mark.slow
@pytest.mark.asyncio
async def test_each_change_comes_within_five_seconds_of_being_due() -> None:
    """On the embedded broker, with a worker of its own: the very changes of a tick at the end."""
    expected = await by_a_tick()
    dues = sorted({each["time"] for each in expected if each["data"]["cause"] == "time"})
    async with running_cluster(shop_settings(sweep_interval=0.5)) as cluster:
        await orders(cluster)
        for moment in dues:
            cluster.clock.move(timedelta(0), moment)
            cluster._tell_time()
            began = monotonic()
            wanted = [each["id"] for each in expected if each["time"] <= moment]
            while {each["id"] for each in await changes_of(cluster)} < set(wanted):
                assert monotonic() - began < 5.0, f"what was due at {moment} is not told"
                await asyncio.sleep(0.1)
        found = await changes_of(cluster)
    assert found == expected
