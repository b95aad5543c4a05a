"""Snapshots in files, to compare versions of the program.

JSON lines, compressed by gzip: a head, a line for each customer, sorted by key, and an end.
"""

from __future__ import annotations

import gzip
import os
import zlib
from collections import defaultdict
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

import msgspec

from models.errors import ClvError
from streams.bounded import TooLarge, lines
from streams.outcome.digest import Result
from streams.outcome.outcome import Snapshot
from streams.private import new_private

FORMAT: Final = "clv-replay-result"
VERSION: Final = 1

LONGEST_LINE: Final = 1024 * 1024
"""Bytes: a customer takes some thousand."""

MOST_NESTED: Final = 200
"""Objects and lists of a line: a customer has some thirty, and Python reads no deeper ones."""

_encode = msgspec.json.Encoder().encode


class SnapshotUnusable(ClvError):
    """A snapshot cannot be used; the text names the file, the problem and what to do."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(f"{path}: {problem}")


class _Format(msgspec.Struct, frozen=True):
    """What every version of the format begins with."""

    format: str
    version: int
    program: str


class Head(_Format, frozen=True):
    """What was replayed; program: the version that did. input: a digest of all events."""

    source: str
    currency: str
    input: str
    customers: int


class _Customer(msgspec.Struct, frozen=True):
    key: str
    update: msgspec.Raw
    reasons: dict[str, msgspec.Raw]


class _Data(msgspec.Struct):
    """What is compared of a value update."""

    clv: float
    segments: dict[str, str]


class _Update(msgspec.Struct):
    data: _Data


class _Values(msgspec.Struct):
    values: dict[str, float | None]


class _Reason(msgspec.Struct):
    reason: _Values


class _Change(msgspec.Struct):
    data: _Reason


class _End(msgspec.Struct, frozen=True):
    result: dict[str, Any]


_decode_format = msgspec.json.Decoder(_Format).decode
_decode_head = msgspec.json.Decoder(Head).decode
_decode_customer = msgspec.json.Decoder(_Customer).decode
_check_update = msgspec.json.Decoder(_Update).decode
_check_change = msgspec.json.Decoder(_Change).decode
_decode_end = msgspec.json.Decoder(_End).decode


def write_snapshot(
    path: Path, snapshot: Snapshot, *, source: str, currency: str, replayed: str
) -> None:
    """Write a snapshot; the file appears once it is complete. Errors: OSError.

    replayed: the digest of the events.
    """
    customers = len(snapshot.documents)
    head = Head(FORMAT, VERSION, _program(), source, currency, replayed, customers)
    reasons: defaultdict[bytes, dict[str, msgspec.Raw]] = defaultdict(dict)
    for (key, dimension), document in sorted(snapshot.reasons.items()):
        reasons[key][dimension] = msgspec.Raw(document)
    draft = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        # Without a time in it, so that equal results are equal files.
        with (
            new_private(draft, "wb") as plain,
            gzip.GzipFile("", "wb", fileobj=plain, mtime=0) as file,
        ):
            file.write(_encode(head) + b"\n")
            for key, document in sorted(snapshot.documents.items()):
                line = _Customer(key.decode(), msgspec.Raw(document), reasons[key])
                file.write(_encode(line) + b"\n")
            file.write(_encode(_End(snapshot.result.document())) + b"\n")
        draft.replace(path)
    finally:
        draft.unlink(missing_ok=True)


def read_snapshot(path: Path) -> tuple[Head, Snapshot]:
    """Read a snapshot, and what was replayed for it.

    Raises SnapshotUnusable when it is not a snapshot, damaged, or written by a newer version;
    OSError when it cannot be read.
    """
    try:
        return _read(path, _checked(lines(path, LONGEST_LINE, packed=True)))
    except TooLarge as error:
        raise SnapshotUnusable(path, f"is damaged, or made to be too large: {error}") from error
    except (gzip.BadGzipFile, msgspec.MsgspecError, UnicodeError, RecursionError) as error:
        raise SnapshotUnusable(
            path, f"is no snapshot of `clv replay memory`, or it is damaged: {error}"
        ) from error
    except (EOFError, StopIteration, zlib.error) as error:
        raise SnapshotUnusable(
            path, "is cut off, or damaged; copy it again, or write it again"
        ) from error


def _checked(found: Iterator[bytes]) -> Iterator[bytes]:
    for number, line in enumerate(found, 1):
        if line.count(b"{") + line.count(b"[") > MOST_NESTED:
            raise TooLarge(f"line {number} has more than {MOST_NESTED} objects and lists")
        yield line


def _read(path: Path, found: Iterator[bytes]) -> tuple[Head, Snapshot]:
    first = next(found)
    written = _decode_format(first)
    if written.format != FORMAT:
        raise SnapshotUnusable(
            path, f"is a {written.format!r}, and no snapshot of `clv replay memory`"
        )
    if written.version != VERSION:
        raise SnapshotUnusable(
            path,
            f"has version {written.version} of the format, written by {written.program}; this "
            f"program reads {VERSION}: use a newer one",
        )
    head = _decode_head(first)
    documents: dict[bytes, bytes] = {}
    reasons: dict[tuple[bytes, str], bytes] = {}
    for _ in range(head.customers):
        customer = _decode_customer(next(found))
        key = customer.key.encode()
        _check_update(customer.update)
        documents[key] = bytes(customer.update)
        for dimension, document in customer.reasons.items():
            _check_change(document)
            reasons[key, dimension] = bytes(document)
    result = msgspec.convert(_decode_end(next(found)).result, Result)
    # Reading on is also what makes gzip look at its checksum.
    if next(found, None) is not None or len(documents) != head.customers:
        raise SnapshotUnusable(path, "does not end where it says; copy it again, or write it again")
    return head, Snapshot(result, documents, reasons)


def _program() -> str:
    try:
        return f"clv-streams {version('clv-streams')}"
    except PackageNotFoundError:
        return "clv-streams, not installed"
