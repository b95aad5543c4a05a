"""Writing a recording: a file that is there once it is complete."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import msgspec

from models.errors import ClvError
from streams.private import new_private
from streams.recording.format import (
    END,
    FRAME_CONTENT,
    HEAD,
    LARGEST_HEAD,
    LARGEST_RECORD,
    MAGIC,
    MOST_APART,
    MOST_HEADERS,
    PREAMBLE,
    RECORDS,
    VERSION,
    Digest,
    End,
    Head,
    Recorded,
    array_of,
    compress,
    frame_head,
)


class RecordTooLarge(ClvError):
    """A record, or the list of partitions, does not fit a frame; the text says which."""


class RecordingWriter:
    """Writes records one after the other; made by `recording_writer`. Errors: OSError."""

    def __init__(self, path: Path, draft: Path, file: IO[bytes], head: Head) -> None:
        self.head = head
        self.size = file.write(PREAMBLE.pack(MAGIC, VERSION))
        """Bytes of the file so far."""
        self._path = path
        self._draft = draft
        self._file = file
        self._encode = msgspec.msgpack.Encoder().encode
        self._digest = Digest(head.topics)
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._by_topic = [0] * len(head.topics)
        self._first: int | None = None
        self._last: int | None = None
        content = self._encode(head)
        if len(content) > LARGEST_HEAD:
            raise RecordTooLarge(
                f"the list of topics and partitions has {len(content)} bytes; a recording takes "
                f"{LARGEST_HEAD}: record fewer topics"
            )
        self._write(HEAD, content)

    @property
    def records(self) -> int:
        """How many were added."""
        return sum(self._by_topic)

    def add(self, record: Recorded) -> None:
        """Add a record; raises RecordTooLarge."""
        encoded = self._encode(record)
        if len(encoded) > LARGEST_RECORD or len(record.headers) > MOST_HEADERS:
            topic = self.head.topics[record.topic].name
            raise RecordTooLarge(
                f"{topic}[{record.partition}]@{record.offset} has {len(encoded)} bytes and "
                f"{len(record.headers)} headers; a recording takes {LARGEST_RECORD} and "
                f"{MOST_HEADERS}"
            )
        self._waiting.append(encoded)
        self._waiting_bytes += len(encoded)
        self._by_topic[record.topic] += 1
        at = record.timestamp
        self._first = at if self._first is None else min(self._first, at)
        self._last = at if self._last is None else max(self._last, at)
        if self._waiting_bytes >= FRAME_CONTENT:
            self._write_records()

    def finish(self, left_out: Mapping[str, int] | None = None, apart: Sequence[str] = ()) -> End:
        """Write the end, and give the file its name; returns what it holds."""
        self._write_records()
        end = End(
            records=self.records,
            by_topic=tuple(self._by_topic),
            first=self._first,
            last=self._last,
            left_out=dict(left_out or {}),
            digest=self._digest.result(),
            apart=tuple(apart[:MOST_APART]),
        )
        self._write(END, self._encode(end))
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        self._draft.replace(self._path)
        _sync_directory(self._path.parent)
        return end

    def _write_records(self) -> None:
        if self._waiting:
            content = array_of(self._waiting)
            self._digest.add(content)
            self._write(RECORDS, content)
            self._waiting.clear()
            self._waiting_bytes = 0

    def _write(self, kind: bytes, content: bytes) -> None:
        stored = compress(content)
        self.size += self._file.write(frame_head(kind, stored, len(content)))
        self.size += self._file.write(stored)


@contextmanager
def recording_writer(path: Path, head: Head) -> Iterator[RecordingWriter]:
    """A writer of a new recording, kept only after `finish`. Errors: RecordTooLarge, OSError."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with new_private(draft, "wb") as file:
            yield RecordingWriter(path, draft, file, head)
    finally:
        draft.unlink(missing_ok=True)


def _sync_directory(path: Path) -> None:
    """Have the new name outlive a crash of the machine, where directories can be synced."""
    try:
        directory = os.open(path, os.O_RDONLY)
    except PermissionError:  # Windows opens no directories.
        return
    try:
        os.fsync(directory)
    finally:
        os.close(directory)
