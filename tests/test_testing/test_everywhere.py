"""One test body in memory, on the embedded broker and on Apache Kafka."""

import json
import signal
from typing import Any

import pytest

from streams.testing import (
    Cluster,
    MemoryOnly,
    NotAwaited,
    NotPublished,
    Topology,
    WorkerCrashed,
    everywhere,
    running_cluster,
)

CUSTOMERS = [f"c{number}" for number in range(6)]


@pytest.mark.slow
@everywhere()
async def test_a_life_of_customers_is_the_same_wherever_it_runs(
    topology: Topology | Cluster,
) -> None:
    for number, customer in enumerate(CUSTOMERS):
        await topology.orders.placed(customer, 10 + number, at="2026-01-03")
    await topology.publish(topology.settings.topics.orders, "c0", b"no event")
    await topology.customers.merged("c1", "c2", at="2026-02-01")
    await topology.customers.erased("c3", at="2026-02-02")
    await topology.settled()
    await topology.kill_worker()
    await topology.start_worker()
    await topology.orders.placed("c1", "30.00", at="2026-02-03")
    await topology.advance(days=200)
    current = await topology.updates.current()
    assert {name: update.totals.gross for name, update in current.items()} == {
        "c0": 10.0,
        "c1": 53.0,
        "c4": 14.0,
        "c5": 15.0,
    }
    lifecycle = [
        (change.previous, change.current)
        for change in await topology.segment_changes.of("c0")
        if change.dimension == "lifecycle"
    ]
    assert list(dict.fromkeys(lifecycle)) == [
        (None, "new"),
        ("new", "needs attention"),
        ("needs attention", "at risk"),
    ]
    removed = {(r.customer_id, r.reason, r.merged_into) for r in await topology.removals.all()}
    assert removed == {("c2", "merged", "c1"), ("c3", "erased", None)}
    assert [letter.reason for letter in await topology.dead_letters.all()] == ["not-json"]
    top = await topology.cache.top(10)
    assert {each.customer_id: each.clv for each in top} == {
        name: update.clv for name, update in current.items()
    }
    assert "customer.merged" in topology.history("c1")
    assert "needs attention -> at risk" in topology.history("c0")


async def documents(service: Topology | Cluster) -> dict[str, list[dict[str, Any]]]:
    """What a customer's value updates and changes say, in a life of one."""
    await service.orders.placed("c1", "40.00", at="2026-01-03", cost_of_goods="12.00")
    await service.settled()
    await service.support.opened("c1", channel="phone", at="2026-01-04")
    await service.advance(days=30)
    topics = service.settings.topics
    return {
        kind: [json.loads(record.value or b"") for record in await service.topic(name)]
        for kind, name in (("updates", topics.updates), ("changes", topics.segment_changes))
    }


@pytest.mark.slow
async def test_what_is_published_is_the_same_to_the_last_digit(
    topology: Topology, cluster: Cluster
) -> None:
    assert await documents(topology) == await documents(cluster)


@pytest.mark.slow
async def test_a_cluster_without_its_worker_says_so(cluster: Cluster) -> None:
    with pytest.raises(MemoryOnly):
        cluster.freeze("clv.updates")
    worker = cluster.workers[-1]
    await worker.stop(signal.SIGKILL)
    await cluster.orders.placed("c1", 40)
    with pytest.raises(WorkerCrashed, match="worker-1 ended with status -9"):
        await cluster.updates.last("c1")
    cluster.workers.clear()


@pytest.mark.slow
async def test_the_history_of_a_cluster_outlives_it_if_the_test_fails() -> None:
    clusters: list[Cluster] = []

    async def fail() -> None:
        async with running_cluster() as cluster:
            clusters.append(cluster)
            await cluster.orders.placed("c1", 40)
            await cluster.updates.last("nobody")

    with pytest.raises(NotPublished):
        await fail()
    assert "order.placed" in clusters[0].history()


@pytest.mark.slow
async def test_a_call_of_a_cluster_without_await_fails() -> None:
    with pytest.raises(NotAwaited, match=r"advance\(\) in test_everywhere.py"):
        async with running_cluster() as cluster:
            _ = cluster.advance(days=1)
    assert cluster.history() == "the cluster has ended, with all its topics"
