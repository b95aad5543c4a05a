"""The consumer: it delivers whole batches in sequence, and commits only finished ones."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import AsyncIterator, Mapping, Sequence
from time import monotonic
from typing import Any

from aiokafka.consumer.fetcher import OffsetResetStrategy
from aiokafka.errors import NoOffsetForPartitionError, OffsetOutOfRangeError
from faust.transport.consumer import Consumer, ensure_TP
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from mode import Service

from models.errors import ClvError
from models.oversized import OversizedBatch
from streams.transport.batches import BatchMessage, RecordBatch
from streams.transport.guard import OutOfRange
from streams.transport.lease import renew_by_answers
from streams.transport.leaving import leave_in_every_generation
from streams.transport.portions import IN_WORK_BYTES, POLL_BYTES, portion, weight
from streams.transport.producer import DeliveryFailed

_LOOK_SECONDS = 0.05
_ROOM_SECONDS = 0.01
_PLACE_SECONDS = 10.0
"""How long to wait for the notice of a rebalance that may have just begun."""

_REFUSAL_SECONDS = 1.0


class PositionUnknown(ClvError):
    """A partition has no position to read from: none of its records would be delivered."""


class BatchDelivery(Consumer):  # type: ignore[misc]
    """Mixin that makes a Faust consumer deliver batches and commit them strictly.

    It comes before a driver's consumer in the bases. Instead of Faust's bookkeeping per record it
    has a queue of batches in work per topic-partition:

    - a batch is delivered only if it starts where the last one ended; otherwise the consumer seeks
      back, so that records dropped while the flow was stopped are fetched again;
    - the offset to commit is the end of the finished batches at the head of the queue;
    - partitions are given up only after the batches in work are finished and committed;
    - a topic-partition can be processed up to an offset before others of its partition.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._in_work: defaultdict[TP, deque[BatchMessage]] = defaultdict(deque)
        self._expected: dict[TP, int] = {}
        self._gaps: dict[TP, tuple[int, int]] = {}
        self._first: dict[TP, int] = {}

    async def getmany(
        self,
        timeout: float,  # noqa: ASYNC109 - Faust's signature
    ) -> AsyncIterator[tuple[TP, BatchMessage]]:
        """Yield one message per topic-partition that has new records."""
        await self._room()
        if self._buffered_partitions:
            # Their agents may take more at any moment, and nobody wakes a poll of the others then.
            timeout = min(timeout, _ROOM_SECONDS)
            if not self._get_active_partitions():
                await asyncio.sleep(_ROOM_SECONDS)
                return
        try:
            fetched, active = await self._wait_next_records(timeout)
        except OffsetOutOfRangeError as error:
            raise await self._out_of_range(error) from error
        if not fetched or self.should_stop:
            return
        generation = self.app.consumer_generation_id
        for aiokafka_tp, fetched_records in fetched.items():
            tp = ensure_TP(aiokafka_tp)
            wanted = active is None or tp in active or tp in self._buffered_partitions
            current = self.flow_active and self.app.consumer_generation_id == generation
            if not (wanted and current):
                await self._fetch_again(tp)
                continue
            records = await self._in_sequence(tp, fetched_records)
            if not records:
                continue
            more = tp.topic in self.app.one_by_one and len(records) > 1
            if more:
                records = records[:1]
            self.app.monitor.track_tp_end_offset(tp, self.highwater(tp))
            batch = RecordBatch(
                tp, records, sum(map(weight, records)), self.app.generations.get(tp, 0)
            )
            message = BatchMessage(batch, generation)
            self._expected[tp] = message.offset + 1
            if self.app.topics.acks_enabled_for(tp.topic):
                self._in_work[tp].append(message)
            yield tp, message
            if more:
                await self._fetch_again(tp)

    async def _getmany(
        self,
        active_partitions: set[TP] | None,
        timeout: float,  # noqa: ASYNC109 - Faust's signature
    ) -> Any:
        waiting = self._waiting()
        if waiting and active_partitions is not None:
            active_partitions = active_partitions - waiting
            if not active_partitions:
                await asyncio.sleep(_LOOK_SECONDS)
                return {}
            timeout = min(timeout, _LOOK_SECONDS)
        return await super()._getmany(active_partitions, timeout)

    def read_first(self, ends: Mapping[TP, int]) -> None:
        """Deliver nothing else of their partitions until these logs are finished up to an offset.

        It replaces what was said before.
        """
        self._first = {ensure_TP(tp): end for tp, end in ends.items()}

    def _waiting(self) -> set[TP]:
        """Return what is not delivered yet, because another log of the partition comes first."""
        for tp in [tp for tp, end in self._first.items() if self._is_finished(tp, end)]:
            del self._first[tp]
        partitions = {tp.partition for tp in self._first}
        return {
            tp
            for tp in (self.assignment() if partitions else ())
            if tp.partition in partitions and tp not in self._first
        }

    def _is_finished(self, tp: TP, end: int) -> bool:
        """Return whether everything before an offset is processed, and its outputs delivered."""
        return self._expected.get(tp, 0) >= end and not any(
            not message.acked and _first_offset(message.value.records[0]) < end
            for message in self._in_work[tp]
        )

    async def _out_of_range(self, error: OffsetOutOfRangeError) -> Exception:
        positions = {TP(*tp): offset for tp, offset in error.args[0].items()}
        if self.app.guard is not None:
            reason: Exception = await self.app.guard.out_of_range(positions)
            return reason
        listed = ", ".join(f"{tp.topic}[{tp.partition}]@{at}" for tp, at in positions.items())
        return OutOfRange(
            f"{listed} is outside of the log: records were deleted before they were read, or the "
            "log lost its end"
        )

    async def wait_empty(self) -> None:
        """Finish and commit the batches in work."""
        await super().wait_empty()
        if self.app.guard is not None and not self.app.crashed:
            self.app.guard.at_rest()

    async def _room(self) -> None:
        """Wait while the batches in work take all the memory that they may."""
        while self._bytes_in_work() >= IN_WORK_BYTES:
            if self.should_stop or not self.flow_active:
                return
            await asyncio.sleep(_ROOM_SECONDS)

    def _bytes_in_work(self) -> int:
        size = 0
        for queue in self._in_work.values():
            for message in queue:
                if message.acked:
                    # Only its offset is needed until the next commit.
                    message.value = None
                else:
                    size += message.value.size
        return size

    async def _in_sequence(self, tp: TP, records: Sequence[Any]) -> Sequence[Any]:
        """Return the records that follow the delivered ones; none if they must be fetched again."""
        expected = self._expected.get(tp)
        if expected is None:
            await self._gone_or_crash(tp)
            return ()
        first = _first_offset(records[0])
        if first == expected:
            return records
        if first < expected:
            return [record for record in records if record.offset >= expected]
        gap = (expected, first)
        if self._gaps.pop(tp, None) == gap:
            # Fetched twice with the same gap: it is in the log (compaction, transactions).
            return records
        self._gaps[tp] = gap
        await self._fetch_again(tp)
        return ()

    async def _gone_or_crash(self, tp: TP) -> None:
        """Wait for the rebalance that took the partition away; crash if there is none."""
        until = monotonic() + _PLACE_SECONDS
        while self.flow_active and tp in self.assignment() and tp not in self._expected:
            if monotonic() >= until:
                error = PositionUnknown(
                    f"{tp.topic}[{tp.partition}] is fetched, but was never put to its committed "
                    "offset; the worker stops, and has to be started again"
                )
                await self.crash(error)
                return
            await asyncio.sleep(_LOOK_SECONDS)

    def committed_to(self, tp: TP) -> int:
        """Return the committed offset of a topic-partition of this worker; 0 if there is none."""
        return self._committed_offset.get(tp) or 0

    async def go_on_from(self, tp: TP, offset: int) -> None:
        """Read on from an offset: the records before it are lost, and the loss was accepted."""
        self._expected[tp] = offset
        await self.seek(tp, offset)

    async def _fetch_again(self, tp: TP) -> None:
        """Seek back to undelivered records; without new records their gap would not be noticed."""
        expected = self._expected.get(tp)
        if expected is not None:
            await self.seek(tp, expected)

    async def perform_seek(self) -> None:
        """Seek to the committed offsets, or to the earliest if nothing is committed.

        If a rebalance begins meanwhile, nothing changes: the next recovery seeks again.
        """
        rebalance = self.app.rebalancing_count
        await super().perform_seek()
        sources = [tp for tp in self.assignment() if not self._is_changelog_tp(tp)]
        start = {tp: offset for tp in sources if (offset := self._committed_offset[tp])}
        uncommitted = [tp for tp in sources if tp not in start]
        if uncommitted:
            earliest = await self.earliest_offsets(*uncommitted)
            start |= {ensure_TP(tp): offset for tp, offset in earliest.items()}
        if self.app.rebalancing_count != rebalance:
            return
        self._in_work.clear()
        self._gaps.clear()
        self._expected.clear()
        self._expected.update(start)
        for tp, offset in start.items():
            await self.seek(tp, offset)

    async def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Finish and commit the batches in work before the partitions go to another worker."""
        # Also without revoked partitions: new ones must not be read before they are recovered.
        self.stop_flow()
        if self.assignment():
            self.app.flow_control.suspend()
            self.app.flow_control.clear()
            await self.wait_empty()
            # It commits nothing if another commit was in progress, which began before the end.
            await self.commit()
        await super().on_partitions_revoked(revoked)
        self._buffered_partitions.difference_update(revoked)
        for tp in revoked:
            self._in_work.pop(tp, None)
            self._expected.pop(tp, None)
            self._gaps.pop(tp, None)

    async def _commit_offsets(self, offsets: Mapping[TP, int], **kwargs: Any) -> bool:
        if not self.app.may_commit:
            return False
        try:
            committed: bool = await super()._commit_offsets(offsets, **kwargs)
        except DeliveryFailed as error:
            # Not raised, because Faust also commits while it stops or rebalances.
            await self.crash(error)
            return False
        return committed

    def _new_offset(self, tp: TP) -> int | None:
        # Faust's own lists of acknowledged offsets are not used here; they must not grow.
        self._acked[tp].clear()
        self._acked_index[tp].clear()
        offset = None
        queue = self._in_work[tp]
        while queue and queue[0].acked:
            offset = queue.popleft().offset + 1
        return offset

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Do nothing: batches are longer than one offset, which Faust takes for a gap."""


def _first_offset(record: Any) -> int:
    """Return a record's first offset; the stand-in of a whole batch has the batch's last offset."""
    offset: int = record.offset
    if type(record.value) is OversizedBatch:
        return min(offset, record.value.packed.first)
    return offset


FETCH_WAIT_MILLISECONDS = 25
"""How long the broker may hold a fetch that finds nothing.

aiokafka sends one fetch at a time to a broker. While the records of busy partitions are processed,
it fetches the idle ones alone, and the busy ones wait until that returns. With Faust's 1,500 ms, a
worker that also reads idle topics stood still for half of its time."""


class BatchConsumerThread(driver.AIOKafkaConsumerThread):  # type: ignore[misc]
    """Faust's consumer thread, with a fetch that returns soon, and the app's lease."""

    async def on_start(self) -> None:
        """Start the consumer; the group's answers renew the lease from now on."""
        await super().on_start()
        consumer = self._ensure_consumer()
        # A position outside of its log is an error: aiokafka would silently read on elsewhere.
        consumer._fetcher._default_reset_strategy = OffsetResetStrategy.NONE  # noqa: SLF001
        if not self.app.client_only:
            renew_by_answers(self.app.lease, consumer)
            leave_in_every_generation(consumer)

    async def seek_in_thread(self, partition: TP, offset: int) -> None:
        """Seek in the consumer's thread, unless the partition is gone.

        Faust seeks from the main thread, possibly during a fetch that then reads on from the former
        position.
        """
        await self.call_thread(self._seek_here, partition, offset)

    async def _seek_here(self, partition: TP, offset: int) -> None:
        consumer = self._ensure_consumer()
        if partition in consumer.assignment():
            consumer.seek(partition, offset)

    async def _fetch_records(self, *args: Any, **kwargs: Any) -> Any:
        try:
            with portion(POLL_BYTES):
                return await super()._fetch_records(*args, **kwargs)
        except NoOffsetForPartitionError:
            # A rebalance has just assigned partitions, and their recovery will seek. Until then
            # aiokafka, without a reset strategy, has no position for them.
            await asyncio.sleep(_LOOK_SECONDS)
            return {}

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        # Events of aborted transactions do not count.
        consumer._isolation_level = "read_committed"  # noqa: SLF001
        consumer._fetch_max_wait_ms = FETCH_WAIT_MILLISECONDS  # noqa: SLF001 - no setting
        return consumer


class BatchConsumer(BatchDelivery, driver.Consumer):  # type: ignore[misc]
    """Faust's aiokafka consumer with batch delivery."""

    @Service.task  # type: ignore[untyped-decorator]
    async def _crash_on_refusal(self) -> None:
        """Crash on a refusal: aiokafka reports it only to fetches, and there are none yet."""
        while not self.should_stop:
            await self.sleep(_REFUSAL_SECONDS)
            consumer = self._thread._consumer  # noqa: SLF001
            error = getattr(getattr(consumer, "_coordinator", None), "_pending_exception", None)
            if error is not None:
                raise error

    def _new_consumer_thread(self) -> BatchConsumerThread:
        return BatchConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _seek(self, partition: TP, offset: int) -> None:
        await self._thread.seek_in_thread(partition, offset)
