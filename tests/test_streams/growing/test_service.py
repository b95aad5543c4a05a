"""A service on Apache Kafka whose partitions become more."""

import pytest

from streams.growing import GrowthRefused
from streams.topics import home_partition
from tests.test_streams.service.cluster import cluster

from .support import (
    ERASED,
    MERGED,
    NAMES,
    assert_same_customers,
    first_orders,
    found_for,
    grown,
    identities,
    note_bases,
    order,
    orders_of,
    snapshot,
)


async def busy(service):
    """A service that had work of every kind, and was stopped."""
    worker = await service.start_worker()
    await service.publish(first_orders())
    await service.settled()
    await service.publish(identities())
    await service.settled()
    assert await worker.stop() == 0
    await note_bases(service)


@pytest.mark.parametrize("more", [12, 6])
async def test_customers_values_and_cache_are_the_same_in_more_partitions(more, tmp_path):
    async with cluster(tmp_path, "kafka") as service:
        await busy(service)
        before = await snapshot(service)
        found = await found_for(service, more)
        done = await grown(service, more)
        after = await snapshot(service)
        assert_same_customers(before, after)
        assert (
            done.customers
            == found.moving
            == sum(home_partition(key, 4) != home_partition(key, more) for key in before.customers)
        )
        assert [basis.partitions for basis in after.bases] == [more] * more
        with pytest.raises(GrowthRefused, match=f"{more} partitions already"):
            await found_for(service, more)

        # Events of all customers count on; those of the erased from before do not.
        await service.start_worker()
        await service.publish(
            [order(name, f"{name}/late", 50) for name in ERASED]
            + [order(name, f"{name}/new", 120) for name in NAMES]
        )
        await service.settled()
        counted, last = orders_of(await service.updates()), await snapshot(service)
        cached = await service.cached(NAMES)
    assert last.astray == []
    assert orders_of(cached) == counted
    assert {name: counted[name] for name in ERASED} == dict.fromkeys(ERASED, 1)
    assert counted.keys() == {*NAMES} - {*MERGED}
