"""Kafka loses or changes what the state was computed from, and the worker says so and stops."""

from pathlib import Path

import pytest

from streams.basis.findings import LOST
from streams.topics import changelog_topic
from tests.test_streams.service.cluster import cluster

from .support import (
    committed,
    counted,
    critical,
    delete,
    delete_before,
    end_of,
    failing,
    grow,
    keyed,
    make_anew,
    orders,
)

pytestmark = [pytest.mark.kafka, pytest.mark.slow]


@pytest.fixture
async def service(tmp_path: Path):
    """Two partitions on Apache Kafka, and a customer with three orders in each, worked on."""
    async with cluster(tmp_path, "kafka", partitions=2) as running:
        await running.start_worker()
        for partition in range(2):
            [customer] = keyed(partition, 1, 2)
            await running.publish(orders(customer, "1", "2", "3"))
        await running.settled()
        yield running


async def refused(service, worker=None):
    """What a worker says that is started, or runs, on what was broken; nothing is committed."""
    orders_topic = service.settings.topics.orders
    before = [await committed(service, orders_topic, n) for n in range(2)]
    worker = worker or await service.start_worker()
    status, said = await end_of(worker)
    assert status == LOST, said[-3_000:]
    assert [await committed(service, orders_topic, n) for n in range(2)] == before
    return critical(said)


async def test_a_worker_that_is_started_again_on_what_it_left_goes_on(service):
    await service.workers[0].stop()
    worker = await service.start_worker()
    [customer] = keyed(0, 1, 2)
    await service.publish(orders(customer, "4"))
    await service.settled()
    assert (await service.updates())[customer]["totals"]["orders"] == 4
    assert not await failing(service)
    assert await worker.stop() == 0


@pytest.mark.parametrize("all_of_them", [True, False])
async def test_partitions_that_were_grown_are_found_at_the_start(service, all_of_them):
    await service.workers[0].stop()
    topics = counted(service) if all_of_them else [service.settings.topics.orders]
    await grow(service, 4, *topics)
    text = await refused(service)
    assert "from 2 to 4 partitions" in text
    assert "clv partitions grow 4" in text
    checks = await failing(service)
    assert "clv partitions grow 4" in checks["basis"].advice


async def test_partitions_that_are_grown_beside_the_worker_are_found(service):
    await grow(service, 4, *counted(service))
    text = await refused(service, service.workers[0])
    assert f"{service.settings.topics.orders} from 2 to 4" in text
    assert "clv partitions grow 4" in text


async def test_a_state_that_is_gone_is_found_before_anything_is_created(service):
    await service.workers[0].stop()
    changelog = changelog_topic(service.settings)
    await delete(service, changelog)
    text = await refused(service)
    assert f"{changelog}: it is missing" in text
    assert f"{service.settings.topics.orders}[0] to 3" in text
    assert "clv accept-loss" in text
    check = (await failing(service))["changelog"]
    assert "clv accept-loss" in check.advice
    # Not even then: somebody else created it.
    await make_anew(service, changelog)
    assert "it is empty" in await refused(service)


async def test_a_changelog_that_is_made_anew_beside_the_worker_is_known_ever_after(service):
    changelog = changelog_topic(service.settings)
    await make_anew(service, changelog)
    [customer] = keyed(0, 1, 2)
    await service.publish(orders(customer, "4"))
    status, said = await end_of(service.workers[0])
    assert status == LOST, said[-3_000:]
    assert changelog in critical(said)
    text = await refused(service)
    assert changelog in text
    assert "clv accept-loss" in text


async def test_events_that_retention_deleted_unread_are_counted(service):
    await service.workers[0].stop()
    [customer] = keyed(0, 1, 2)
    await service.publish(orders(customer, *"4567"))
    topic = service.settings.topics.orders
    await delete_before(service, topic, 0, 5)
    text = await refused(service)
    assert f"{topic}[0]: 2 records, offsets 3 to 4, were deleted" in text
    assert "the first that is still there is 5, and is of 20" in text
    assert "clv accept-loss" in (await failing(service))["offsets"].advice


@pytest.mark.parametrize("published", [0, 1, 9])
async def test_a_source_topic_that_was_made_anew_is_known(service, published):
    await service.workers[0].stop()
    topic = service.settings.topics.orders
    await make_anew(service, topic)
    [customer] = keyed(0, 1, 2)
    await service.publish(orders(customer, *map(str, range(10, 10 + published))))
    text = await refused(service)
    assert f"{topic}[0]: the topic was deleted and made anew" in text
    assert "clv accept-loss" in (await failing(service))["offsets"].advice


async def test_a_source_topic_that_is_made_anew_beside_the_worker_is_known(service):
    topic = service.settings.topics.orders
    await make_anew(service, topic)
    [customer] = keyed(0, 1, 2)
    await service.publish(orders(customer, *map(str, range(10, 20))))
    status, said = await end_of(service.workers[0])
    assert status == LOST, said[-3_000:]
    assert f"{topic}[0]" in critical(said)


async def test_another_currency_is_refused(service):
    await service.workers[0].stop()
    service.settings = service.settings.model_copy(
        update={"economics": service.settings.economics.model_copy(update={"currency": "JPY"})}
    )
    assert "CLV_ECONOMICS__CURRENCY=USD" in await refused(service)
