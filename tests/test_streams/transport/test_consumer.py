"""Batches in sequence, and offsets only of what is finished."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import faust
import pytest
from faust.types import TP, EventT

from streams.transport import consumer
from streams.transport.consumer import PositionUnknown
from streams.transport.memory.broker import MemoryBroker
from streams.transport.memory.driver import BatchMemoryConsumer
from streams.transport.producer import DeliveryFailed

from .apps import Ours, put, running, until

SOURCE = TP("orders", 0)
SOME_FETCHES = 0.1


class Reader:
    """An app of ours that keeps the batches it gets, and acknowledges them if it is told to."""

    def __init__(
        self, broker: MemoryBroker, *, acknowledging: bool = True, **settings: Any
    ) -> None:
        self.events: list[EventT] = []
        self.may_begin = asyncio.Event()
        self.may_begin.set()
        self.app: faust.App = Ours().app(
            broker, **{"broker_commit_interval": 0.02, "topic_disable_leader": True, **settings}
        )
        table = self.app.Table("counts", partitions=settings.get("topic_partitions", 1))

        async def run(stream: Any) -> None:
            async for event in stream.noack().events():
                self.events.append(event)
                await self.may_begin.wait()
                if acknowledging:
                    put(table, SOURCE, b"k", b"v")
                    event.ack()

        self._run = run
        self.read(SOURCE.topic)

    def read(self, topic: str) -> None:
        self.app.agent(self.app.topic(topic), name=f"run {topic}")(self._run)

    @property
    def consumer(self) -> BatchMemoryConsumer:
        consumer: BatchMemoryConsumer = self.app.consumer
        return consumer

    @property
    def offsets(self) -> list[list[int]]:
        return [[record.offset for record in event.value.records] for event in self.events]

    @property
    def seen(self) -> list[int]:
        return [offset for batch in self.offsets for offset in batch]

    @asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        async with running(self.app):
            try:
                yield
            finally:
                self.may_begin.set()
                for event in self.events:
                    event.ack()


@pytest.fixture
def source(broker: MemoryBroker) -> MemoryBroker:
    broker.create_topic(SOURCE.topic, 1)
    return broker


def publish(broker: MemoryBroker, count: int) -> None:
    for _ in range(count):
        broker.append(SOURCE, b"v", b"k")


def counting_seeks(reader: Reader, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The offsets that the consumer seeks from now on."""
    seeks: list[int] = []
    seek: Callable[..., Any] = reader.consumer._seek

    async def counted(tp: TP, offset: int) -> None:
        seeks.append(offset)
        await seek(tp, offset)

    monkeypatch.setattr(reader.consumer, "_seek", counted)
    return seeks


async def test_a_fetch_is_one_batch_and_batches_follow_one_another(source: MemoryBroker) -> None:
    publish(source, 7)
    reader = Reader(source, broker_max_poll_records=3)
    async with reader.running():
        await until(lambda: source.committed.get(SOURCE) == 7)
    assert reader.offsets == [[0, 1, 2], [3, 4, 5], [6]]
    assert {event.value.origin for event in reader.events} == {"orders/0"}
    assert [event.value.last_offset for event in reader.events] == [2, 5, 6]


async def test_a_fetch_that_skips_records_is_made_again(
    source: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(source, 2)
    reader = Reader(source)
    async with reader.running():
        await until(lambda: len(reader.seen) == 2)
        seeks = counting_seeks(reader, monkeypatch)
        reader.consumer.positions[SOURCE] = 4
        publish(source, 5)
        await until(lambda: source.committed.get(SOURCE) == 7)
    assert reader.seen == list(range(7))
    assert seeks == [2]


async def test_two_fetches_that_skip_different_records_are_no_gap_in_the_log(
    source: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(source, 2)
    reader = Reader(source, broker_max_poll_records=2)
    async with reader.running():
        await until(lambda: len(reader.seen) == 2)
        seek = reader.consumer._seek
        seeks: list[int] = []

        async def too_late_at_first(tp: TP, offset: int) -> None:
            seeks.append(offset)
            if len(seeks) > 1:
                await seek(tp, offset)

        monkeypatch.setattr(reader.consumer, "_seek", too_late_at_first)
        reader.consumer.positions[SOURCE] = 4
        publish(source, 8)
        await until(lambda: source.committed.get(SOURCE) == 10)
    assert reader.seen == list(range(10))
    assert seeks == [2, 2]


async def test_a_gap_in_the_log_is_accepted_after_a_second_fetch(
    source: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(source, 2)
    reader = Reader(source)
    async with reader.running():
        await until(lambda: len(reader.seen) == 2)
        seeks = counting_seeks(reader, monkeypatch)
        source.append(SOURCE, b"v", offset=6)
        await until(lambda: source.committed.get(SOURCE) == 7)
        source.append(SOURCE, b"v", offset=9)
        await until(lambda: source.committed.get(SOURCE) == 10)
    assert reader.seen == [0, 1, 6, 9]
    assert seeks == [2, 7]


async def test_records_that_were_delivered_already_are_cut_off(source: MemoryBroker) -> None:
    publish(source, 4)
    reader = Reader(source)
    async with reader.running():
        await until(lambda: len(reader.seen) == 4)
        reader.consumer.positions[SOURCE] = 1
        await asyncio.sleep(SOME_FETCHES)
        assert reader.offsets == [[0, 1, 2, 3]]
        reader.consumer.positions[SOURCE] = 2
        publish(source, 2)
        await until(lambda: source.committed.get(SOURCE) == 6)
    assert reader.seen == list(range(6))


async def test_with_nothing_committed_it_starts_at_the_earliest_record(
    source: MemoryBroker,
) -> None:
    source.append(SOURCE, b"v", offset=5)
    publish(source, 2)
    reader = Reader(source)
    async with reader.running():
        await until(lambda: source.committed.get(SOURCE) == 8)
    assert reader.offsets == [[5, 6, 7]]


async def test_with_something_committed_it_starts_there(source: MemoryBroker) -> None:
    publish(source, 6)
    source.committed[SOURCE] = 4
    reader = Reader(source)
    async with reader.running():
        await until(lambda: source.committed[SOURCE] == 6)
    assert reader.offsets == [[4, 5]]


async def test_only_the_finished_head_of_the_queue_is_committed(source: MemoryBroker) -> None:
    publish(source, 6)
    reader = Reader(source, acknowledging=False, broker_max_poll_records=2)
    async with reader.running():
        await until(lambda: len(reader.events) == 3)
        first, second, third = reader.events
        second.ack()
        await reader.consumer.commit()
        assert source.committed == {}
        first.ack()
        await reader.consumer.commit()
        assert source.committed == {SOURCE: 4}
        third.ack()
        await reader.consumer.commit()
        assert source.committed == {SOURCE: 6}


async def test_what_is_kept_of_acknowledged_batches_does_not_grow(source: MemoryBroker) -> None:
    reader = Reader(source, broker_max_poll_records=1)
    async with reader.running():
        for _ in range(3):
            publish(source, 50)
            await until(lambda: source.committed.get(SOURCE) == source.ends[SOURCE])
            consumer = reader.consumer
            assert not consumer._acked[SOURCE]
            assert not consumer._acked_index[SOURCE]
            assert not consumer._in_work[SOURCE]
            assert not consumer._gap
    assert len(reader.seen) == 150


async def test_a_rebalance_waits_for_what_is_in_work(source: MemoryBroker) -> None:
    publish(source, 4)
    reader = Reader(source, acknowledging=False, broker_max_poll_records=2)
    async with reader.running():
        await until(lambda: len(reader.events) == 2)
        rebalance = asyncio.create_task(reader.consumer.rebalance())
        await asyncio.sleep(SOME_FETCHES)
        assert not rebalance.done()
        for event in reader.events:
            event.ack()
        await rebalance
        assert source.committed == {SOURCE: 4}
        publish(source, 1)
        await until(lambda: reader.seen[-1] == 4)
    assert reader.seen == list(range(5))


async def test_a_rebalance_during_a_commit_commits_what_was_finished_since(
    source: MemoryBroker,
) -> None:
    publish(source, 2)
    reader = Reader(source, acknowledging=False, broker_max_poll_records=1)
    async with reader.running():
        await until(lambda: len(reader.events) == 2)
        source.may_commit.clear()
        reader.events[0].ack()
        await until(lambda: reader.consumer._commit_fut is not None)
        reader.events[1].ack()
        rebalance = asyncio.create_task(reader.consumer.rebalance())
        await asyncio.sleep(SOME_FETCHES)
        source.may_commit.set()
        await rebalance
        publish(source, 1)
        await until(lambda: reader.seen[-1] == 2)
    assert reader.seen == [0, 1, 2]


async def test_batches_not_begun_at_a_rebalance_come_again(source: MemoryBroker) -> None:
    publish(source, 8)
    reader = Reader(source, broker_max_poll_records=2)
    reader.may_begin.clear()
    async with reader.running():
        await until(lambda: len(reader.consumer._in_work[SOURCE]) == 4)
        rebalance = asyncio.create_task(reader.consumer.rebalance())
        await asyncio.sleep(SOME_FETCHES)
        assert reader.offsets == [[0, 1]]
        reader.may_begin.set()
        await rebalance
        assert source.committed == {SOURCE: 2}
        await until(lambda: source.committed == {SOURCE: 8})
    assert reader.seen == list(range(8))


async def test_a_rebalance_while_the_agents_are_full_leaves_nobody_standing(
    source: MemoryBroker,
) -> None:
    publish(source, 40)
    reader = Reader(source, broker_max_poll_records=1, stream_buffer_maxsize=2)
    async with reader.running():
        for _ in range(5):
            reader.may_begin.clear()
            await asyncio.sleep(SOME_FETCHES)
            begun = len(reader.events)
            rebalance = asyncio.create_task(reader.consumer.rebalance())
            await asyncio.sleep(0.01)
            reader.may_begin.set()
            await rebalance
            publish(source, 5)
            await until(lambda begun=begun: len(reader.events) > begun + 3)
        await until(lambda: source.committed.get(SOURCE) == source.ends[SOURCE])
    assert reader.seen == list(range(65))


async def test_a_poll_of_others_does_not_wait_while_an_agent_is_full(
    source: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    source.create_topic("support", 1)
    publish(source, 1)
    reader = Reader(source, broker_max_poll_records=1, stream_buffer_maxsize=2)
    reader.read("support")
    async with reader.running():
        await until(lambda: reader.events)
        reader.may_begin.clear()
        publish(source, 8)
        await until(lambda: SOURCE in reader.consumer._buffered_partitions)
        waits: list[float] = []
        poll = reader.consumer._getmany

        async def noted(**how: Any) -> Any:
            waits.append(how["timeout"])
            return await poll(**how)

        monkeypatch.setattr(reader.consumer, "_getmany", noted)
        await until(lambda: len(waits) > 2)
        monkeypatch.setattr(reader.consumer, "_getmany", poll)
        assert max(waits[1:]) <= consumer._ROOM_SECONDS
        reader.may_begin.set()
        await until(lambda: reader.seen == list(range(9)))


async def test_a_fetch_of_a_partition_that_was_taken_away_is_dropped(source: MemoryBroker) -> None:
    reader = Reader(source)
    async with reader.running():
        await reader.consumer.on_partitions_revoked({SOURCE})
        publish(source, 2)
        records = source.fetch(SOURCE, 0, None)
        assert list(await reader.consumer._in_sequence(SOURCE, records)) == []


async def test_a_delivery_that_fails_during_a_rebalance_stops_the_worker(
    source: MemoryBroker,
) -> None:
    publish(source, 1)
    reader = Reader(source, broker_commit_interval=60.0)
    source.silent.add("app-counts-changelog")
    async with reader.running():
        await until(lambda: len(reader.events) == 1 and source.unanswered)
        source.fail_unanswered()
        await reader.consumer.rebalance()
        assert isinstance(reader.app.crash_reason, DeliveryFailed)
    assert source.committed == {}


async def test_a_stop_waits_for_what_is_in_work_and_commits_it(source: MemoryBroker) -> None:
    publish(source, 2)
    reader = Reader(source, acknowledging=False, broker_commit_interval=60.0)
    async with running(reader.app):
        await until(lambda: reader.events)
        stopping = asyncio.create_task(reader.app.stop())
        await asyncio.sleep(SOME_FETCHES)
        assert not stopping.done()
        reader.events[0].ack()
        await stopping
    assert source.committed == {SOURCE: 2}


async def test_what_was_dropped_is_fetched_again_though_nothing_new_arrives(
    source: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(source, 2)
    reader = Reader(source)
    async with reader.running():
        await until(lambda: len(reader.seen) == 2)
        seeks = counting_seeks(reader, monkeypatch)
        # A fetch that ends while the flow is stopped, or in another generation, is not delivered.
        reader.consumer.flow_active = False
        publish(source, 3)
        await until(lambda: len(seeks) > 0)
        reader.consumer.resume_flow()
        await until(lambda: source.committed.get(SOURCE) == 5)
    assert reader.seen == list(range(5))


async def test_a_seek_to_the_committed_offsets_puts_the_position_there_last(
    source: MemoryBroker,
) -> None:
    publish(source, 4)
    reader = Reader(source)
    async with reader.running():
        await until(lambda: source.committed.get(SOURCE) == 4)
        asked = reader.consumer.seek_to_committed

        async def overtaken() -> Any:
            offsets = await asked()
            reader.consumer.positions[SOURCE] = 7
            return offsets

        reader.consumer.seek_to_committed = overtaken
        publish(source, 3)
        await until(lambda: source.committed.get(SOURCE) == 7)
        source.committed[SOURCE] = 5
        await reader.consumer.perform_seek()
        await until(lambda: source.committed.get(SOURCE) == 7)
    assert reader.seen == [*range(7), 5, 6]


async def test_a_rebalance_that_begins_while_a_recovery_ends_keeps_the_flow_stopped(
    source: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(source, 3)
    reader = Reader(source)
    async with reader.running():
        await until(lambda: source.committed.get(SOURCE) == 3)
        seeking, may_seek = asyncio.Event(), asyncio.Event()
        seek_to_committed = reader.consumer.seek_to_committed

        async def slowly() -> Any:
            seeking.set()
            await may_seek.wait()
            return await seek_to_committed()

        monkeypatch.setattr(reader.consumer, "seek_to_committed", slowly)
        await reader.consumer.rebalance()
        await seeking.wait()
        # The next one begins; its partitions are given only later.
        await reader.consumer.revoke()
        may_seek.set()
        publish(source, 2)
        await asyncio.sleep(SOME_FETCHES)
        assert not reader.consumer.flow_active
        assert reader.app.rebalancing
        assert reader.consumer._expected == {}
        assert not reader.app.tables.recovery.progress.done
        await reader.consumer.assign()
        await until(lambda: source.committed.get(SOURCE) == 5)
        assert reader.app.tables.recovery.progress.done
    assert reader.seen == list(range(5))


async def test_a_broker_that_is_slow_to_say_what_is_committed_only_delays_the_flow(
    source: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(source, 2)
    reader = Reader(source, broker_request_timeout=0.1)
    async with reader.running():
        await until(lambda: source.committed.get(SOURCE) == 2)
        seek_to_committed = reader.consumer.seek_to_committed

        async def slowly() -> Any:
            await asyncio.sleep(0.4)
            return await seek_to_committed()

        monkeypatch.setattr(reader.consumer, "seek_to_committed", slowly)
        await reader.consumer.rebalance()
        publish(source, 2)
        await until(lambda: source.committed.get(SOURCE) == 4)
    assert reader.seen == list(range(4))


async def test_a_seek_that_fails_ends_the_worker_unless_a_rebalance_began_meanwhile(
    source: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(source, 2)
    reader = Reader(source)
    async with reader.running():
        await until(lambda: source.committed.get(SOURCE) == 2)
        failing = asyncio.Event()
        failing.set()
        seek_to_committed = reader.consumer.seek_to_committed

        async def gone() -> Any:
            if not failing.is_set():
                return await seek_to_committed()
            reader.app.on_rebalance_start()
            raise RuntimeError("no partitions are assigned")

        monkeypatch.setattr(reader.consumer, "seek_to_committed", gone)
        await reader.consumer.rebalance()
        await asyncio.sleep(SOME_FETCHES)
        assert not reader.consumer.flow_active
        failing.clear()
        await reader.consumer.rebalance()
        publish(source, 1)
        await until(lambda: source.committed.get(SOURCE) == 3)

        async def refused() -> Any:
            raise RuntimeError("refused")

        monkeypatch.setattr(reader.consumer, "seek_to_committed", refused)
        await reader.consumer.rebalance()
        await until(lambda: reader.app.crashed)
        assert "refused" in repr(reader.app.crash_reason)


async def test_a_partition_that_was_never_put_anywhere_ends_the_worker(
    source: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(consumer, "_PLACE_SECONDS", 0.2)
    reader = Reader(source)
    async with reader.running():
        del reader.consumer._expected[SOURCE]
        publish(source, 1)
        await until(lambda: reader.app.crashed)
        assert isinstance(reader.app.crash_reason, PositionUnknown)
        assert "orders[0]" in str(reader.app.crash_reason)
    assert reader.seen == []


async def test_a_worker_without_partitions_reads_none_before_they_are_recovered(
    source: MemoryBroker,
) -> None:
    reader = Reader(source)
    async with reader.running():
        reader.consumer._assigned.clear()
        assert reader.consumer.flow_active
        await reader.consumer.revoke()
        assert not reader.consumer.flow_active
        await reader.consumer.assign()
        publish(source, 1)
        await until(lambda: source.committed.get(SOURCE) == 1)
    assert reader.seen == [0]


async def test_records_that_are_much_work_come_one_by_one(source: MemoryBroker) -> None:
    publish(source, 4)
    reader = Reader(source)
    reader.app.one_by_one = frozenset({SOURCE.topic})
    async with reader.running():
        await until(lambda: source.committed.get(SOURCE) == 4)
    assert reader.offsets == [[0], [1], [2], [3]]


class Before:
    """A guard that says what comes first."""

    def __init__(self, reader: Reader, first: dict[TP, int]) -> None:
        self.reader = reader
        self.first = first

    async def before_flow(self) -> None:
        self.reader.consumer.read_first(self.first)

    async def out_of_range(self, positions: object) -> Exception:
        raise AssertionError(positions)

    def at_rest(self) -> None:
        """Nothing."""


async def test_what_comes_first_is_finished_before_others_of_its_partition_are_delivered(
    broker: MemoryBroker,
) -> None:
    first, other = TP("rerouted", 0), TP("rerouted", 1)
    for topic in (SOURCE.topic, first.topic):
        broker.create_topic(topic, 2)
    for tp in (first, SOURCE, TP(SOURCE.topic, 1)):
        for _ in range(4):
            broker.append(tp, b"v", b"k")
    reader = Reader(broker, acknowledging=False, broker_max_poll_records=2, topic_partitions=2)
    reader.read(first.topic)
    # Of a log that is empty, and of an offset that is reached, nothing is awaited.
    reader.app.guard = Before(reader, {first: 3, other: 0})

    def delivered(tp: TP) -> int:
        return sum(len(event.value) for event in reader.events if event.value.tp == tp)

    async with reader.running():
        await until(lambda: delivered(first) == delivered(TP(SOURCE.topic, 1)) == 4)
        one, two = [event for event in reader.events if event.value.tp == first]
        two.ack()
        await asyncio.sleep(SOME_FETCHES)
        assert delivered(SOURCE) == 0
        one.ack()
        await until(lambda: delivered(SOURCE) == 4)
