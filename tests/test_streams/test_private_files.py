"""Files of customers' data are made for their owner only, whatever the umask."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from streams.dead_letters.exported import writing
from streams.embedded import EmbeddedRedis
from streams.outcome.outcome import Outcome
from streams.outcome.snapshot import write_snapshot
from streams.private import make_private_directory, new_private
from streams.recording.writer import recording_writer
from streams.transport.copyfile import CopyFile
from streams.transport.frames import Mark

from .recording.support import head


@pytest.fixture(params=[0o022, 0o000], ids=["umask 022", "umask 000"], autouse=True)
def umask(request) -> Iterator[None]:
    before = os.umask(request.param)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return path.stat().st_mode & 0o777


def modes(directory: Path) -> dict[str, int]:
    return {path.name: mode(path) for path in directory.iterdir()}


def test_a_recording_is_private_before_and_after_it_is_complete(tmp_path):
    with recording_writer(tmp_path / "a.clvrec", head()) as writer:
        assert list(modes(tmp_path).values()) == [0o600]
        writer.finish()
    assert modes(tmp_path) == {"a.clvrec": 0o600}


@pytest.mark.parametrize("name", ["a.jsonl", "a.jsonl.gz"])
def test_an_export_of_letters_is_private_before_and_after_it_is_complete(tmp_path, name):
    (tmp_path / name).touch(0o666)
    with writing(tmp_path / name) as file:
        assert modes(tmp_path)[f".{name}.part"] == 0o600
        file.write("{}\n")
    assert modes(tmp_path) == {name: 0o600}


def test_a_kept_result_is_private(tmp_path):
    write_snapshot(
        tmp_path / "a.kept", Outcome().snapshot(), source="s", currency="EUR", replayed="r"
    )
    assert modes(tmp_path) == {"a.kept": 0o600}


def test_a_copy_of_a_table_and_the_directories_made_for_it_are_private(tmp_path):
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    before = mode(theirs)
    file = CopyFile(theirs / "state" / "changelog" / "0.copy", "changelog", 0, 1)
    file.open(0)
    file.load()
    file.rewrite({b"k": b"v"}, Mark(1, 0, b"d"), 0.0)
    file.append({b"l": b"w"}, Mark(2, 1, b"d"), 0.0)
    assert modes(theirs / "state" / "changelog") == {"0.copy": 0o600, "0.lock": 0o600}
    file.close()
    assert mode(theirs / "state") == mode(theirs / "state" / "changelog") == 0o700
    assert mode(theirs) == before


def test_a_draft_that_another_left_is_not_written_into(tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_text("theirs")
    draft = tmp_path / "draft"
    draft.symlink_to(elsewhere)
    with new_private(draft, "wb") as file:
        file.write(b"ours")
    assert not draft.is_symlink()
    assert mode(draft) == 0o600
    assert elsewhere.read_text() == "theirs"


def test_a_directory_that_is_there_stays_as_it_is(tmp_path):
    tmp_path.chmod(0o755)
    make_private_directory(tmp_path)
    make_private_directory(tmp_path / "a" / "b")
    assert mode(tmp_path) == 0o755
    assert mode(tmp_path / "a") == mode(tmp_path / "a" / "b") == 0o700


async def test_what_an_embedded_server_writes_is_private():
    async with EmbeddedRedis() as redis:
        log = redis.log_path
        assert log is not None
        assert mode(log) == 0o600
        assert mode(log.parent) == 0o700
