"""A file with a copy of one partition of a table, as of an offset of its changelog.

The file is a header line and frames. A frame is a length, a checksum, and changes of keys with the
changelog mark as of which the copy is complete. A frame counts as a whole or not at all, so a write
that breaks off leaves the previous complete copy. When the frames are twice as large as the state,
or contain deleted values, a new file is written that replaces this one.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import IO, Any, BinaryIO, NamedTuple, cast

import msgspec
import structlog

from models.errors import ClvError
from streams.private import make_private_directory, new_private, open_private
from streams.transport.frames import Changes, Mark, apply, framed, frames, next_frame, read_frame

log = structlog.get_logger(__name__)

_MAGIC = b"clv table copy "
_VERSION = 1
_FIRST_LINE = len(_MAGIC) + 5
_SLACK_BYTES = 16 * 1024 * 1024

MAX_AGE_SECONDS = 12 * 3600.0
"""An older copy is not used, on disk or in memory. Kafka drops tombstones after a day
(`delete.retention.ms`), and then the changelog would no longer delete their keys from the copy."""


class CopyUnusable(ClvError):
    """The file cannot be used, and is not changed; the text says why, and what to do."""


class _Identity(msgspec.Struct, frozen=True, array_like=True):
    """What the file is a copy of; partitions: of the whole table."""

    changelog: str
    partition: int
    partitions: int


class Contents(NamedTuple):
    """The contents of a file; without a mark they cannot be used."""

    mark: Mark | None
    state: dict[bytes, bytes]


_encode = msgspec.msgpack.Encoder().encode
_decode_identity = msgspec.msgpack.Decoder(_Identity).decode


class CopyFile:
    """The copy of one partition, locked for this process while it is open.

    holds_deleted: whether the file may still contain deleted values, until it is compacted. Not
    thread-safe. All methods raise OSError if the disk fails.
    """

    def __init__(self, path: Path, changelog: str, partition: int, partitions: int) -> None:
        self.path = path
        self.mark: Mark | None = None
        """The mark as of which the file is complete."""
        self._identity = _Identity(changelog, partition, partitions)
        self._file: BinaryIO | None = None
        self._lock: IO[Any] | None = None
        self._full_bytes = 0
        self._at = 0.0
        self.holds_deleted = False

    def open(self, wait_seconds: float) -> None:
        """Lock the file for this process, waiting for a process that is about to release it.

        Raises CopyUnusable if another process keeps the lock.
        """
        make_private_directory(self.path.parent)
        self._lock = open_private(self.path.with_suffix(".lock"), "ab")
        try:
            _lock_file(self._lock, wait_seconds)
        except BlockingIOError:
            self._lock.close()
            self._lock = None
            raise CopyUnusable(
                "another process has it open; give each worker a state directory of its own"
            ) from None
        # A replacement that a killed process left unfinished.
        self._beside.unlink(missing_ok=True)

    @property
    def _beside(self) -> Path:
        return self.path.with_suffix(".new")

    def load(self) -> Contents:
        """Read the file; a damaged end is cut off.

        Raises CopyUnusable if the file is something else, or was written by a newer version.
        """
        state, at = self._read()
        if self.mark is not None and not abs(time.time() - at) <= MAX_AGE_SECONDS:
            log.info("the copy of a table is too old to be used", file=str(self.path))
            self.mark = None
        return Contents(self.mark, state if self.mark is not None else {})

    def _read(self) -> tuple[dict[bytes, bytes], float]:
        """Return the file's state and age; `mark` is set."""
        self._close_file()
        self.mark = None
        self.holds_deleted = False
        mode = "r+b" if self.path.exists() else "w+b"
        file = self._file = cast("BinaryIO", open_private(self.path, mode, buffering=0))
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if size == 0 or not self._is_ours(file, size):
            return {}, 0.0
        return self._load_frames(file, size)

    def append(self, changes: Changes, mark: Mark, at: float) -> None:
        """Write changes that make the copy complete as of a mark; at: as in `Frame`."""
        file = self._require_file()
        for data in frames(changes.items(), mark, at):
            _write_all(file, data)
        self.mark, self._at = mark, at
        self.holds_deleted = self.holds_deleted or None in changes.values()
        if file.tell() > 2 * self._full_bytes + _SLACK_BYTES:
            self.compact()

    def compact(self) -> None:
        """Replace the file by one without replaced and deleted values."""
        mark, at = self.mark, self._at
        if mark is None:
            return
        state, _ = self._read()
        if self.mark != mark:
            raise CopyUnusable("what was written is not there any more: the disk is faulty")
        self.rewrite(state, mark, at)

    def rewrite(self, state: Changes, mark: Mark, at: float) -> None:
        """Replace the whole copy; at: as in `Frame`."""
        beside = self._beside
        with new_private(beside, "wb", buffering=0) as file:
            _write_all(file, _MAGIC + b"%04d\n" % _VERSION)
            _write_all(file, framed(_encode(self._identity)))
            for data in frames(state.items(), mark, at):
                _write_all(file, data)
            # The contents must reach the disk before the rename does.
            os.fsync(file.fileno())
        self._close_file()
        beside.replace(self.path)
        self._file = self.path.open("r+b", buffering=0)
        self._full_bytes = self._file.seek(0, os.SEEK_END)
        self.mark, self._at = mark, at
        self.holds_deleted = False

    def close(self) -> None:
        """Close the file, and release the lock."""
        self._close_file()
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def _is_ours(self, file: BinaryIO, size: int) -> bool:
        """Return whether the header is that of this partition."""
        line = file.read(_FIRST_LINE)
        if line != _MAGIC[: len(line)] and not line.startswith(_MAGIC):
            raise CopyUnusable("it is no copy of a table; move it away, or set another state_dir")
        if len(line) < _FIRST_LINE:
            return False
        try:
            version = int(line[len(_MAGIC) :])
        except ValueError:
            raise CopyUnusable("its first line is damaged; remove it") from None
        if version > _VERSION:
            raise CopyUnusable(
                f"a newer version wrote it (format {version}, known up to {_VERSION}); run that "
                "version, or remove the file"
            )
        try:
            found = _decode_identity(next_frame(file, size) or b"")
        except (msgspec.MsgspecError, RecursionError):
            found = None
        if found != self._identity:
            log.warning(
                "a file is no copy of this partition; it is made anew from the changelog",
                file=str(self.path),
                found="damaged" if found is None else str(found),
                wanted=str(self._identity),
            )
        return found == self._identity

    def _load_frames(self, file: BinaryIO, size: int) -> tuple[dict[bytes, bytes], float]:
        """Return state and age as of the last complete frame, and cut the file off there."""
        state: dict[bytes, bytes] = {}
        waiting: list[dict[bytes, bytes | None]] = []
        end, at = file.tell(), 0.0
        while (data := next_frame(file, size)) is not None:
            frame = read_frame(data)
            if frame is None:
                break
            waiting.append(frame.changes)
            if frame.mark is None:
                continue
            for changes in waiting:
                apply(state, changes)
            if self.mark is None:
                self._full_bytes = file.tell()
            elif any(None in changes.values() for changes in waiting):
                self.holds_deleted = True
            waiting.clear()
            self.mark, at, end = frame.mark, frame.at, file.tell()
        if end < size:
            log.warning(
                "the end of a table's copy is damaged or was not finished; what is missing is "
                "read from the changelog",
                file=str(self.path),
                kept_bytes=end,
                cut_off_bytes=size - end,
            )
            file.truncate(end)
        file.seek(end)
        self._at = at
        return state, at

    def _require_file(self) -> BinaryIO:
        if self._file is None:
            raise CopyUnusable("it is not open")
        return self._file

    def _close_file(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None


def remove_unused(path: Path) -> bool:
    """Remove the copy at this path if no process has it open; return whether it is gone."""
    with open_private(path.with_suffix(".lock"), "ab") as lock:
        try:
            _lock_file(lock, 0.0)
        except BlockingIOError:
            return False
        path.unlink(missing_ok=True)
        path.with_suffix(".new").unlink(missing_ok=True)
        return True


def _write_all(file: IO[Any], data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[file.write(view) :]


def _lock_file(file: IO[Any], wait_seconds: float) -> None:
    import fcntl  # noqa: PLC0415 - not on Windows, where only workers without a copy run

    until = time.monotonic() + wait_seconds
    while True:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                raise
            time.sleep(0.05)
        else:
            return
