"""Several workers of a topology: joining, leaving, dying, and what is told after all."""

import asyncio
from collections import defaultdict

import pytest
from faust.types import TP

from streams.testing import MemoryWorker, NotSettled, Topology, WorkerCrashed, running_topology
from streams.topics import changelog_topic

CUSTOMERS = [f"c{number}" for number in range(20)]


async def place_for_all(topology: Topology, order: str) -> None:
    for customer in CUSTOMERS:
        await topology.orders.placed(customer, 10, order=f"{order}-{customer}")


def partitions_of(topology: Topology) -> list[set[int]]:
    return [{tp.partition for tp in owned(worker)} for worker in topology.workers]


def owned(worker: MemoryWorker) -> set[TP]:
    """Without the topic by which Faust chooses a leader; it has a single partition."""
    return {tp for tp in worker.app.consumer.assignment() if "__leader" not in tp.topic}


async def gross(topology: Topology) -> set[float]:
    current = await topology.updates.current()
    assert sorted(current) == sorted(CUSTOMERS)
    return {update.totals.gross for update in current.values()}


async def test_workers_share_the_partitions_and_all_topics_of_one_go_together() -> None:
    async with running_topology(workers=3) as topology:
        await topology.settled()
        shares = partitions_of(topology)
        assert sorted(map(len, shares)) == [1, 1, 2]
        assert set.union(*shares) == {0, 1, 2, 3}
        for worker, share in zip(topology.workers, shares, strict=True):
            topics = {tp.topic for tp in owned(worker)}
            wanted = {*topology.settings.topics.sources, changelog_topic(topology.settings)}
            assert topics == wanted
            assert owned(worker) == {TP(topic, number) for topic in topics for number in share}


async def test_a_worker_that_joins_takes_over_and_counts_each_event_once(
    topology: Topology,
) -> None:
    await place_for_all(topology, "first")
    await topology.start_worker()
    await place_for_all(topology, "second")
    assert await gross(topology) == {20.0}
    assert sorted(map(len, partitions_of(topology))) == [2, 2]


async def test_a_worker_that_stops_hands_over(topology: Topology) -> None:
    second = await topology.start_worker()
    await place_for_all(topology, "first")
    await topology.stop_worker(second)
    await place_for_all(topology, "second")
    assert await gross(topology) == {20.0}
    assert partitions_of(topology) == [{0, 1, 2, 3}]


async def stop_over_a_frozen_topic(topology: Topology) -> None:
    topology.freeze("clv.updates")
    await topology.orders.placed("c1", 40)
    await topology.still()
    await topology.stop_worker()


async def test_to_stop_a_worker_over_a_frozen_topic_does_not_hang() -> None:
    async with running_topology(settle_seconds=0.3) as topology:
        with pytest.raises(NotSettled, match=r"worker-1 did not stop .* froze clv\.updates"):
            await stop_over_a_frozen_topic(topology)
        assert topology.workers == []
        topology.release()
        await topology.start_worker()
        assert (await topology.updates.last("c1")).totals.orders == 1


async def test_a_stop_that_is_cancelled_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    async with running_topology() as topology:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(stop_over_a_frozen_topic(topology), 0.3)
        assert topology.workers == []
    assert asyncio.all_tasks() == before


async def test_a_stop_waits_for_a_topic_that_is_released(topology: Topology) -> None:
    stopping = asyncio.create_task(stop_over_a_frozen_topic(topology))
    await asyncio.sleep(0.1)
    assert not stopping.done()
    topology.release()
    await stopping
    assert len(topology.broker.records("clv.updates")) == 1


async def test_only_a_worker_that_runs_can_be_stopped_or_killed(topology: Topology) -> None:
    first, second = topology.workers[0], await topology.start_worker()
    await topology.kill_worker(first)
    for end in (topology.stop_worker, topology.kill_worker):
        with pytest.raises(ValueError, match="worker-1 does not run; there are worker-2"):
            await end(first)
    await topology.stop_worker(second)
    with pytest.raises(ValueError, match="no worker runs"):
        await topology.stop_worker(second)


async def test_what_a_killed_worker_had_stored_is_recovered_from_the_changelog(
    topology: Topology,
) -> None:
    await place_for_all(topology, "first")
    await topology.settled()
    [worker] = topology.workers
    await topology.kill_worker(worker)
    await topology.start_worker()
    await place_for_all(topology, "second")
    assert await gross(topology) == {20.0}


async def test_a_killed_worker_has_committed_nothing_and_its_events_count_once(
    topology: Topology,
) -> None:
    topology.freeze("clv.updates")
    await place_for_all(topology, "first")
    await topology.still()
    assert topology.broker.records("clv-customers-changelog"), "nothing was stored before the kill"
    assert topology.broker.committed == {}
    await topology.kill_worker()
    topology.release()
    assert topology.broker.records("clv.updates") == [], "a dead worker wrote"
    await topology.start_worker()
    assert await gross(topology) == {10.0}
    changes = await topology.segment_changes.all()
    assert {(c.dimension, c.previous) for c in changes} == {
        ("lifecycle", None),
        ("tier", None),
        ("best-ever", None),
        ("behaviour", None),
    }


async def test_a_kill_in_the_middle_of_work_among_others_loses_nothing() -> None:
    async with running_topology(workers=3) as topology:
        for number in range(10):
            await place_for_all(topology, str(number))
            if number % 3 == 0:
                await asyncio.sleep(0)
                await topology.kill_worker(topology.workers[0])
                await topology.start_worker()
        assert await gross(topology) == {100.0}


async def test_segment_changes_keep_their_order_over_a_rebalance(topology: Topology) -> None:
    await place_for_all(topology, "first")
    await topology.start_worker()
    await topology.advance(days=95)
    await topology.kill_worker()
    await topology.advance(days=200)
    await topology.start_worker()
    await topology.advance(days=400)
    steps = defaultdict(list)
    for change in await topology.segment_changes.all():
        if change.dimension == "lifecycle":
            steps[change.customer_id].append((change.previous, change.current))
    expected = [
        (None, "new"),
        ("new", "needs attention"),
        ("needs attention", "at risk"),
        ("at risk", "lost"),
    ]
    assert dict(steps) == dict.fromkeys(CUSTOMERS, expected)


async def test_a_delivery_that_fails_stops_the_worker_uncommitted(topology: Topology) -> None:
    topology.fail_next_send("clv.updates")
    await topology.orders.placed("c1", 40)
    error = await topology.crash()
    assert isinstance(error, Exception)
    assert "clv.updates" in repr(error)
    assert topology.workers == []
    assert topology.broker.committed == {}
    await topology.start_worker()
    assert (await topology.updates.last("c1")).totals.orders == 1


async def test_a_crash_that_nobody_expects_is_raised_by_the_next_await(topology: Topology) -> None:
    topology.fail_next_send("clv-customers-changelog")
    await topology.orders.placed("c1", 40)
    with pytest.raises(WorkerCrashed, match="worker-1") as raised:
        await topology.updates.last("c1")
    assert raised.value.__cause__ is not None
    await topology.crash()


async def crash_and_leave() -> None:
    async with running_topology() as topology:
        topology.fail_next_send("clv.updates")
        await topology.orders.placed("c1", 40)
        await topology.still()


async def test_a_crash_that_nobody_asks_about_fails_the_test_at_its_end() -> None:
    with pytest.raises(WorkerCrashed, match="worker-1"):
        await crash_and_leave()


async def test_to_expect_a_crash_where_there_is_none_fails(topology: Topology) -> None:
    await topology.orders.placed("c1", 40)
    with pytest.raises(NotSettled, match="no worker crashed"):
        await topology.crash()


async def test_nothing_is_told_that_is_not_stored(topology: Topology) -> None:
    topology.freeze("clv-customers-changelog")
    await topology.orders.placed("c1", 40)
    await topology.still()
    assert topology.broker.records("clv.updates") == []
    with pytest.raises(NotSettled, match=r"froze clv-customers-changelog, which holds records to"):
        await topology.updates.last("c1")
    topology.release("clv-customers-changelog")
    assert (await topology.updates.last("c1")).totals.orders == 1


async def test_the_stream_goes_on_without_the_cache_and_the_cache_catches_up(
    topology: Topology,
) -> None:
    topology.cache.fail()
    await place_for_all(topology, "first")
    assert await gross(topology) == {10.0}
    topology.cache.recover()
    assert await topology.cache.size() == len(CUSTOMERS)


async def test_a_new_worker_fills_a_cache_that_lost_everything(topology: Topology) -> None:
    await place_for_all(topology, "first")
    assert await topology.cache.size() == len(CUSTOMERS)
    topology.cache.forget()
    await topology.kill_worker()
    await topology.start_worker()
    assert await topology.cache.size() == len(CUSTOMERS)


async def test_more_workers_than_partitions_leave_some_idle() -> None:
    async with running_topology(workers=5) as topology:
        await place_for_all(topology, "first")
        assert await gross(topology) == {10.0}
        assert sorted(map(len, partitions_of(topology))) == [0, 1, 1, 1, 1]
