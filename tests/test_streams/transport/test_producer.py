"""Every delivery is kept, in order, and a failed one is never flushed over."""

import asyncio
import itertools
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from aiokafka import TopicPartition
from aiokafka.errors import KafkaTimeoutError, UnknownError
from aiokafka.producer.message_accumulator import BatchBuilder, MessageAccumulator
from aiokafka.producer.transaction_manager import TransactionManager
from aiokafka.record.memory_records import MemoryRecords
from faust.types import TP
from structlog.testing import capture_logs

from streams.embedded import EmbeddedBroker
from streams.kafka.writing import can_be_idempotent
from streams.transport import batch_app
from streams.transport.memory.broker import MemoryBroker
from streams.transport.memory.driver import StrictMemoryProducer
from streams.transport.producer import DeliveryFailed, OutgoingRecord, StrictProducer

from .apps import Ours, until

OUT = TP("out", 0)
BATCH_BYTES = 1_000


@pytest.fixture
async def producer(broker: MemoryBroker) -> AsyncIterator[StrictMemoryProducer]:
    app = Ours().app(broker, producer_max_batch_size=BATCH_BYTES)
    producer: StrictMemoryProducer = app.producer
    await producer.start()
    yield producer
    broker.refusing.clear()
    broker.release()
    await producer.stop()


def numbered(numbers: range, size: int = 0) -> list[OutgoingRecord]:
    return [(b"k", b"%d" % number + b"." * size, []) for number in numbers]


def numbers(broker: MemoryBroker, topic: str = OUT.topic) -> list[int]:
    return [int((value or b"").rstrip(b".")) for value in broker.values(topic)]


async def test_records_beyond_a_batch_go_into_the_next_in_their_order(
    producer: StrictMemoryProducer, broker: MemoryBroker
) -> None:
    deliveries = producer.send_records(*OUT, numbered(range(20), size=300))
    await asyncio.gather(*deliveries)
    assert 5 < len(deliveries) < 20
    written = [delivery.result() for delivery in deliveries]
    assert (written[0].start, written[-1].end) == (0, 20)
    assert all(after.start == before.end for before, after in itertools.pairwise(written))
    assert numbers(broker) == list(range(20))


async def test_a_record_larger_than_a_batch_is_sent_in_one_of_its_own(
    producer: StrictMemoryProducer, broker: MemoryBroker
) -> None:
    large = (b"k", b"1" + b"." * 5 * BATCH_BYTES, [])
    records = [*numbered(range(1)), large, *numbered(range(2, 4))]
    deliveries = producer.send_records(*OUT, records)
    await producer.flush()
    assert numbers(broker) == [0, 1, 2, 3]
    assert [delivery.result() for delivery in deliveries] == [(0, 1), (1, 2), (2, 4)]


async def test_what_comes_while_a_batch_is_on_its_way_gathers_in_the_next(
    producer: StrictMemoryProducer, broker: MemoryBroker, monkeypatch: pytest.MonkeyPatch
) -> None:
    sizes: list[int] = []
    send_batch = producer.client.send_batch

    async def noted(batch: Any, topic: str, *, partition: int) -> Any:
        sizes.append(batch.record_count())
        return await send_batch(batch, topic, partition=partition)

    monkeypatch.setattr(producer.client, "send_batch", noted)
    broker.silent.add(OUT.topic)
    first = producer.send_records(*OUT, numbered(range(2)))
    await until(lambda: broker.unanswered)
    later = [
        producer.send_records(*OUT, numbered(range(at, at + 3), size=200)) for at in range(2, 11, 3)
    ]
    broker.release()
    await producer.flush()
    assert numbers(broker) == list(range(11))
    assert sizes == [2, 4, 4, 1]
    written = [[delivery.result() for delivery in each] for each in (first, *later)]
    assert written == [[(0, 2)], [(2, 5)], [(5, 6), (6, 8)], [(8, 10), (10, 11)]]


async def test_keys_headers_and_tombstones_arrive_as_they_are(
    producer: StrictMemoryProducer, broker: MemoryBroker
) -> None:
    producer.send_records(*OUT, [(b"k", b"v", [("h", b"1")]), (b"k", None, []), (None, b"v", [])])
    await producer.flush()
    records = broker.fetch(OUT, 0, None)
    assert [(record.key, record.value) for record in records] == [
        (b"k", b"v"),
        (b"k", None),
        (None, b"v"),
    ]
    assert list(records[0].headers) == [("h", b"1")]


async def test_nothing_to_send_is_no_delivery(producer: StrictMemoryProducer) -> None:
    assert producer.send_records(*OUT, []) == []
    await producer.flush()


async def test_calls_at_once_keep_their_order_in_each_partition(
    producer: StrictMemoryProducer, broker: MemoryBroker
) -> None:
    broker.refusing.add(OUT.topic)

    async def call(first: int) -> None:
        await asyncio.sleep(0)
        for partition in (0, 1):
            producer.send_records(OUT.topic, partition, numbered(range(first, first + 10), 200))
        await asyncio.sleep(0.01 if first % 20 else 0)

    await asyncio.gather(*(call(first) for first in range(0, 100, 10)))
    assert producer._outstanding
    broker.refusing.clear()
    await producer.flush()
    for partition in (0, 1):
        log = broker.fetch(TP(OUT.topic, partition), 0, None)
        assert [int((record.value or b"").rstrip(b".")) for record in log] == list(range(100))
    assert not producer._outstanding
    assert not producer._senders


async def test_a_topic_that_takes_nothing_does_not_hold_up_another(
    producer: StrictMemoryProducer, broker: MemoryBroker
) -> None:
    broker.refusing.add("slow")
    producer.send_records("slow", 0, numbered(range(3)))
    await asyncio.gather(*producer.send_records(*OUT, numbered(range(3))))
    assert numbers(broker) == [0, 1, 2]
    assert broker.values("slow") == []


async def test_flush_waits_for_every_delivery(
    producer: StrictMemoryProducer, broker: MemoryBroker
) -> None:
    broker.silent.add(OUT.topic)
    producer.send_records(*OUT, numbered(range(3)))
    await producer.send(*OUT[:1], b"k", b"3", 0, None, None)
    flush = asyncio.create_task(producer.flush())
    await asyncio.sleep(0.3)
    assert not flush.done()
    broker.release()
    await flush
    assert sorted(numbers(broker)) == [0, 1, 2, 3]


async def test_flush_does_not_wait_for_what_is_sent_after_it(
    producer: StrictMemoryProducer, broker: MemoryBroker
) -> None:
    # Else nothing would be committed as long as there is always more to do.
    broker.silent.update({"earlier", "later"})
    producer.send_records("earlier", 0, numbered(range(1)))
    flush = asyncio.create_task(producer.flush())
    await until(lambda: len(broker.unanswered) == 1)
    producer.send_records("later", 0, numbered(range(1)))
    await until(lambda: len(broker.unanswered) == 2)
    broker.release("earlier")
    await asyncio.wait_for(flush, 60)
    assert len(producer._outstanding) == 1


async def test_flush_raises_at_the_first_failure_and_ever_after(
    producer: StrictMemoryProducer, broker: MemoryBroker
) -> None:
    broker.failing.add("bad")
    broker.silent.add("silent")
    producer.send_records("silent", 0, numbered(range(1)))
    producer.send_records("bad", 0, numbered(range(1)))
    with pytest.raises(DeliveryFailed, match="KafkaTimeoutError") as caught:
        await producer.flush()
    assert isinstance(caught.value.__cause__, KafkaTimeoutError)
    broker.failing.clear()
    broker.release()
    await asyncio.gather(*producer.send_records(*OUT, numbered(range(1))))
    with pytest.raises(DeliveryFailed):
        await producer.flush()


async def test_a_failure_reaches_who_waits_for_that_delivery(
    producer: StrictMemoryProducer, broker: MemoryBroker
) -> None:
    broker.failing.add(OUT.topic)
    [delivery] = producer.send_records(*OUT, numbered(range(1)))
    with pytest.raises(KafkaTimeoutError):
        await delivery


async def test_a_delivery_nobody_waits_for_any_more_does_not_hold_up_the_next(
    producer: StrictMemoryProducer, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(*_: Any, **__: Any) -> None:
        raise KafkaTimeoutError

    monkeypatch.setattr(producer.client, "send_batch", refuse)
    [given_up] = producer.send_records(*OUT, numbered(range(1)))
    [following] = producer.send_records(*OUT, numbered(range(1, 2)))
    given_up.cancel()
    with pytest.raises(KafkaTimeoutError):
        await asyncio.wait_for(following, 60)
    with pytest.raises(DeliveryFailed):
        await producer.flush()


async def test_flush_of_a_stopped_producer_raises_rather_than_wait_for_ever(
    producer: StrictMemoryProducer, broker: MemoryBroker
) -> None:
    broker.silent.add(OUT.topic)
    producer.send_records(*OUT, numbered(range(1)))
    await until(lambda: broker.unanswered)
    await producer.stop()
    with pytest.raises(DeliveryFailed, match="stopped"):
        await asyncio.wait_for(producer.flush(), 60)


async def test_batches_of_an_idempotent_producer_have_consecutive_sequence_numbers(
    broker: MemoryBroker,
) -> None:
    app = Ours().app(broker, producer_max_batch_size=BATCH_BYTES)
    producer: StrictMemoryProducer = app.producer
    sender = IdempotentSender()
    producer.client = sender
    deliveries = [
        *producer.send_records(*OUT, numbered(range(10), size=300)),
        *producer.send_records(*OUT, numbered(range(10, 20), size=300)),
    ]
    pump = asyncio.create_task(sender.pump(OUT))
    await asyncio.gather(*deliveries)
    pump.cancel()
    with suppress(asyncio.CancelledError):
        await pump
    assert {producer_id for producer_id, _, _ in sender.sent} == {7}
    counts = [count for _, _, count in sender.sent]
    assert len(counts) > 2
    assert [first for _, first, _ in sender.sent] == [sum(counts[:i]) for i in range(len(counts))]
    assert sum(counts) == 20


class IdempotentSender:
    """aiokafka's accumulator with an idempotent producer's state, emptied by hand."""

    def __init__(self) -> None:
        state = TransactionManager(None, 1_000)
        state.set_pid_and_epoch(7, 0)
        self.accumulator = MessageAccumulator(None, BATCH_BYTES, 0, 30.0, txn_manager=state)
        self.sent: list[tuple[int, int, int]] = []

    def create_batch(self) -> BatchBuilder:
        return self.accumulator.create_builder()

    async def send_batch(self, batch: BatchBuilder, topic: str, *, partition: int) -> Any:
        return await self.accumulator.add_batch(batch, TopicPartition(topic, partition), 30.0)

    async def pump(self, tp: TP) -> None:
        while True:
            await asyncio.sleep(0)
            if self.accumulator._batches.get(tp):
                batch = self.accumulator._pop_batch(TopicPartition(*tp))
                records = MemoryRecords(bytes(batch.get_data_buffer())).next_batch()
                self.sent.append((records.producer_id, records.base_sequence, len(list(records))))
                batch.done(0)


class Probe:
    """aiokafka's producer at its start, which asks for a producer id."""

    def __init__(self, answers: list[Exception | None], stopped: list[bool]) -> None:
        self.answers, self.stopped = answers, stopped

    async def start(self) -> None:
        if (error := self.answers.pop(0)) is not None:
            raise error

    async def stop(self) -> None:
        self.stopped.append(True)


@pytest.mark.parametrize(
    ("answers", "idempotent"),
    [
        ([None], True),
        ([UnknownError(), None], True),
        ([UnknownError(), UnknownError(), UnknownError(), None], True),
        ([UnknownError()] * 4, False),
    ],
)
async def test_one_fault_of_the_broker_costs_nobody_the_idempotence(
    answers: list[Exception | None], *, idempotent: bool
) -> None:
    left, stopped = list(answers), list[bool]()
    assert await can_be_idempotent(lambda: Probe(left, stopped), 0.0) is idempotent
    assert left == []
    assert len(stopped) == len(answers)


async def test_any_other_error_is_no_answer_about_idempotence() -> None:
    stopped: list[bool] = []
    with pytest.raises(KafkaTimeoutError):
        await can_be_idempotent(lambda: Probe([KafkaTimeoutError()], stopped))
    assert stopped == [True]


async def test_a_broker_without_producer_ids_is_told_about_and_costs_half_a_second(
    server: EmbeddedBroker,
) -> None:
    strict: StrictProducer = batch_app("app", broker=f"kafka://{server.address}").producer
    began = asyncio.get_running_loop().time()
    with capture_logs() as logs:
        await strict.start()
    took = asyncio.get_running_loop().time() - began
    await strict.stop()
    assert not strict.idempotent
    assert [entry["log_level"] for entry in logs if "producer id;" in entry["event"]] == ["warning"]
    assert took < 2.0, "of which the waiting is 0.3 s"
