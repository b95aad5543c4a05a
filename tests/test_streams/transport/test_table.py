"""The table: a Faust table that is written by the batch, inside stream iteration only."""

from collections.abc import Callable
from typing import Any

import pytest
from faust.exceptions import ImproperlyConfigured
from faust.types import TP, EventT

from streams.transport.memory.broker import MemoryBroker
from streams.transport.table import PartitionedTable

from .apps import Ours, contents, running, until

SOURCE = TP("orders", 1)
CHANGELOG = TP("app-customers-changelog", 1)
SETTINGS: dict[str, Any] = {"broker_commit_interval": 0.02, "topic_disable_leader": True}


class Writer:
    """An app whose agent does with its table what the test says."""

    def __init__(
        self, broker: MemoryBroker, work: Callable[[PartitionedTable, EventT], object] | None = None
    ) -> None:
        self.results: list[object] = []
        self.app = Ours().app(broker, **SETTINGS)
        self.table: PartitionedTable = self.app.Table("customers", partitions=2)

        async def run(stream: Any) -> None:
            async for event in stream.noack().events():
                if work is not None:
                    self.results.append(work(self.table, event))
                event.ack()

        self.app.agent(self.app.topic(SOURCE.topic), name="run")(run)


@pytest.fixture
def source(broker: MemoryBroker) -> MemoryBroker:
    broker.create_topic(SOURCE.topic, 2)
    broker.append(SOURCE, b"v", b"k")
    return broker


async def done(broker: MemoryBroker) -> None:
    await until(lambda: broker.committed.get(SOURCE) == broker.ends[SOURCE])


async def test_the_ways_of_faust_to_write_are_refused_and_not_told(
    source: MemoryBroker,
) -> None:
    def work(table: PartitionedTable, _: EventT) -> None:
        with pytest.raises(TypeError, match="written by update_partition and send_items"):
            table[b"k"] = b"v"
        with pytest.raises(TypeError, match="written by update_partition and send_items"):
            del table[b"k"]
        with pytest.raises(TypeError, match="written by update_partition and send_items"):
            table.clear()
        with pytest.raises(TypeError):
            table.data[b"k"] = b"v"

    writer = Writer(source, work)
    async with running(writer.app):
        await done(source)
        assert len(writer.results) == 1
        assert contents(writer.table) == {}
    assert source.logs[CHANGELOG] == []


async def test_a_batch_of_items_is_written_and_sent(source: MemoryBroker) -> None:
    items = {b"%d" % number: b"v" for number in range(100)}

    def work(table: PartitionedTable, _: EventT) -> None:
        table.update_partition(SOURCE, items)
        table.send_items(1, items)

    writer = Writer(source, work)
    async with running(writer.app):
        await done(source)
        assert dict(writer.table.partition(1)) == items
    assert {record.key: record.value for record in source.logs[CHANGELOG]} == items


async def test_no_value_deletes_a_key_and_leaves_a_tombstone(source: MemoryBroker) -> None:
    def work(table: PartitionedTable, _: EventT) -> None:
        for items in ({b"a": b"1", b"b": b"2"}, {b"a": None, b"c": b"3", b"never": None}):
            table.update_partition(SOURCE, items)
            table.send_items(1, items)

    writer = Writer(source, work)
    async with running(writer.app):
        await done(source)
        assert dict(writer.table.partition(1)) == {b"b": b"2", b"c": b"3"}
    assert [(record.key, record.value) for record in source.logs[CHANGELOG]] == [
        (b"a", b"1"),
        (b"b", b"2"),
        (b"a", None),
        (b"c", b"3"),
        (b"never", None),
    ]
    recovered = Writer(source)
    async with running(recovered.app):
        assert dict(recovered.table.partition(1)) == {b"b": b"2", b"c": b"3"}


async def test_the_partitioner_is_refused(broker: MemoryBroker) -> None:
    app = Ours().app(broker)
    with pytest.raises(ImproperlyConfigured, match="use_partitioner"):
        app.Table("customers", use_partitioner=True)
