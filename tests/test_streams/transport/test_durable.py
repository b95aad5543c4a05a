"""The copy of a table on disk: what it holds is complete, and what goes wrong costs no more."""

import asyncio
import errno
import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiokafka import TopicPartition
from structlog.testing import capture_logs

from streams.transport import batch_app, copyfile
from streams.transport import durable as durables
from streams.transport.copyfile import CopyFile, CopyUnusable
from streams.transport.durable import DurableStore
from streams.transport.frames import Mark, record_digest
from streams.transport.lease import Lease, Term, now
from streams.transport.producer import Delivery
from streams.transport.table import PartitionedTable

from . import apps

TP = TopicPartition
DEADLINE_SECONDS = 60.0
TERM = Term()
"""A membership that goes on."""


async def until(condition: Callable[[], Any]) -> None:
    await apps.until(condition, DEADLINE_SECONDS)


def mark(following: int) -> Mark:
    return Mark(following, following - 1, b"d" * 16)


@asynccontextmanager
async def store(directory: Path, partitions: int = 2) -> AsyncIterator[DurableStore]:
    durable = DurableStore(directory, "cl", partitions)
    try:
        yield durable
    finally:
        await durable.close()


async def written(directory: Path, state: Mapping[bytes, bytes], at: Mark) -> Path:
    async with store(directory) as durable:
        await durable.open(0, None)
        durable.rewrite(0, state, at, TERM)
        return durable.path(0)


async def test_a_copy_is_read_as_it_was_written(tmp_path: Path) -> None:
    state = {b"%d" % number: b"v" * number for number in range(20_000)}
    await written(tmp_path, state, mark(20_000))
    async with store(tmp_path) as durable:
        assert await durable.open(0, None) == (mark(20_000), state)
        durable.write(0, {b"1": b"new", b"2": None}, mark(20_002), TERM)
        await durable.flush()
        durable.write(0, {b"2": b"again", b"3": None}, mark(20_004), TERM)
    expected = {**state, b"1": b"new", b"2": b"again"}
    del expected[b"3"]
    async with store(tmp_path) as durable:
        assert await durable.open(0, None) == (mark(20_004), expected)
        # Memory is as far: nothing is read again.
        assert await durable.open(0, mark(20_004)) == (mark(20_004), {})
        assert durable.healthy


async def test_whatever_breaks_off_leaves_an_older_copy_that_is_complete(tmp_path: Path) -> None:
    path = await written(tmp_path, {b"a": b"0"}, mark(1))
    states = {path.stat().st_size: (mark(1), {b"a": b"0"})}
    for number in range(1, 6):
        async with store(tmp_path) as durable:
            _, state = await durable.open(0, None)
            durable.write(0, {b"a": b"%d" % number, b"%d" % number: b"x"}, mark(number + 1), TERM)
        states[path.stat().st_size] = (
            mark(number + 1),
            {**state, b"a": b"%d" % number, b"%d" % number: b"x"},
        )
    whole = path.read_bytes()
    for size in range(len(whole) + 1):
        path.write_bytes(whole[:size])
        reached = [end for end in states if end <= size]
        async with store(tmp_path) as durable:
            expected = states[max(reached)] if reached else (None, {})
            assert await durable.open(0, None) == expected, size
            assert durable.healthy


async def test_a_damaged_byte_never_gives_a_wrong_value(tmp_path: Path) -> None:
    path = await written(tmp_path, {b"%d" % number: b"value" for number in range(20)}, mark(20))
    async with store(tmp_path) as durable:
        _, state = await durable.open(0, None)
        durable.write(0, {b"1": b"other"}, mark(21), TERM)
    right = [(mark(20), state), (mark(21), {**state, b"1": b"other"}), (None, {})]
    whole = path.read_bytes()
    for at in range(len(whole)):
        path.write_bytes(whole[:at] + bytes([whole[at] ^ 0x40]) + whole[at + 1 :])
        async with store(tmp_path) as durable:
            with capture_logs() as logs:
                contents = await durable.open(0, None)
            assert contents in right, at
            assert contents != right[1], at
            assert len(logs) == 1, (at, logs)
            assert logs[0]["log_level"] == "warning"
            assert logs[0]["file"] == str(path)


@pytest.mark.parametrize(
    ("contents", "says"),
    [
        (b"-- a diary\n", "no copy of a table"),
        (b"clv table copy 0099\n", "a newer version"),
    ],
)
async def test_a_file_that_is_not_ours_is_left_alone(
    tmp_path: Path, contents: bytes, says: str
) -> None:
    path = await written(tmp_path, {b"a": b"1"}, mark(1))
    path.write_bytes(contents)
    async with store(tmp_path) as durable:
        with capture_logs() as logs:
            assert (await durable.open(0, None)).mark is None
            durable.rewrite(0, {b"a": b"2"}, mark(2), TERM)
            await durable.flush()
        assert not durable.healthy
        assert says in durable.problems[0]
        assert [entry["file"] for entry in logs if entry["log_level"] == "warning"] == [str(path)]
    assert path.read_bytes() == contents


async def test_another_number_of_partitions_makes_the_copy_anew(tmp_path: Path) -> None:
    await written(tmp_path, {b"a": b"1"}, mark(1))
    async with store(tmp_path, partitions=3) as durable:
        with capture_logs() as logs:
            assert (await durable.open(0, None)).mark is None
        assert len(logs) == 1
        durable.rewrite(0, {b"b": b"2"}, mark(7), TERM)
        await durable.flush()
        assert durable.healthy
    async with store(tmp_path, partitions=3) as durable:
        assert await durable.open(0, None) == (mark(7), {b"b": b"2"})


async def test_a_copy_that_is_too_old_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await written(tmp_path, {b"a": b"1"}, mark(1))
    now = time.time()
    monkeypatch.setattr(copyfile.time, "time", lambda: now + copyfile.MAX_AGE_SECONDS - 60)
    async with store(tmp_path) as durable:
        assert (await durable.open(0, None)).mark == mark(1)
    monkeypatch.setattr(copyfile.time, "time", lambda: now + copyfile.MAX_AGE_SECONDS + 60)
    async with store(tmp_path) as durable:
        assert await durable.open(0, None) == (None, {})


async def test_saying_again_that_a_copy_is_complete_ends_with_the_membership(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(durables, "_TOUCH_SECONDS", 0.0)
    monkeypatch.setattr(durables, "_FLUSH_SECONDS", 0.01)
    hours = 3600.0
    lease = Lease(10.0)
    lease.take(now() - 13 * hours)
    async with store(tmp_path) as durable:
        await durable.open(0, None)
        await durable.open(1, None)
        durable.rewrite(0, {b"a": b"1"}, mark(1), lease.term)
        # Cut off for 13 hours; another worker had the partition, and this one got it back.
        lease.lose()
        lease.take(now())
        durable.rewrite(1, {b"b": b"1"}, mark(1), lease.term)
        size = durable.path(1).stat().st_size if durable.path(1).exists() else 0
        await until(lambda: durable.path(1).stat().st_size > size + 500)
    async with store(tmp_path) as durable:
        assert await durable.open(0, None) == (None, {})
        assert (await durable.open(1, None)).mark == mark(1)


@dataclass
class Memory:
    """A table's store without a broker, under a lease."""

    lease: Lease
    table: PartitionedTable

    @classmethod
    def new(cls, state_dir: Path | None = None) -> "Memory":
        app = batch_app("app", broker="kafka://nowhere", state_dir=state_dir)
        table = app.Table("customers", partitions=2)
        app.lease.take(now())
        return cls(app.lease, table)

    async def recovered(self, at: int) -> None:
        await self.table.data.begin(0)
        self.table.data.partition(0)[b"k"] = b"v"
        self.table.data.finish(0, at)

    async def acknowledged(self, start: int, end: int) -> None:
        delivery = asyncio.get_running_loop().create_future()
        rows = iter([(b"%d" % number, b"v") for number in range(end - start)])
        self.table.data.sent(0, rows, [delivery])
        delivery.set_result(Delivery(start, end))
        await asyncio.sleep(0)


async def test_what_is_in_memory_is_used_again_unless_the_worker_was_away_for_too_long() -> None:
    hours = 3600.0
    for away, kept in ((11 * hours, True), (13 * hours, False)):
        memory = Memory.new()
        await memory.recovered(5)
        memory.lease.term.sure = now() - away
        memory.lease.lose()
        memory.lease.take(now())
        assert await memory.table.data.begin(0) == (Mark(5) if kept else None)
        assert (b"k" in memory.table.data.partition(0)) is kept
    # A worker that was never given up is never away, however long ago it recovered.
    memory = Memory.new()
    await memory.recovered(5)
    memory.lease.term.sure = now() - 13 * hours
    memory.lease.renew(now())
    assert await memory.table.data.begin(0) == Mark(5)


@pytest.mark.parametrize("found", [(7, 8), (-1, -1)])
async def test_a_copy_that_the_changelog_passes_by_says_so_once(
    tmp_path: Path, found: tuple[int, int]
) -> None:
    memory = Memory.new(tmp_path)
    durable = memory.table.durable
    assert durable is not None
    await memory.recovered(5)
    with capture_logs() as logs:
        await memory.acknowledged(5, 6)
        assert durable.healthy
        await memory.acknowledged(*found)
        await memory.acknowledged(9, 10)
    assert not durable.healthy
    assert "after 6" in durable.problems[0]
    assert str(durable.path(0)) in durable.problems[0]
    assert [entry["log_level"] for entry in logs] == ["warning"]
    # The next assignment reads what it lacks, and it is added to again.
    assert (await memory.table.data.begin(0)).next == 6
    memory.table.data.finish(0, 10)
    await memory.acknowledged(10, 11)
    assert durable.healthy
    await durable.close()
    other = DurableStore(tmp_path, memory.table.changelog_topic_name, 2)
    assert (await other.open(0, None)).mark.next == 11
    await other.close()


async def test_the_second_worker_in_a_directory_goes_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("streams.transport.durable._LOCK_SECONDS", 0.1)
    async with store(tmp_path) as first, store(tmp_path) as second:
        await first.open(0, None)
        first.rewrite(0, {b"a": b"1"}, mark(1), TERM)
        assert (await second.open(0, None)).mark is None
        assert "another process" in second.problems[0]
        second.rewrite(0, {b"a": b"2"}, mark(2), TERM)
        await first.keep_only(set())
        # The next assignment: the first has let it go.
        assert await second.open(0, None) == (mark(1), {b"a": b"1"})
        assert second.healthy


async def test_a_directory_that_cannot_be_made_costs_only_the_copy(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a directory")
    async with store(tmp_path / "file") as durable:
        with capture_logs() as logs:
            assert await durable.open(0, None) == (None, {})
            durable.rewrite(0, {b"a": b"1"}, mark(1), TERM)
            await durable.flush()
        assert len(logs) == 1
        assert "state_dir" in logs[0]["remedy"]
        assert not durable.healthy


async def test_a_full_disk_costs_only_the_copy_and_what_was_written_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    await written(tmp_path, {b"a": b"1"}, mark(1))

    def full(file: Any, data: bytes) -> None:
        file.write(data[: len(data) // 2])
        raise OSError(errno.ENOSPC, "No space left on device")

    async with store(tmp_path) as durable:
        await durable.open(0, None)
        with monkeypatch.context() as patch, capture_logs() as logs:
            patch.setattr(copyfile, "_write_all", full)
            durable.write(0, {b"a": b"2"}, mark(2), TERM)
            await durable.flush()
            durable.write(0, {b"a": b"3"}, mark(3), TERM)
            await durable.flush()
        assert [entry["log_level"] for entry in logs] == ["warning"]
        assert "No space left" in logs[0]["error"]
        assert not durable.healthy
    async with store(tmp_path) as durable:
        assert await durable.open(0, None) == (mark(1), {b"a": b"1"})


def test_a_file_that_grows_is_written_anew_with_the_same_contents(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(copyfile, "_SLACK_BYTES", 2_000)
    file = CopyFile(tmp_path / "0.copy", "cl", 0, 1)
    file.open(0)
    assert file.load().mark is None
    file.rewrite({b"k": b"0"}, mark(1), time.time())
    expected = {b"k": b"0"}
    for number in range(2, 1_000):
        change = {b"%d" % (number % 7): b"%d" % number}
        file.append(change, mark(number), time.time())
        expected.update(change)
    assert file.path.stat().st_size < 10_000
    file.close()
    again = CopyFile(tmp_path / "0.copy", "cl", 0, 1)
    again.open(0)
    assert again.load() == (mark(999), expected)
    again.close()
    with pytest.raises(CopyUnusable, match="not open"):
        again.append({}, mark(1_000), time.time())


def test_a_digest_tells_records_apart() -> None:
    records: list[tuple[bytes, bytes | None]] = [
        (b"a", b"bc"),
        (b"ab", b"c"),
        (b"a", None),
        (b"a", b""),
        (b"a", b"-"),
    ]
    assert len({record_digest(*record) for record in records}) == len(records)
