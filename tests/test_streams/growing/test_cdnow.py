"""A real shop's growth, killed again and again: every customer is the same afterwards."""

import json
import random

import pytest

from streams.datasets import DATASETS
from tests.test_streams.service.cluster import cluster

from .support import assert_same_customers, grown, order, orders_of, snapshot
from .test_killed import ALL_WRITES, killed

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

CUSTOMERS = 23_570
MOVES = range(3, ALL_WRITES)
"""The writes that copy or delete customers and values, from 4 partitions each."""
KILLS = sorted(random.Random(1).sample(MOVES, 5))
"""Ascending: what a repeated growth is killed in was not moved by those before it."""


async def test_killed_five_times_it_leaves_every_customer_as_before(tmp_path, monkeypatch):
    async with cluster(tmp_path, "kafka") as service:
        worker = await service.start_worker()
        await service.publish(DATASETS["cdnow"].events())
        await service.settled()
        assert await worker.stop() == 0
        before = await snapshot(service)
        assert [len(before.customers), len(before.updates), len(before.cached)] == [CUSTOMERS] * 3

        for kill in KILLS:
            await killed(service, 12, kill, monkeypatch)
        done = await grown(service, 12)
        assert done.cached == CUSTOMERS
        after = await snapshot(service)
        assert_same_customers(before, after)
        assert [basis.partitions for basis in after.bases] == [12] * 12

        workers = [await service.start_worker() for _ in range(2)]
        counted = orders_of(published(before))
        await service.publish(order(name, f"{name}/new") for name in counted)
        await service.settled()
        assert [await worker.stop() for worker in workers] == [0, 0]
        last = await snapshot(service)
    assert last.astray == []
    went_on = {name: orders + 1 for name, orders in counted.items()}
    assert orders_of(published(last)) == orders_of(cached(last)) == went_on


def published(held):
    """The values on clv.updates."""
    return {key.decode(): json.loads(value)["data"] for key, value in held.updates.items()}


def cached(held):
    """The values in Redis."""
    return {name: json.loads(update)["data"] for name, (_, _, update) in held.cached.items()}
