"""Read changelog partitions to their end, and report the progress."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from time import monotonic
from typing import Any, NamedTuple

import structlog
from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, KafkaTimeoutError
from faust.types import TP

from models.errors import ClvError
from models.oversized import OversizedBatch
from streams.transport.batches import RecordBatch
from streams.transport.frames import Mark
from streams.transport.table import PartitionedTable

log = structlog.get_logger(__name__)

_FETCH_MILLISECONDS = 200
_RECORDS_AT_ONCE = 10_000
"""Applied between two turns of the event loop: some 50 ms."""
_REPORT_SECONDS = 5.0
_SILENCE_SECONDS = 10.0
_POSITION_SECONDS = 1.0
_ASK_AGAIN_SECONDS = 1.0


class ForeignBatch(ClvError):
    """A changelog contains a batch that cannot be read, so the state would be incomplete."""


class RecoveryProgress(NamedTuple):
    """The progress of a recovery.

    records: read so far. expected: at most so many in all; a compacted log has fewer.
    share: 0 to 1. seconds_left: None while it cannot be estimated.
    """

    records: int
    expected: int
    share: float
    seconds_left: float | None
    done: bool

    @property
    def text(self) -> str:
        """The progress in words."""
        done = f"{self.records:,} changelog records read"
        if self.expected:
            done += f" of {self.expected:,} ({self.records / self.expected:.0%})"
        if self.seconds_left is not None:
            done += f", about {self.seconds_left:.0f} s left"
        return done


class ChangelogReading:
    """Reads changelog partitions from their mark to their end.

    marks: as of which memory is complete; None: memory is empty. If the log ends before the mark,
    or has another record there, it was replaced by another log of the same name: then memory is
    cleared, and the log is read from its beginning.

    The end is the greater of two offsets. ListOffsets is right on Kafka, which refuses to answer
    while a new leader does not know the end yet. The high watermark of fetches is right on the
    embedded broker, where ListOffsets is not, but lags on Kafka with a new leader.
    """

    def __init__(
        self, marks: Mapping[TP, Mark | None], table: Callable[[TP], PartitionedTable]
    ) -> None:
        self._table = table
        self._unproven = {tp: mark for tp, mark in marks.items() if mark is not None}
        self._starts = {tp: _start(mark) for tp, mark in self._unproven.items()}
        self._positions = dict(self._starts)
        self._ends: dict[TP, int] = {}
        self._listed: dict[TP, int] = {}
        self._asked_again = monotonic()
        self._left = set(marks)
        self._partitions = len(marks)
        self._records = 0
        self._began = self._heard = self._reported = monotonic()

    @property
    def progress(self) -> RecoveryProgress:
        """The progress."""
        expected = sum(end - self._starts.get(tp, 0) for tp, end in self._ends.items())
        share, left = 0.0, None
        if not self._left:
            share, left = 1.0, 0.0
        elif expected and len(self._ends) == self._partitions:
            behind = sum(end - self._position(tp) for tp, end in self._ends.items())
            if (share := 1.0 - behind / expected) > 0.0:
                left = (monotonic() - self._began) * (1.0 - share) / share
        return RecoveryProgress(self._records, expected, share, left, done=not self._left)

    async def run(self, consumer: Any) -> None:
        """Read all partitions to their end, with a started consumer."""
        tps = {TopicPartition(*tp): tp for tp in self._left}
        consumer.assign(list(tps))
        for tp, start in self._starts.items():
            consumer.seek(TopicPartition(*tp), start)
        await self._list_ends(consumer, self._left)
        while self._left:
            fetched = await consumer.getmany(
                timeout_ms=_FETCH_MILLISECONDS, max_records=_RECORDS_AT_ONCE
            )
            for their_tp, records in fetched.items():
                await self._take(consumer, tps[their_tp], records)
            for tp in list(self._left):
                await self._look_for_end(consumer, tp)
            self._report(heard=bool(fetched))
        log.info(
            "recovered",
            records=self._records,
            partitions=self._partitions,
            seconds=round(monotonic() - self._began, 3),
        )

    async def _take(self, consumer: Any, tp: TP, records: Sequence[Any]) -> None:
        mark = self._unproven.get(tp)
        if mark is not None:
            if self._is_another(tp, mark, records[0]):
                await self._begin_anew(consumer, tp, mark)
                return
            del self._unproven[tp]
            if records[0].offset == mark.last:
                self._positions[tp] = mark.next
                records = records[1:]
        if not records:
            return
        for record in records:
            if type(record.value) is OversizedBatch:
                raise ForeignBatch(
                    f"{tp.topic}[{tp.partition}]@{record.value.packed.first} begins a compressed "
                    f"batch that no worker wrote: {record.value.packed.limit}. Only workers may "
                    "write to the changelog; restore it"
                )
        self._starts.setdefault(tp, records[0].offset)
        self._table(tp).data.restore(RecordBatch(tp, records))
        self._positions[tp] = records[-1].offset + 1
        self._records += len(records)

    async def _look_for_end(self, consumer: Any, tp: TP) -> None:
        theirs = TopicPartition(*tp)
        highwater: int | None = consumer.highwater(theirs)
        if highwater is None:
            return
        end = self._ends[tp] = max(highwater, self._listed[tp])
        mark = self._unproven.get(tp)
        if mark is not None and end < mark.next:
            await self._begin_anew(consumer, tp, mark)
            return
        try:
            position = await asyncio.wait_for(consumer.position(theirs), _POSITION_SECONDS)
        except TimeoutError:
            return
        if position >= end:
            self._left.discard(tp)
            consumer.pause(theirs)
            self._positions[tp] = end
            self._table(tp).data.finish(tp.partition, end)
        elif position >= highwater and monotonic() - self._asked_again >= _ASK_AGAIN_SECONDS:
            # Fetches will reach the end, unless the log has lost it.
            self._asked_again = monotonic()
            await self._list_ends(consumer, {tp})

    async def _list_ends(self, consumer: Any, tps: set[TP]) -> None:
        """Ask for the ends of these partitions until the broker answers."""
        theirs = {TopicPartition(*tp): tp for tp in tps}
        while True:
            try:
                ends = await consumer.end_offsets(list(theirs))
            except KafkaError as error:
                if not (error.retriable or isinstance(error, KafkaTimeoutError)):
                    raise
                log.warning(
                    "recovery waits for the broker to say where the changelog ends",
                    changelogs=sorted(f"{tp.topic}[{tp.partition}]" for tp in tps),
                    error=repr(error),
                )
                await asyncio.sleep(_ASK_AGAIN_SECONDS)
            else:
                self._listed.update({theirs[tp]: end for tp, end in ends.items()})
                return

    async def _begin_anew(self, consumer: Any, tp: TP, mark: Mark) -> None:
        log.warning(
            "the changelog is not the one that was read before; it is read from its beginning",
            changelog=f"{tp.topic}[{tp.partition}]",
            remembered_offset=mark.last,
        )
        del self._unproven[tp]
        self._starts.pop(tp, None)
        self._positions.pop(tp, None)
        self._ends.pop(tp, None)
        self._table(tp).data.forget(tp.partition)
        await consumer.seek_to_beginning(TopicPartition(*tp))

    def _is_another(self, tp: TP, mark: Mark, first: Any) -> bool:
        """Return whether the first fetched record shows that the log is not that of the mark."""
        if first.offset == mark.last:
            digest: bytes = self._table(tp).data.digest(first.key, first.value)
            return digest != mark.digest
        return bool(first.offset < _start(mark))

    def _position(self, tp: TP) -> int:
        return int(self._positions.get(tp, self._starts.get(tp, 0)))

    def _report(self, *, heard: bool) -> None:
        now = monotonic()
        if heard:
            self._heard = now
        if now - self._reported < _REPORT_SECONDS:
            return
        if now - self._heard >= _SILENCE_SECONDS:
            self._reported = now
            waiting = [f"{tp.topic}[{tp.partition}]@{self._position(tp)}" for tp in self._left]
            log.warning(
                "recovery waits for the broker",
                silent_seconds=round(now - self._heard),
                waiting_for=sorted(waiting),
            )
            return
        self._reported = now
        progress = self.progress
        left = progress.seconds_left
        log.info(
            "recovering",
            records=progress.records,
            percent=round(100 * progress.share, 1),
            seconds_left=None if left is None else round(left),
            partitions_left=len(self._left),
        )


def _start(mark: Mark) -> int:
    return mark.last if mark.last >= 0 else mark.next
