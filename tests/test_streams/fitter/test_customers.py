"""The population of a fitter is that of the changelog: as it is, and as it becomes."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from models.aggregate.fold import fold
from models.aggregate.record import CustomerRecord, encode_record, forgotten_key
from models.aggregate.state import Aggregate
from streams.embedded import EmbeddedBroker
from streams.fitter.customers import ChangelogChanged, Customers, following_customers
from streams.kafka.connection import Broker
from streams.kafka.partitions import TopicPartition, home_partition
from streams.kafka.writing import Outgoing, record_writer
from streams.settings import Settings
from streams.topics import changelog_topic, prepare_topics
from tests.test_models.events import placed
from tests.test_models.populations import CONFIG, FIRST

PARTITIONS = 2
CHANGELOG = changelog_topic(Settings())


@pytest.fixture
async def broker() -> AsyncIterator[Broker]:
    async with EmbeddedBroker() as server:
        connection = Broker(server.address)
        settings = Settings(broker=server.address, partitions=PARTITIONS)
        await prepare_topics(settings, connection)
        yield connection


def stored(*days: int, into: str = "") -> bytes:
    state = Aggregate()
    for day in days:
        fold(state, placed(f"o{day}", day), CONFIG)
    return encode_record(CustomerRecord(aggregate=state, into=into))


async def write(broker: Broker, key: bytes, value: bytes | None, *, away: bool = False) -> None:
    home = home_partition(key, PARTITIONS)
    tp = TopicPartition(CHANGELOG, 1 - home if away else home)
    async with record_writer(broker) as writer:
        await writer.write(tp, [Outgoing(key, value)])


async def purchases(customers: Customers, count: int) -> list[float]:
    """The purchase days of all customers, once there are so many of these."""
    while not (
        await customers.read() and customers.population.columns(FIRST + 9).orders.size == count
    ):
        pass
    return sorted(customers.population.columns(FIRST + 9).purchase_days.tolist())


async def test_customers_come_change_and_go(broker: Broker) -> None:
    await write(broker, b"anna", stored(0))
    await write(broker, b"anna", stored(0, 1))
    await write(broker, b"bert", stored(0, 1, 2))
    await write(broker, b"cleo", stored(0))
    await write(broker, b"dora", stored(0), away=True)
    await write(broker, forgotten_key(b"eve", b"secret"), b"no customer")
    async with following_customers(broker, CHANGELOG, PARTITIONS, CONFIG) as customers:
        assert await purchases(customers, 3) == [1, 2, 3]
        assert customers.population.buyers == 3
        await write(broker, b"bert", None)
        await write(broker, b"cleo", stored(0, into="anna"))
        assert await purchases(customers, 1) == [2]
        await write(broker, b"bert", stored(4))
        assert await purchases(customers, 2) == [1, 2]
        assert customers.population.buyers == 2
        await customers.check()
        customers.partitions = 1
        with pytest.raises(ChangelogChanged, match="has 2 partitions, and had 1"):
            await customers.check()
