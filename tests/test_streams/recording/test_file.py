"""A recording is read back byte for byte, or refused with the place and what to do."""

import os
import random
import signal
import subprocess
import sys
import time
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streams.recording import Head, Recorded, RecordedTopic, Recording, RecordingUnusable
from streams.recording.format import (
    END,
    FRAME_BYTES,
    HEAD,
    MAGIC,
    PREAMBLE,
    RECORDS,
    VERSION,
    compress,
    decompress,
    frame_head,
    read_frame_head,
)
from streams.recording.writer import recording_writer

from .support import Making, head, write

HEADERS = st.lists(st.tuples(st.text(max_size=5), st.none() | st.binary(max_size=5)), max_size=3)
CONTENT = st.tuples(
    st.integers(0, 1),
    st.integers(-1, 2**62),
    st.none() | st.binary(max_size=30),
    st.none() | st.binary(max_size=60),
    HEADERS,
)


def of_contents(contents):
    making = Making(2)
    return [
        making.record("orders", partition, at, key, value, headers)
        for partition, at, key, value, headers in contents
    ]


def some(number=3):
    making = Making(2)
    return [
        making.record("orders", n % 2, 1_000 + n, b"c%d" % n, b'{"n": %d}' % n, [("h", b"1")])
        for n in range(number)
    ]


@given(st.lists(CONTENT, max_size=20))
@settings(deadline=None, max_examples=60)
def test_what_is_written_is_read_byte_for_byte(tmp_path_factory, contents):
    path = tmp_path_factory.mktemp("file") / "a.clvrec"
    records = of_contents(contents)
    end = write(path, records)
    assert list(Recording(path).records()) == records
    assert Recording(path).verify() == end
    assert end.records == len(records)
    assert end.by_topic == (0, len(records), 0, 0, 0, 0, 0)


def test_equal_slices_have_equal_digests_and_others_have_not(tmp_path: Path):
    def digest(name, records, **given):
        return write(tmp_path / name, records, **given).digest

    first = digest("a", some())
    with recording_writer(tmp_path / "later", Head(99, head().topics, (), since="x")) as writer:
        for record in some():
            writer.add(record)
        assert writer.finish().digest == first
    assert digest("b", some(4)) != first
    assert digest("c", some(), partitions=3) != first
    changed = [*some()[:-1], Recorded(1, 0, 1, 1_002, b"c2", b'{"n": 3}', (("h", b"1"),))]
    assert digest("d", changed) != first


def test_a_file_cut_anywhere_is_refused_and_says_where(tmp_path: Path):
    path, cut = tmp_path / "a.clvrec", tmp_path / "cut.clvrec"
    write(path, some())
    whole = path.read_bytes()
    for size in range(len(whole)):
        cut.write_bytes(whole[:size])
        with pytest.raises(RecordingUnusable, match=r"cut off|is no recording") as raised:
            Recording(cut).verify()
        assert str(cut) in str(raised.value)
        if size >= len(MAGIC):
            assert f"byte {size}: is cut off" in str(raised.value)


def test_a_changed_byte_is_found_wherever_it_is(tmp_path: Path):
    path, damaged = tmp_path / "a.clvrec", tmp_path / "damaged.clvrec"
    write(path, some())
    whole = path.read_bytes()
    for place in range(len(whole)):
        for bit in (1, 128):
            content = bytearray(whole)
            content[place] ^= bit
            damaged.write_bytes(content)
            with pytest.raises(RecordingUnusable):
                Recording(damaged).verify()


def test_damage_is_named_by_frame_byte_and_record(tmp_path: Path):
    path = tmp_path / "a.clvrec"
    write(path, some())
    places = [at for at, kind, _ in frames(path.read_bytes()) if kind == RECORDS]
    content = bytearray(path.read_bytes())
    content[places[0] + FRAME_BYTES] ^= 1
    path.write_bytes(content)
    where = rf"frame 2 at byte {places[0]}, after 0 records: is damaged: does not fit its checksum"
    with pytest.raises(RecordingUnusable, match=where):
        Recording(path).verify()


def frames(content: bytes):
    """Place, kind and content of each frame."""
    at, found = PREAMBLE.size, []
    while at < len(content):
        kind, stored, length, _ = read_frame_head(content[at : at + FRAME_BYTES])
        start = at + FRAME_BYTES
        found.append((at, kind, decompress(content[start : start + stored], length)))
        at = start + stored
    return found


def assembled(parts) -> bytes:
    """A file of these frames, each in itself as it should be."""
    content = PREAMBLE.pack(MAGIC, VERSION)
    for kind, plain in parts:
        stored = compress(plain)
        content += frame_head(kind, stored, len(plain)) + stored
    return content


@pytest.fixture
def parts(tmp_path: Path):
    path = tmp_path / "several.clvrec"
    with recording_writer(path, head()) as writer:
        dice = random.Random(1)
        for record in some(40):
            value = dice.randbytes(100_000)
            writer.add(Recorded(1, record.partition, record.offset, 1, b"k", value, ()))
        writer.finish()
    found = [(kind, plain) for _, kind, plain in frames(path.read_bytes())]
    assert [kind for kind, _ in found] == [HEAD, RECORDS, RECORDS, RECORDS, RECORDS, END]
    return found


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (lambda p: [p[0], p[2], p[1], *p[3:]], "at offset 0 after offset"),
        (
            lambda p: [p[0], *p[2:]],
            r"says 40 records, \[0, 40(, 0)+\] by topic, and there were",
        ),
        (lambda p: [p[0], p[1], *p[1:]], "at offset 0 after offset"),
        (lambda p: p[:-1], "is cut off"),
        (lambda p: [*p, p[-1]], "follow its end"),
        (lambda p: p[1:], "the first one is a head"),
        (lambda p: [*p[:-1], (b"X", b""), p[-1]], "is of kind b'X'"),
        (lambda p: [(HEAD, b"\xc1"), *p[1:]], "cannot be read"),
    ],
)
def test_frames_that_are_whole_but_not_together_are_refused(tmp_path, parts, change, problem):
    path = tmp_path / "changed.clvrec"
    path.write_bytes(assembled(parts))
    assert Recording(path).verify().records == 40
    path.write_bytes(assembled(change(parts)))
    with pytest.raises(RecordingUnusable, match=problem):
        Recording(path).verify()


def test_the_digest_finds_a_record_that_was_exchanged(tmp_path: Path, parts):
    other = tmp_path / "other.clvrec"
    with recording_writer(other, head()) as writer:
        for record in some(40):
            value = bytes(100_000)
            writer.add(Recorded(1, record.partition, record.offset, 1, b"k", value, ()))
        writer.finish()
    strange = [(kind, plain) for _, kind, plain in frames(other.read_bytes())]
    assert len(strange) == len(parts)
    path = tmp_path / "mixed.clvrec"
    path.write_bytes(assembled([*parts[:2], strange[2], *parts[3:]]))
    with pytest.raises(RecordingUnusable, match="has the digest"):
        Recording(path).verify()


@pytest.mark.parametrize("content", [b"", b"customer_id,date\n", b"\x1f\x8b\x08\x00", b"\x89PNG"])
def test_what_is_no_recording_is_said_to_be_none(tmp_path: Path, content):
    path = tmp_path / "foreign"
    path.write_bytes(content)
    with pytest.raises(RecordingUnusable, match="is no recording"):
        Recording(path).verify()


def test_a_newer_version_says_so(tmp_path: Path):
    path = tmp_path / "newer"
    write(path, some())
    content = bytearray(path.read_bytes())
    content[: PREAMBLE.size] = PREAMBLE.pack(MAGIC, VERSION + 1)
    path.write_bytes(content)
    with pytest.raises(RecordingUnusable, match=r"version 2, this program reads 1.*a newer one"):
        Recording(path).verify()


def test_a_length_that_is_wrong_asks_for_no_memory(tmp_path: Path):
    path = tmp_path / "large"
    stored = compress(bytes(10))
    path.write_bytes(PREAMBLE.pack(MAGIC, VERSION) + frame_head(HEAD, stored, 2**32 - 1) + stored)
    tracemalloc.start()
    try:
        with pytest.raises(RecordingUnusable, match="are the most"):
            Recording(path).verify()
        assert tracemalloc.get_traced_memory()[1] < 10_000_000
    finally:
        tracemalloc.stop()


def test_more_than_fits_memory_is_written_and_read_frame_by_frame(tmp_path: Path):
    path = tmp_path / "large.clvrec"
    value = random.Random(3).randbytes(50_000)
    tracemalloc.start()
    try:
        with recording_writer(path, head()) as writer:
            for number in range(1_000):
                writer.add(Recorded(1, 0, number, number, None, value, ()))
            writer.finish()
        assert sum(1 for _ in Recording(path).records()) == 1_000
        # 50 MB went through.
        assert tracemalloc.get_traced_memory()[1] < 12_000_000
    finally:
        tracemalloc.stop()


def interrupted(path: Path) -> None:
    with recording_writer(path, head()) as writer:
        writer.add(some()[0])
        raise RuntimeError("in between")


def test_without_an_end_nothing_stays(tmp_path: Path):
    with pytest.raises(RuntimeError, match="in between"):
        interrupted(tmp_path / "a.clvrec")
    assert list(tmp_path.iterdir()) == []


def test_what_was_there_stays_until_the_new_one_is_complete(tmp_path: Path):
    path = tmp_path / "a.clvrec"
    before = write(path, some())
    with pytest.raises(RuntimeError, match="in between"):
        interrupted(path)
    assert Recording(path).verify() == before


def test_a_writer_that_is_killed_leaves_no_file_that_looks_complete(tmp_path: Path):
    path = tmp_path / "a.clvrec"
    program = (
        "import sys, time\nfrom pathlib import Path\n"
        "from streams.recording import Head, Recorded, RecordedTopic\n"
        "from streams.recording.writer import recording_writer\n"
        "topics = (RecordedTopic('orders', 'o', 1),)\n"
        "with recording_writer(Path(sys.argv[1]), Head(0, topics, ())) as writer:\n"
        "    for n in range(10**9):\n"
        "        writer.add(Recorded(0, 0, n, 0, None, bytes(100_000)))\n"
        "        if n == 50: print('under way', flush=True)\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", program, str(path)],
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3])},
    )
    assert process.stdout.readline() == b"under way\n"
    time.sleep(0.1)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert not path.exists()
    (draft,) = tmp_path.iterdir()
    with pytest.raises(RecordingUnusable, match="cut off"):
        Recording(draft).verify()


def test_a_topic_that_the_head_does_not_name_is_refused(tmp_path: Path):
    path = tmp_path / "a.clvrec"
    only = Head(0, (RecordedTopic("orders", "o", 1),), ())
    with recording_writer(path, only) as writer:
        writer.add(Recorded(0, 1, 0, 0, None, None))
        writer.finish()
    with pytest.raises(RecordingUnusable, match="of partition 1; its topic has 1"):
        Recording(path).verify()
