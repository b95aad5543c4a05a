"""A growth that is killed, and repeated, ends as one that was not."""

import random

import pytest

from streams.basis.findings import LOST
from streams.growing.stage import Stage
from streams.kafka.writing import RecordWriter
from tests.test_streams.service.cluster import cluster

from .support import (
    NAMES,
    assert_same_customers,
    found_for,
    grown,
    order,
    orders_of,
    snapshot,
)
from .test_service import assert_none_was_overtaken, busy, leave_unread

pytestmark = pytest.mark.kafka

ALL_WRITES = 19
"""Bases; the erased; copies and deletions of customers and of values, of four partitions; bases."""


class KilledError(Exception):
    """What a kill is in these tests."""


def die_at_write(monkeypatch, number):
    """Have the n-th write do half of its work, and end everything."""
    write, count = RecordWriter.write_all, 0

    async def half(self, by_partition):
        nonlocal count
        count += 1
        if count != number:
            await write(self, by_partition)
            return
        rows = {partition: list(records) for partition, records in by_partition.items()}
        some = dict(list(rows.items())[: (len(rows) + 1) // 2])
        await write(self, {p: each[: (len(each) + 1) // 2] for p, each in some.items()})
        raise KilledError

    monkeypatch.setattr(RecordWriter, "write_all", half)


async def killed(service, partitions, kill, monkeypatch):
    """Grow, and be killed in the n-th write, or before the step of this name, or halfway in it."""

    def step(now):
        if now == kill:
            raise KilledError
        if kill == f"half: {now}":
            die_at_write(patched, 1)

    with monkeypatch.context() as patched:
        if isinstance(kill, int):
            die_at_write(patched, kill)
        with pytest.raises(KilledError):
            await grown(service, partitions, step)


@pytest.mark.parametrize(
    ("partitions", "kills"),
    [
        (
            12,
            ["create partitions of the other topics", 1, 4, 13, "fill the cache", ALL_WRITES],
        ),
        (6, sorted(random.Random(5).sample(range(1, ALL_WRITES + 1), 5))),
    ],
)
async def test_killed_at_any_moment_and_repeated_it_ends_the_same(
    partitions, kills, tmp_path, monkeypatch
):
    async with cluster(tmp_path, "kafka") as service:
        await busy(service)
        before = await snapshot(service)
        for kill in kills:
            await killed(service, partitions, kill, monkeypatch)
            found = await found_for(service, partitions)
            said = {basis.partitions for basis in found.stored.bases.values()}
            if kill == ALL_WRITES:
                assert (found.standing.stage, said) == (Stage.MOVED, {4, partitions})
            else:
                # No partition says that it is in use: no worker would start.
                assert said == {4}
        await grown(service, partitions)
        after = await snapshot(service)
    assert_same_customers(before, after)
    assert [basis.partitions for basis in after.bases] == [partitions] * partitions


async def test_killed_at_any_moment_and_repeated_no_misrouted_record_is_overtaken(
    tmp_path, monkeypatch
):
    resending = "send misrouted records that were not read to their new partitions"
    last = "say in every partition that it is in use"
    async with cluster(tmp_path, "kafka") as service:
        left = await leave_unread(service, 6, published_at_home=True)
        for kill in [
            "create partitions of the other topics", f"half: {resending}", 4,
            "copy what is remembered of erased customers", "fill the cache", last, f"half: {last}",
        ]:  # fmt: skip
            await killed(service, 6, kill, monkeypatch)
        found = await found_for(service, 6)
        assert found.standing.stage is Stage.MOVED
        await grown(service, 6)
        await assert_none_was_overtaken(service, left)


async def test_a_worker_refuses_to_start_while_a_growth_is_not_finished(tmp_path, monkeypatch):
    async with cluster(tmp_path, "kafka") as service:
        worker = await service.start_worker()
        await service.publish([order(name, f"{name}/1") for name in NAMES])
        await service.settled()
        assert await worker.stop() == 0
        # First the counts of the topics differ, then they are not those of the basis.
        for kill, status in (
            ("create partitions of the other topics", 1),
            ("fill the cache", LOST),
        ):
            await killed(service, 12, kill, monkeypatch)
            service.workers.clear()
            worker = await service.start_worker()
            assert await worker.process.wait() == status
            assert "clv partitions grow 12" in " ".join(worker.log.read_text().split())
        service.workers.clear()
        await grown(service, 12)
        await service.start_worker()
        await service.publish([order(name, f"{name}/2", 1) for name in NAMES])
        await service.settled()
        assert orders_of(await service.updates()) == dict.fromkeys(NAMES, 2)
