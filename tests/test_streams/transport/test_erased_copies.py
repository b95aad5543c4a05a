"""What was erased goes from the copies on disk, byte for byte, within a bounded time."""

import time
from collections.abc import Callable
from pathlib import Path

import pytest

from streams.transport import copyfile
from streams.transport import durable as durables
from streams.transport.copyfile import CopyFile
from streams.transport.durable import DurableStore
from streams.transport.frames import Mark, record_digest
from streams.transport.lease import Term

from . import apps

DEADLINE_SECONDS = 60.0
TERM = Term()
ID = b"customer-4711"
KEPT = {b"anna": b"state of anna", b"bert": b"state of bert"}


def mark(following: int) -> Mark:
    return Mark(following, following - 1, b"d" * 16)


def holds(directory: Path, what: bytes) -> bool:
    return any(what in path.read_bytes() for path in directory.rglob("*") if path.is_file())


async def until(condition: Callable[[], bool]) -> None:
    await apps.until(condition, DEADLINE_SECONDS)


async def with_customer(directory: Path) -> DurableStore:
    durable = DurableStore(directory, "cl", 2)
    await durable.open(0, None)
    durable.rewrite(0, {**KEPT, ID: b"state of " + ID}, mark(3), TERM)
    await durable.flush()
    assert holds(directory, ID)
    return durable


async def read(directory: Path) -> dict[bytes, bytes]:
    durable = DurableStore(directory, "cl", 2)
    try:
        return (await durable.open(0, None)).state
    finally:
        await durable.close()


async def test_a_deleted_id_goes_from_the_copy_while_the_worker_runs(tmp_path, monkeypatch):
    monkeypatch.setattr(durables, "ERASED_SECONDS", 0.3)
    durable = await with_customer(tmp_path)
    durable.write(0, {b"carl": b"state of carl", ID: None}, mark(5), TERM)
    await until(lambda: not holds(tmp_path, ID))
    assert durable.healthy
    durable.write(0, {b"dora": b"state of dora"}, mark(6), TERM)
    await durable.close()
    added = {b"carl": b"state of carl", b"dora": b"state of dora"}
    assert await read(tmp_path) == KEPT | added


async def test_deletions_within_the_bound_share_one_writing_anew(tmp_path, monkeypatch):
    compacted = []
    compact = CopyFile.compact
    monkeypatch.setattr(CopyFile, "compact", lambda file: compacted.append(compact(file)))
    monkeypatch.setattr(durables, "ERASED_SECONDS", 3.0)
    durable = await with_customer(tmp_path)
    for number in range(20):
        durable.write(0, {b"%d" % number: None}, mark(4 + number), TERM)
        await durable.flush()
    durable.write(0, {ID: None}, mark(30), TERM)
    await durable.flush()
    assert holds(tmp_path, ID)
    await until(lambda: bool(compacted))
    assert (len(compacted), holds(tmp_path, ID)) == (1, False)
    await durable.close()
    assert len(compacted) == 1


async def test_a_stop_leaves_no_deleted_id_in_the_copy(tmp_path):
    durable = await with_customer(tmp_path)
    durable.write(0, {ID: None}, mark(4), TERM)
    await durable.close()
    assert not holds(tmp_path, ID)
    assert await read(tmp_path) == KEPT


async def test_after_a_kill_the_next_start_takes_the_deleted_id_away(tmp_path):
    killed = CopyFile(tmp_path / "cl" / "0.copy", "cl", 0, 2)
    killed.open(0.0)
    killed.load()
    killed.rewrite({**KEPT, ID: b"state of " + ID}, mark(3), time.time())
    killed.append({ID: None}, mark(4), time.time())
    (tmp_path / "cl" / "0.new").write_bytes(b"half of a copy, with " + ID)
    killed.close()
    assert holds(tmp_path, ID)
    durable = DurableStore(tmp_path, "cl", 2)
    assert (await durable.open(0, None)).state == KEPT
    await until(lambda: not holds(tmp_path, ID))
    await durable.close()
    assert await read(tmp_path) == KEPT


async def test_a_former_value_goes_when_a_part_of_it_was_erased(tmp_path):
    durable = await with_customer(tmp_path)
    durable.write(0, {ID: b"what is left"}, mark(4), TERM)
    durable.erased(0)
    await durable.close()
    assert not holds(tmp_path, b"state of " + ID)
    assert await read(tmp_path) == KEPT | {ID: b"what is left"}


async def test_the_copy_of_a_partition_that_went_to_another_worker_is_removed(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(durables, "LEFT_SECONDS", 0.2)
    monkeypatch.setattr(durables, "_LOOK_SECONDS", 0.1)
    durable = await with_customer(tmp_path)
    await durable.open(1, None)
    durable.rewrite(1, KEPT, mark(3), TERM)
    others = CopyFile(tmp_path / "cl" / "7.copy", "cl", 7, 8)
    others.open(0.0)
    others.load()
    others.rewrite(KEPT, mark(3), time.time())
    await durable.keep_only({1})
    await until(lambda: not (tmp_path / "cl" / "0.copy").exists())
    assert not holds(tmp_path, ID)
    # Its own, and one that another process has open, stay.
    assert (tmp_path / "cl" / "1.copy").exists()
    assert (tmp_path / "cl" / "7.copy").exists()
    others.close()
    await durable.close()


@pytest.mark.parametrize("slack", [0, copyfile._SLACK_BYTES])
async def test_a_copy_that_grew_is_written_anew_without_the_deleted(tmp_path, monkeypatch, slack):
    monkeypatch.setattr(copyfile, "_SLACK_BYTES", slack)
    durable = await with_customer(tmp_path)
    durable.write(0, {ID: None, b"large": b"x" * 10_000}, mark(5), TERM)
    await durable.flush()
    assert holds(tmp_path, ID) == bool(slack)
    await durable.close()
    assert not holds(tmp_path, ID)


def test_the_digest_of_a_deletion_tells_nobody_without_the_key_whose_it_was():
    ours = record_digest(ID, None, b"secret")
    assert ours != record_digest(ID, None)
    assert ours != record_digest(ID, None, b"another")
