"""Workers with copies on disk or tables in memory: they read again only what is new."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from structlog.testing import capture_logs

from streams.embedded import EmbeddedBroker
from streams.transport.changelog import RecoveryProgress
from streams.transport.table import PartitionedTable

from . import apps, durable_worker
from .apps import contents
from .durable_worker import CHANGELOG, PARTITIONS, table_app

TP = TopicPartition
DEADLINE_SECONDS = 60.0


async def until(condition: Callable[[], Any]) -> None:
    await apps.until(condition, DEADLINE_SECONDS)


@asynccontextmanager
async def running(
    server: EmbeddedBroker, state_dir: Path | None
) -> AsyncIterator[tuple[Any, PartitionedTable]]:
    app, table = table_app(server.address, state_dir)
    app.finalize()
    try:
        await app.start()
        await until(lambda: app.tables.recovery.progress.done)
        yield app, table
    finally:
        await app.stop()


async def taken_in(app: Any, table: PartitionedTable, orders: "Orders") -> None:
    """Wait until all orders are in the table, and acknowledged: the copy has them then."""
    await until(lambda: contents(table) == orders.expected and app.in_work == 0)


def progress(app: Any) -> RecoveryProgress:
    return app.tables.recovery.progress


async def create_topics(server: EmbeddedBroker) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=server.address)
    await admin.start()
    await admin.create_topics([NewTopic(name, PARTITIONS, 1) for name in ("orders", CHANGELOG)])
    await admin.close()


@dataclass
class Orders:
    """Publishes orders and remembers what must be in the table."""

    server: EmbeddedBroker
    expected: dict[bytes, bytes]
    sent: int = 0

    async def send(self, count: int, *, keys: int = 500, deleted: int = 0) -> None:
        async with AIOKafkaProducer(bootstrap_servers=self.server.address, acks="all") as producer:
            for number in range(self.sent, self.sent + count):
                key = b"%d" % (number % keys)
                value = None if number % keys < deleted else b"%d" % number
                await producer.send("orders", value, key=key, partition=number % PARTITIONS)
                if value is None:
                    self.expected.pop(key, None)
                else:
                    self.expected[key] = value
            await producer.flush()
        self.sent += count


async def changelog(server: EmbeddedBroker) -> list[Any]:
    records: list[Any] = []
    async with AIOKafkaConsumer(bootstrap_servers=server.address) as consumer:
        consumer.assign(left := [TP(CHANGELOG, number) for number in range(PARTITIONS)])
        await consumer.seek_to_beginning()
        while left:
            for fetched in (await consumer.getmany(timeout_ms=100)).values():
                records += fetched
            for tp in list(left):
                end = consumer.highwater(tp)
                if end is not None and await consumer.position(tp) >= end:
                    left.remove(tp)
    return records


async def test_a_restart_reads_only_what_is_new(server: EmbeddedBroker, tmp_path: Path) -> None:
    await create_topics(server)
    orders = Orders(server, {})
    await orders.send(1_000)
    async with running(server, tmp_path) as (app, table):
        await taken_in(app, table, orders)
    async with running(server, tmp_path) as (app, table):
        assert progress(app).records == 0
        assert contents(table) == orders.expected
        assert table.durable.healthy

    # Another worker, without the copy, goes on; ours then reads what that one wrote.
    await orders.send(100, keys=50, deleted=3)
    before = len(await changelog(server))
    async with running(server, None) as (app, table):
        assert progress(app).records == before
        await taken_in(app, table, orders)
    new = len(await changelog(server)) - before
    assert 0 < new < before
    async with running(server, tmp_path) as (app, table):
        assert progress(app).records == new
        assert contents(table) == orders.expected
    async with running(server, tmp_path) as (app, table):
        assert progress(app).records == 0
        assert contents(table) == orders.expected


async def test_what_is_in_memory_is_not_read_again_after_a_rebalance(
    server: EmbeddedBroker, tmp_path: Path
) -> None:
    await create_topics(server)
    orders = Orders(server, {})
    await orders.send(1_000)
    async with running(server, None) as (first, firsts):
        await until(lambda: contents(firsts) == orders.expected)
        async with running(server, None) as (second, seconds):
            await until(lambda: contents(firsts) and contents(seconds))
            await until(lambda: progress(first).done and progress(second).done)
            assert progress(first).records == 0
            assert contents(firsts) | contents(seconds) == orders.expected
            await orders.send(200, keys=100, deleted=10)
            await until(lambda: contents(firsts) | contents(seconds) == orders.expected)
            seen = progress(first)
        await until(lambda: contents(firsts) == orders.expected)
        await until(lambda: progress(first).done)
        assert progress(first) != seen
        lost = [r for r in await changelog(server) if r.partition in firsts.data.partitions]
        # One partition came back and was read whole; the other stayed and was not.
        assert 0 < progress(first).records < len(lost)


async def test_two_workers_hand_a_partition_over_in_one_directory(
    server: EmbeddedBroker, tmp_path: Path
) -> None:
    await create_topics(server)
    orders = Orders(server, {})
    await orders.send(1_000)
    async with running(server, tmp_path) as (first, firsts):
        await taken_in(first, firsts, orders)
        async with running(server, tmp_path) as (second, seconds):
            await until(lambda: contents(firsts) and contents(seconds))
            await until(lambda: progress(first).done and progress(second).done)
            assert progress(second).records == 0
            assert firsts.durable.healthy
            assert seconds.durable.healthy
            await orders.send(200, keys=100, deleted=10)
            await until(lambda: contents(firsts) | contents(seconds) == orders.expected)
        await until(lambda: contents(firsts) == orders.expected)
        await until(lambda: progress(first).done)
        assert progress(first).records == 0


async def test_a_changelog_that_was_made_anew_is_read_whole(
    server: EmbeddedBroker, tmp_path: Path
) -> None:
    await create_topics(server)
    orders = Orders(server, {})
    await orders.send(400, keys=400)
    async with running(server, tmp_path) as (app, table):
        await taken_in(app, table, orders)
    async with EmbeddedBroker() as other:
        await create_topics(other)
        later = Orders(other, {})
        # A longer log, so that only the remembered record tells them apart; and a shorter one.
        async with AIOKafkaProducer(bootstrap_servers=other.address, acks="all") as producer:
            for number in range(1_000):
                key = b"other %d" % (number % 300)
                later.expected[key] = b"%d" % number
                await producer.send(CHANGELOG, later.expected[key], key=key, partition=0)
            await producer.send(CHANGELOG, b"v", key=b"one", partition=1)
            await producer.flush()
        later.expected[b"one"] = b"v"
        with capture_logs() as logs:
            async with running(other, tmp_path) as (app, table):
                assert contents(table) == later.expected
        told = [entry["changelog"] for entry in logs if "not the one" in entry["event"]]
        assert sorted(told) == [f"{CHANGELOG}[0]", f"{CHANGELOG}[1]"]
        async with running(other, tmp_path) as (app, table):
            assert contents(table) == later.expected
            assert progress(app).records == 0


async def test_a_worker_killed_outright_leaves_a_copy_that_is_true(
    server: EmbeddedBroker, tmp_path: Path
) -> None:
    await create_topics(server)
    orders = Orders(server, {})
    read_again = []
    for _ in range(3):
        worker = await asyncio.create_subprocess_exec(
            sys.executable, durable_worker.__file__, server.address, str(tmp_path)
        )
        try:
            await orders.send(500)
            size = _copied(tmp_path)
            for _ in range(40):
                await orders.send(20)
            await until(lambda before=size: _copied(tmp_path) > before)
        finally:
            worker.send_signal(signal.SIGKILL)
            await worker.wait()
        last = {record.key: record.value for record in await changelog(server)}
        async with running(server, tmp_path) as (app, table):
            read_again.append(progress(app).records)
            await taken_in(app, table, orders)
        assert last.keys() <= orders.expected.keys()
    assert max(read_again) < len(await changelog(server)) // 2


def _copied(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*.copy"))


async def test_recovery_goes_on_when_a_frozen_broker_is_back(
    server: EmbeddedBroker, tmp_path: Path
) -> None:
    await create_topics(server)
    orders = Orders(server, {})
    await orders.send(600)
    async with running(server, None) as (app, table):
        await taken_in(app, table, orders)
    app, table = table_app(server.address, None)
    app.finalize()
    starting = asyncio.create_task(app.start())
    froze = False
    try:
        await until(lambda: app.tables.recovery.in_recovery)
        server_process = server.pid
        _signal(server_process, signal.SIGSTOP)
        froze = not app.tables.recovery.progress.done
        await asyncio.sleep(1)
        _signal(server_process, signal.SIGCONT)
        await until(lambda: app.tables.recovery.progress.done)
        assert contents(table) == orders.expected
        assert froze
    finally:
        _signal(server.pid, signal.SIGCONT)
        await starting
        await app.stop()


def _signal(pid: int, number: signal.Signals) -> None:
    os.kill(pid, number)
