"""Where a changelog ends, told by a broker whose leader has just changed."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka.errors import KafkaTimeoutError, LeaderNotAvailableError, UnknownError
from faust.types import TP
from structlog.testing import capture_logs

from models.oversized import OversizedBatch, Packed
from streams.transport import changelog
from streams.transport.batches import RecordBatch
from streams.transport.changelog import ChangelogReading, ForeignBatch
from streams.transport.frames import Mark, record_digest
from streams.transport.memory.broker import Record

LOG = TP("app-customers-changelog", 0)


def record(offset: int) -> Record:
    return Record(*LOG, offset, b"k%d" % offset, b"v%d" % offset)


class Leader:
    """What aiokafka's consumer is to a reading: a fetch gives two records below the high watermark.

    refusals: what the first questions for the end are answered with; then it is `end`.
    """

    def __init__(self, written: int, highwater: int, refusals: list[Exception] | None = None):
        self.written, self.mark, self.end = written, highwater, written
        self.refusals = list(refusals or ())
        self.at = 0
        self.fetches = 0
        self.asked = 0

    def assign(self, _: Any) -> None:
        pass

    def pause(self, _: Any) -> None:
        pass

    def seek(self, _: Any, offset: int) -> None:
        self.at = offset

    async def seek_to_beginning(self, _: Any) -> None:
        self.at = 0

    async def getmany(self, **_: Any) -> dict[TP, list[Record]]:
        await asyncio.sleep(0.001)
        self.fetches += 1
        if self.fetches > 5:
            # The followers have told the new leader how far they are.
            self.mark = self.written
        fetched = [record(offset) for offset in range(self.at, min(self.at + 2, self.mark))]
        self.at += len(fetched)
        return {LOG: fetched} if fetched else {}

    def highwater(self, _: Any) -> int:
        return self.mark

    async def position(self, _: Any) -> int:
        return self.at

    async def end_offsets(self, partitions: list[TP]) -> dict[TP, int]:
        self.asked += 1
        if self.refusals:
            raise self.refusals.pop(0)
        return dict.fromkeys(partitions, self.end)


class Memory:
    """What a reading tells a table's store."""

    def __init__(self) -> None:
        self.offsets: list[int] = []
        self.finished: list[int] = []
        self.forgotten = 0
        self.data = self

    def restore(self, batch: RecordBatch) -> None:
        self.offsets += [each.offset for each in batch.records]

    def finish(self, _: int, end: int) -> None:
        self.finished.append(end)

    def digest(self, key: bytes, value: bytes | None) -> bytes:
        return record_digest(key, value)

    def forget(self, _: int) -> None:
        self.forgotten += 1


@pytest.fixture(autouse=True)
def _soon(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(changelog, "_ASK_AGAIN_SECONDS", 0.01)


async def read(leader: Leader, mark: Mark | None = None) -> Memory:
    memory = Memory()
    table: Callable[[TP], Any] = lambda _: SimpleNamespace(data=memory)  # noqa: E731
    await asyncio.wait_for(ChangelogReading({LOG: mark}, table).run(leader), 60)
    return memory


@pytest.mark.parametrize(
    "refusals", [[], [LeaderNotAvailableError(), KafkaTimeoutError("no answer in time")]]
)
async def test_it_reads_what_was_acknowledged_though_a_new_leader_does_not_show_it_yet(
    refusals: list[Exception],
):
    with capture_logs() as logs:
        memory = await read(Leader(written=7, highwater=3, refusals=refusals))
    assert memory.offsets == list(range(7))
    assert memory.finished == [7]
    assert len([entry for entry in logs if "ends" in entry["event"]]) == len(refusals)


async def test_a_log_whose_new_leader_lags_is_the_one_that_was_read_before():
    last = record(4)
    mark = Mark(5, 4, record_digest(last.key or b"", last.value))
    memory = await read(Leader(written=5, highwater=3), mark)
    assert (memory.forgotten, memory.offsets, memory.finished) == (0, [], [5])


async def test_a_log_that_does_end_before_the_mark_is_read_from_its_beginning():
    memory = await read(Leader(written=3, highwater=3), Mark(5, 4, b"d"))
    assert (memory.forgotten, memory.offsets, memory.finished) == (1, [0, 1, 2], [3])


async def test_a_broker_that_lists_too_little_is_read_to_its_high_watermark():
    leader = Leader(written=7, highwater=7)
    leader.end = 2
    memory = await read(leader)
    assert memory.offsets == list(range(7))


async def test_a_log_that_lost_its_end_meanwhile_is_read_to_where_it_ends_now():
    leader = Leader(written=4, highwater=4)
    leader.end = 9
    memory = Memory()
    reading = ChangelogReading({LOG: None}, lambda _: SimpleNamespace(data=memory))
    running = asyncio.create_task(reading.run(leader))
    await asyncio.sleep(0.1)
    assert not running.done()
    leader.end = 4
    await asyncio.wait_for(running, 60)
    assert memory.finished == [4]
    assert leader.asked > 1


async def test_an_answer_that_will_not_change_ends_the_recovery():
    with pytest.raises(UnknownError):
        await read(Leader(written=1, highwater=1, refusals=[UnknownError()]))


async def test_a_batch_that_cannot_be_read_is_no_state_and_an_error(
    monkeypatch: pytest.MonkeyPatch,
):
    packed = Packed(1, 3, 3, "gzip", "it unpacks to more than 33554432 bytes")
    sealed = Record(*LOG, 3, None, OversizedBatch.of(b"packed", packed))
    leader = Leader(4, 4)

    async def getmany(**_: Any) -> dict[TP, list[Record]]:
        return {LOG: [record(0), sealed]}

    monkeypatch.setattr(leader, "getmany", getmany)
    with pytest.raises(ForeignBatch, match=r"app-customers-changelog\[0\]@1 begins a compressed"):
        await read(leader)
