"""Reading a recording, and refusing what is none, or not whole."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import msgspec

from streams.recording.format import (
    END,
    FRAME_BYTES,
    HEAD,
    LARGEST_FRAME,
    LARGEST_HEAD,
    MAGIC,
    PREAMBLE,
    RECORDS,
    VERSION,
    Digest,
    End,
    Head,
    Progress,
    Recorded,
    RecordingUnusable,
    decompress,
    most_stored,
    read_frame_head,
)
from streams.recording.limits import GREATEST, OverLimit, check_head, check_records

AGAIN = "copy it once more from where it was written, or record again"

_decode_head = msgspec.msgpack.Decoder(Head).decode
_decode_records = msgspec.msgpack.Decoder(tuple[Recorded, ...]).decode
_decode_end = msgspec.msgpack.Decoder(End).decode


class Recording:
    """A recording; its head is checked at once, the rest as it is read.

    Raises RecordingUnusable for another file, one of a newer version, or a damaged head; OSError.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.size = path.stat().st_size
        with self._frames() as frames:
            self.head = frames.head

    def records(self) -> Iterator[Recorded]:
        """The records in their order, a frame at a time in memory.

        Raises RecordingUnusable where it is damaged or ends too early, after what comes before.
        """
        with self._frames() as frames:
            for batch in frames.batches():
                yield from batch

    def verify(self, progress: Progress = lambda _done, _total: None) -> End:
        """Read it whole, and return what it holds; raises RecordingUnusable."""
        with self._frames() as frames:
            for _ in frames.batches():
                progress(frames.at, frames.size)
            return frames.end

    @contextmanager
    def _frames(self) -> Iterator[_Frames]:
        with self.path.open("rb") as file:
            yield _Frames(self.path, self.size, file)


class _Frames:
    """The frames of an open file, one after the other."""

    end: End
    """Known once all batches are read."""

    def __init__(self, path: Path, size: int, file: IO[bytes]) -> None:
        self.path = path
        self.size = size
        self.at = 0
        self._file = file
        self._number = 0
        self._frame_at = 0
        self._records = 0
        self._last: dict[tuple[int, int], int] = {}
        self.head = self._read_head()
        self._digest = Digest(self.head.topics)
        self._by_topic = [0] * len(self.head.topics)
        self._partitions = [topic.partitions for topic in self.head.topics]

    def _read_head(self) -> Head:
        preamble = self._read(PREAMBLE.size)
        if preamble[: len(MAGIC)] != MAGIC[: len(preamble)] or not preamble:
            raise RecordingUnusable(
                self.path,
                "",
                f"is no recording: it begins with {preamble[: len(MAGIC)]!r}; name a file that "
                "`clv record` wrote",
            )
        if len(preamble) < PREAMBLE.size:
            raise self._cut_off()
        version = PREAMBLE.unpack(preamble)[1]
        if version != VERSION:
            problem = f"has format version {version}, this program reads {VERSION}"
            if version > VERSION:
                problem += ": it was written by a newer one; use that, or a later one"
            raise RecordingUnusable(self.path, f"byte {len(MAGIC)}", problem)
        kind, content = self._frame()
        if kind != HEAD:
            raise self._damaged(f"is of kind {kind!r}, and the first one is a head")
        head: Head = self._decoded(_decode_head, content)
        self._within(check_head, head)
        return head

    def batches(self) -> Iterator[tuple[Recorded, ...]]:
        """The records, frame by frame, and at last the end, which must fit them."""
        while True:
            kind, content = self._frame()
            if kind == END:
                self._finish(self._decoded(_decode_end, content), self._digest.result())
                return
            if kind != RECORDS:
                raise self._damaged(f"is of kind {kind!r}, which no frame has here")
            self._within(check_records, content)
            batch: tuple[Recorded, ...] = self._decoded(_decode_records, content)
            self._digest.add(content)
            for record in batch:
                self._count(record)
            yield batch

    def _count(self, record: Recorded) -> None:
        topic, partition, offset = record.topic, record.partition, record.offset
        if not 0 <= topic < len(self._partitions):
            raise self._damaged(f"has a record of topic {topic}, which the head does not name")
        if not 0 <= partition < self._partitions[topic]:
            raise self._damaged(
                f"has record {self._records} of partition {partition}; its topic has "
                f"{self._partitions[topic]}"
            )
        if offset > GREATEST or not -GREATEST <= record.timestamp <= GREATEST:
            raise self._damaged(
                f"has record {self._records} at offset {offset} of time {record.timestamp}, which "
                "no broker gives"
            )
        last = self._last.get((topic, partition), -1)
        if offset <= last:
            raise self._damaged(
                f"has record {self._records} at offset {offset} after offset {last} of the same "
                "partition"
            )
        self._last[topic, partition] = offset
        self._by_topic[topic] += 1
        self._records += 1

    def _finish(self, end: End, digest: bytes) -> None:
        if (end.records, list(end.by_topic)) != (self._records, self._by_topic):
            raise self._damaged(
                f"says {end.records} records, {list(end.by_topic)} by topic, and there were "
                f"{self._records}, {self._by_topic}"
            )
        if end.digest != digest:
            raise self._damaged(
                f"has the digest {end.digest.hex()} of what comes before, which is {digest.hex()}"
            )
        if self.at != self.size:
            raise RecordingUnusable(
                self.path,
                f"byte {self.at}",
                f"{self.size - self.at} bytes follow its end; {AGAIN}",
            )
        self.end = end

    def _frame(self) -> tuple[bytes, bytes]:
        self._number += 1
        self._frame_at = self.at
        data = self._read(FRAME_BYTES)
        if len(data) < FRAME_BYTES:
            raise self._cut_off()
        fields = read_frame_head(data)
        if fields is None:
            raise self._damaged("its first bytes do not fit their checksum")
        kind, stored_length, length, checksum = fields
        most = LARGEST_FRAME if kind == RECORDS else LARGEST_HEAD
        if length > most:
            raise self._damaged(f"says {length} bytes, and {most} are the most")
        if stored_length > most_stored(length):
            raise self._damaged(f"says that {length} bytes take {stored_length} as they are stored")
        # Asked before reading: a length that is wrong must not ask for memory.
        if stored_length > self.size - self.at:
            raise self._cut_off()
        stored = self._read(stored_length)
        if len(stored) < stored_length:
            raise self._cut_off()
        if zlib.crc32(stored) != checksum:
            raise self._damaged("does not fit its checksum")
        content = decompress(stored, length)
        if content is None:
            raise self._damaged(f"is not {length} bytes compressed by zlib")
        return kind, content

    def _read(self, size: int) -> bytes:
        data = self._file.read(size)
        self.at += len(data)
        return data

    def _decoded(self, decode: Any, content: bytes) -> Any:
        try:
            return decode(content)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise self._damaged(f"cannot be read: {error}") from error

    def _within(self, check: Callable[[Any], None], what: Any) -> None:
        try:
            check(what)
        except OverLimit as error:
            raise self._damaged(str(error)) from error

    def _damaged(self, problem: str) -> RecordingUnusable:
        where = f"frame {self._number} at byte {self._frame_at}, after {self._records} records"
        return RecordingUnusable(self.path, where, f"is damaged: {problem}; {AGAIN}")

    def _cut_off(self) -> RecordingUnusable:
        return RecordingUnusable(
            self.path,
            f"byte {self.size}",
            f"is cut off in frame {max(self._number, 1)}, after {self._records} records, and what "
            f"came after is missing; {AGAIN}",
        )
