"""A file that somebody hands us costs no more than it holds, and is read or refused in words."""

import gzip
import json
import random
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import msgspec
import pytest

from streams.bounded import UNPACKED_AT_LEAST, TooLarge, lines
from streams.dead_letters.exported import ExportUnusable, read_export
from streams.files import rows as rows_of_files
from streams.files.errors import InputFileError
from streams.files.reader import read_orders
from streams.files.rows import count_rows
from streams.outcome.snapshot import LONGEST_LINE, SnapshotUnusable, read_snapshot
from streams.recording import Head, Recorded, RecordedTopic, Recording, RecordingUnusable, Span
from streams.recording.format import (
    END,
    HEAD,
    LARGEST_FRAME,
    LARGEST_HEAD,
    LONGEST_WORDS,
    MAGIC,
    MOST_HEADERS,
    MOST_PARTITIONS,
    MOST_RECORDS,
    MOST_TOPICS,
    PREAMBLE,
    RECORDS,
    VERSION,
    array_of,
    compress,
    frame_head,
)
from streams.recording.writer import RecordTooLarge, recording_writer
from streams.transport.copyfile import CopyFile, CopyUnusable
from streams.transport.frames import LARGEST_FRAME as LARGEST_COPY_FRAME
from streams.transport.frames import Mark, framed, read_frame
from tests.servers import forks

from .commands import ROOT, environment

_encode = msgspec.msgpack.encode
MEMORY = 1024 * 1024 * 1024
"""Bytes of address space that a hostile file may cost a command, libraries included."""


def limited(*arguments: object, seconds: float = 300) -> subprocess.CompletedProcess[str]:
    """Run the command in a process that may not have more memory."""
    return forks.run(
        [sys.executable, "-m", "streams.cli", *map(str, arguments)],
        timeout=seconds, env=environment(), cwd=ROOT, data_limit=MEMORY,
    )  # fmt: skip


def refused_limited(*arguments: object) -> str:
    done = limited(*arguments)
    assert done.returncode == 1, done.stderr
    assert "Traceback" not in done.stderr
    assert "error: " in done.stderr
    return done.stderr


def frame(kind: bytes, content: bytes) -> bytes:
    stored = compress(content)
    return frame_head(kind, stored, len(content)) + stored


def recording(path: Path, *frames: bytes) -> Path:
    path.write_bytes(PREAMBLE.pack(MAGIC, VERSION) + b"".join(frames))
    return path


def head(**changes: object) -> bytes:
    topics = ({"role": "orders", "name": "o", "partitions": 1},)
    return _encode({"recorded_at": 0, "topics": topics, "spans": ()} | changes)


def deep(levels: int) -> bytes:
    return b"\x91" * levels + b"\x90"


TOPIC = {"role": "orders", "name": "o", "partitions": 1}


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (head(topics=[TOPIC | {"partitions": 4_000_000_000}]), "4000000000 partitions"),
        (head(topics=[TOPIC | {"partitions": MOST_PARTITIONS + 1}]), "partitions"),
        (head(topics=[TOPIC | {"partitions": 0}]), "0 partitions"),
        (head(topics=[TOPIC | {"partitions": -1}]), "-1 partitions"),
        (head(topics=[TOPIC] * (MOST_TOPICS + 1)), "topics"),
        (head(topics=[TOPIC | {"name": "x" * (LONGEST_WORDS + 1)}]), "characters"),
        (head(since="x" * (LONGEST_WORDS + 1)), "characters"),
        (head(spans=[[0, 1, 0, 0]]), "which it does not name"),
        (head(spans=[[1, 0, 0, 0]]), "which it does not name"),
        (head(spans=[[0, 0, 5, 4]]), "from 5 to 4"),
        (head(spans=[[0, 0, 0, 2**63]]), "which are none"),
        (head(spans=[[0, 0, 0, 0]] * 2), "more than there are"),
        (b"\x81\xa1x" + deep(100_000), "cannot be read"),
        (b"\xdf\xff\xff\xff\xff", "cannot be read"),
        (b" " * (LARGEST_HEAD + 1), "are the most"),
    ],
)
def test_a_head_that_says_more_than_can_be_is_refused(tmp_path, content, problem):
    path = recording(tmp_path / "a.clvrec", frame(HEAD, content))
    with pytest.raises(RecordingUnusable, match=problem):
        Recording(path).verify()


def record(offset: int = 0, headers: object = (), timestamp: int = 0) -> bytes:
    return _encode([0, 0, offset, timestamp, None, None, headers])


@pytest.mark.parametrize(
    ("content", "problem"),
    [
        (b"\xdd\xff\xff\xff\xff", "4294967295 records"),
        (b"\xdd" + struct.pack(">I", MOST_RECORDS + 1) + record() * (MOST_RECORDS + 1), "records"),
        (b"\xdf\xff\xff\xff\xff", "is no list"),
        (b"\x91" + deep(100_000), "cannot be read"),
        (array_of([record(2**63)]), "no broker"),
        (array_of([record(timestamp=2**63)]), "no broker"),
        (b" " * (LARGEST_FRAME + 1), "are the most"),
        (array_of([record(headers=[("", None)] * (3 * MOST_HEADERS + 9))]), "headers"),
        (array_of([record(headers=[("a", None)] * 9)[:-40]]), "cannot be read"),
    ],
)
def test_records_that_come_to_more_than_a_writer_makes_are_refused(tmp_path, content, problem):
    path = recording(tmp_path / "a.clvrec", frame(HEAD, head()), frame(RECORDS, content))
    with pytest.raises(RecordingUnusable, match=problem):
        Recording(path).verify()


def test_a_frame_that_says_it_is_stored_larger_than_it_is_asks_for_no_memory(tmp_path):
    stored_length, length = 4_000_000_000, 10
    fields = struct.pack(">cIII", RECORDS, stored_length, length, 0)
    path = recording(
        tmp_path / "a.clvrec", frame(HEAD, head()), fields + struct.pack(">I", zlib.crc32(fields))
    )
    with path.open("r+b") as file:
        file.truncate(5_000_000_000)
    with pytest.raises(RecordingUnusable, match="take 4000000000 as they are stored"):
        Recording(path).verify()


def test_what_a_writer_takes_a_reader_takes_and_no_more(tmp_path):
    path = tmp_path / "a.clvrec"
    topics = (RecordedTopic("orders", "o", MOST_PARTITIONS),)
    spans = tuple(Span(0, n, 0, 2**63 - 1) for n in range(MOST_PARTITIONS))
    with recording_writer(path, Head(0, topics, spans)) as writer:
        headers = (("", None),) * MOST_HEADERS
        writer.add(Recorded(0, 0, 0, 0, None, b"x" * 3_000_000, headers))
        for offset in range(MOST_RECORDS + 1):
            writer.add(Recorded(0, 1, offset, 0, None, None))
        with pytest.raises(RecordTooLarge, match="524289 headers"):
            writer.add(Recorded(0, 0, 1, 0, None, None, (*headers, ("", None))))
        end = writer.finish()
    assert Recording(path).verify() == end


@pytest.mark.slow
def test_a_small_recording_that_says_much_costs_little(tmp_path):
    partitions = head(topics=[TOPIC | {"partitions": 4_000_000_000}])
    path = recording(tmp_path / "a.clvrec", frame(HEAD, partitions), frame(END, b"\x80"))
    assert path.stat().st_size < 400
    assert "4000000000 partitions" in refused_limited("replay", "memory", path)


def bomb(path: Path, beginning: bytes, filling: bytes, unpacked: int) -> Path:
    """A gzip file that unpacks to so many bytes."""
    with gzip.open(path, "wb", compresslevel=9) as file:
        file.write(beginning)
        block = filling * (4 * 1024 * 1024 // len(filling))
        for _ in range(unpacked // len(block) + 1):
            file.write(block)
    return path


READERS = {
    "a.jsonl.gz": lambda path: list(read_export(path)),
    "a.kept": read_snapshot,
    "a.csv.gz": lambda path: sum(1 for _ in read_orders(path, currency="EUR", errors="publish")),
    "b.jsonl.gz": lambda path: sum(1 for _ in read_orders(path, currency="EUR", errors="publish")),
}
REFUSALS = (ExportUnusable, SnapshotUnusable, InputFileError)


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("filling", [b" ", b" " * 1_023 + b"\n"], ids=["one line", "lines"])
def test_gzip_that_unpacks_without_end_is_refused(tmp_path, name, filling):
    beginning = b"customer_id,date,amount\n" if "csv" in name else b""
    path = bomb(tmp_path / name, beginning, filling, UNPACKED_AT_LEAST)
    assert path.stat().st_size < UNPACKED_AT_LEAST // 200
    with pytest.raises(REFUSALS, match=r"bytes, which are the most|times its size|is no snapshot"):
        READERS[name](path)


def test_a_line_without_an_end_and_a_file_without_one_are_too_large(tmp_path):
    path = tmp_path / "a"
    path.write_bytes(b"x" * 100)
    assert list(lines(path, 100, packed=False)) == [b"x" * 100]
    with pytest.raises(TooLarge, match="99 bytes"):
        list(lines(path, 99, packed=False))


def test_a_row_of_csv_that_never_ends_is_refused_with_its_line(tmp_path, monkeypatch):
    monkeypatch.setattr(rows_of_files, "LONGEST_ROW", 1_000)
    path = tmp_path / "a.csv"
    path.write_text("customer_id,date,amount\nanna,2026-01-01,5\n" + '"x\n",' * 1_000)
    with pytest.raises(InputFileError, match="quotation mark left open"):
        list(read_orders(path, currency="EUR"))


def test_json_nested_without_end_is_a_refused_row(tmp_path):
    path = tmp_path / "a.jsonl"
    path.write_text("[" * 100_000 + "\n")
    with pytest.raises(InputFileError, match=r"a.jsonl:1: not JSON"):
        list(read_orders(path, currency="EUR"))


def test_parquet_that_says_more_rows_or_longer_texts_than_it_can_hold_is_refused(
    tmp_path, monkeypatch
):
    arrow = pytest.importorskip("pyarrow", reason="pyarrow is not installed")
    parquet = pytest.importorskip("pyarrow.parquet", reason="pyarrow is not installed")
    path = tmp_path / "a.parquet"
    table = {"customer_id": ["x" * 2_000] * 5_000, "date": ["2026-01-01"] * 5_000,
             "amount": ["5"] * 5_000, "more": [[1, 2]] * 5_000}  # fmt: skip
    parquet.write_table(arrow.table(table), path)
    monkeypatch.setattr(rows_of_files, "BATCH_BYTES", 10_000)
    events = list(read_orders(path, currency="EUR"))
    assert len(events) == 5_000
    assert events[0].key == b"x" * 2_000
    with monkeypatch.context() as shorter:
        shorter.setattr(rows_of_files, "LONGEST_ROW", 1_999)
        with pytest.raises(InputFileError, match="1,999 are the most"):
            list(read_orders(path, currency="EUR"))
    with monkeypatch.context() as smaller:
        smaller.setattr(rows_of_files, "LARGEST_ROW_GROUP", 100)
        with pytest.raises(InputFileError, match="write smaller ones"):
            list(read_orders(path, currency="EUR"))
    monkeypatch.setattr(rows_of_files, "most_unpacked", lambda _size: 4_999)
    for read in (count_rows, lambda path: list(read_orders(path, currency="EUR"))):
        with pytest.raises(InputFileError, match="says 5000 rows"):
            read(path)


def test_counting_the_rows_of_a_damaged_file_refuses_in_words(tmp_path):
    for name, content in (
        ("a.csv.gz", gzip.compress(b"x" * 100)[:-9]),
        ("b.csv.gz", b"\x1f\x8b"),
        ("c.csv.gz", b"no gzip"),
        ("d.parquet", b"no parquet"),
    ):
        path = tmp_path / name
        path.write_bytes(content)
        with pytest.raises(InputFileError):
            count_rows(path)


@pytest.mark.parametrize("text", [b"[" * 100_000, b"{" + b" " * 2_000_000, b'{"version": 1e999}'])
def test_a_file_that_is_no_parameters_is_refused(tmp_path, text):
    from .commands import refused

    path = tmp_path / "parameters.json"
    path.write_bytes(text)
    orders = tmp_path / "orders.csv"
    orders.write_text("customer_id,date,amount\nanna,2026-01-01,5\n")
    said = refused("score", orders, "--currency", "EUR", "--parameters", path)
    assert "these are no parameters" in said


def test_a_letter_of_too_many_headers_is_refused(tmp_path):
    path = tmp_path / "a.jsonl"
    letter = {
        "letter": "t[0]@0", "time": "2026-01-01T00:00:00Z", "reason": "r", "field": None,
        "message": "m", "from": "o[0]@0", "retried": False, "cut_from": None, "key": None,
        "value": None, "headers": [{"name": "", "value": None}] * 100_001,
    }  # fmt: skip
    path.write_text(json.dumps(letter) + "\n")
    with pytest.raises(ExportUnusable, match="headers"):
        list(read_export(path))


def kept_lines(customer: bytes) -> bytes:
    first = {"format": "clv-replay-result", "version": 1, "program": "p", "source": "s",
             "currency": "EUR", "input": "i", "customers": 1}  # fmt: skip
    return json.dumps(first).encode() + b"\n" + customer + b"\n"


@pytest.mark.parametrize(
    "customer",
    [
        b'{"key": "' + b"k" * LONGEST_LINE + b'"}',
        b'{"key": "k", "reasons": {}, "update": {"data": {"clv": 1, "segments": {}, "x": '
        + b"[" * 500 + b"]" * 500 + b"}}}",
        b"[" * 100_000,
        b'{"key": "\\ud800", "reasons": {}, "update": {"data": {"clv": 1, "segments": {}}}}',
        b'{"key": "k", "reasons": {}, "update": {"data": {"clv": 1e999, "segments": {}}}}',
    ],
    ids=["long", "nested", "nested deeper", "a lone surrogate", "a number that is none"],
)  # fmt: skip
def test_a_customer_of_a_kept_result_is_bounded(tmp_path, customer):
    path = tmp_path / "a.kept"
    path.write_bytes(gzip.compress(kept_lines(customer)))
    with pytest.raises(SnapshotUnusable):
        read_snapshot(path)


def test_a_kept_result_of_more_customers_than_it_holds_is_cut_off(tmp_path):
    path = tmp_path / "a.kept"
    said = kept_lines(b"").replace(b'"customers": 1', b'"customers": 4000000000')
    path.write_bytes(gzip.compress(said.rstrip()))
    with pytest.raises(SnapshotUnusable, match="cut off"):
        read_snapshot(path)


def copy_of(path: Path, *contents: bytes) -> CopyFile:
    identity = _encode(["c", 0, 1])
    path.write_bytes(b"clv table copy 0001\n" + b"".join(map(framed, (identity, *contents))))
    file = CopyFile(path, "c", 0, 1)
    file.open(0)
    return file


@pytest.mark.parametrize(
    "changes",
    [
        b"\xdf\xff\xff\xff\xff",
        b"\xde\x20\x01" + b"".join(b"\xc4\x02%b\xc0" % n.to_bytes(2) for n in range(8_193)),
        deep(100_000),
        b"\xc0",
    ],
)  # fmt: skip
def test_a_frame_of_a_copy_that_no_worker_writes_is_its_end(tmp_path, changes):
    good = _encode([Mark(5, 4, b"d"), time.time(), {b"k": b"v"}])
    bad = b"\x93\xc0" + _encode(time.time()) + changes
    file = copy_of(tmp_path / "0.copy", good, bad)
    contents = file.load()
    assert (contents.mark, contents.state) == (Mark(5, 4, b"d"), {b"k": b"v"})
    file.close()


@pytest.mark.parametrize(
    ("mark", "at"),
    [
        ([-5, -7, b""], 0.0),
        ([2**64 - 1, 4, b""], 0.0),
        ([5, 5, b""], 0.0),
        ([5, 4, b""], float("nan")),
    ],
)
def test_a_copy_as_of_a_place_or_time_that_is_none_is_not_used(tmp_path, mark, at):
    at = at or time.time()
    file = copy_of(tmp_path / "0.copy", _encode([mark, at, {b"k": b"v"}]))
    assert file.load() == (None, {})
    file.close()


def test_a_copy_that_says_a_longer_frame_than_is_written_asks_for_no_memory(tmp_path):
    path = tmp_path / "0.copy"
    file = copy_of(path)
    with path.open("ab") as more:
        more.write(struct.pack(">II", LARGEST_COPY_FRAME + 1, 0))
        more.truncate(LARGEST_COPY_FRAME * 2)
    assert file.load() == (None, {})
    file.close()


def test_what_a_worker_writes_is_read():
    whole = _encode([None, 1.0, {n.to_bytes(2): None for n in range(8192)}])
    found = read_frame(whole)
    assert found is not None
    assert len(found.changes) == 8192


def changed(content: bytes, dice: random.Random) -> bytes:
    """The content with some bytes changed, cut off, or put in twice."""
    data = bytearray(content)
    for _ in range(dice.randint(1, 4)):
        at = dice.randrange(len(data)) if data else 0
        kind = dice.randrange(4)
        if kind == 0 and data:
            data[at] = dice.randrange(256)
        elif kind == 1 and data:
            data[at] ^= 1 << dice.randrange(8)
        elif kind == 2:
            del data[at : at + dice.randint(1, 40)]
        else:
            data[at:at] = dice.choice(
                (b"\xff" * 4, b"\xdd\xff\xff\xff\xff", bytes(data[at : at + 9]))
            )
    return bytes(data)


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    """One of each kind of file, what is inside of its frames apart."""
    directory = tmp_path_factory.mktemp("samples")
    letter = {
        "letter": "t[0]@0", "time": "2026-01-01T00:00:00Z", "reason": "r", "field": None,
        "message": "m", "from": "o[0]@0", "retried": False, "cut_from": None, "key": {"text": "k"},
        "value": {"base64": "/w=="}, "headers": [{"name": "h", "value": {"text": "v"}}],
    }  # fmt: skip
    customer = {"key": "k", "update": {"data": {"clv": 1.0, "segments": {"tier": "gold"}}},
                "reasons": {"tier": {"data": {"reason": {"values": {"x": 1.0}}}}}}  # fmt: skip
    result = {"customers": 1, "value": 1.0, "segments": {}, "changes": 0, "repeats": 0,
              "dead_letters": {}, "digests": {}, "disagreements": []}  # fmt: skip
    kept = kept_lines(json.dumps(customer).encode()) + json.dumps({"result": result}).encode()
    path = directory / "a.kept"
    path.write_bytes(gzip.compress(kept + b"\n"))
    read_snapshot(path)
    rows = b'customer_id,date,amount\n"anna",2026-01-01,5\nbert,2026-01-02,-3.5\n'
    return {
        "head": head(spans=[[0, 0, 0, 3]]),
        "records": array_of([record(n, [("a", b"x")]) for n in range(3)]),
        "end": _encode({"records": 0, "by_topic": [0], "first": None, "last": None,
                        "left_out": {"x": 1}, "digest": b"d"}),
        "export": json.dumps(letter).encode() + b"\n",
        "kept": kept + b"\n",
        "rows": rows,
        "gzip": gzip.compress(rows),
        "copy": _encode([Mark(5, 4, b"d"), 1.0, {b"k": b"v", b"l": None}]),
    }  # fmt: skip


def read_changed(kind: str, content: bytes, directory: Path) -> None:
    """Read it as the program does; raises what is said in words."""
    if kind in ("head", "records", "end"):
        parts = {"head": head(), "records": array_of([record()]), "end": b"\x80", kind: content}
        frames = [frame(HEAD, parts["head"]), frame(RECORDS, parts["records"])]
        Recording(recording(directory / "a.clvrec", *frames, frame(END, parts["end"]))).verify()
    elif kind == "copy":
        file = copy_of(directory / "0.copy", content)
        try:
            file.load()
        finally:
            file.close()
    else:
        name = {"export": "a.jsonl", "kept": "a.kept", "rows": "a.csv", "gzip": "b.csv.gz"}[kind]
        path = directory / name
        path.write_bytes(gzip.compress(content) if kind == "kept" else content)
        if kind == "export":
            list(read_export(path))
        elif kind == "kept":
            read_snapshot(path)
        else:
            count_rows(path)
            list(read_orders(path, currency="EUR"))


@pytest.mark.parametrize(
    "kind", ["head", "records", "end", "export", "kept", "rows", "gzip", "copy"]
)
def test_a_changed_file_is_read_or_refused_in_words(samples, tmp_path, kind):
    dice = random.Random(kind)
    for _ in range(300):
        content = changed(samples[kind], dice)
        try:
            read_changed(kind, content, tmp_path)
        except (RecordingUnusable, ExportUnusable, SnapshotUnusable, InputFileError, CopyUnusable):
            pass
        except Exception as error:
            raise AssertionError(f"{content!r} ends in {error!r}") from error
