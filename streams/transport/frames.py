"""Frames of a copy file: changes of keys, with the changelog mark as of which they are complete.

A frame is a length, a checksum, and its contents; it counts as a whole or not at all.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import islice
from typing import BinaryIO, NamedTuple

import msgspec

from models.fingerprints import COPY_MARK, fingerprint

_FRAME = struct.Struct(">II")
_FRAME_KEYS = 8_192
_FRAME_BYTES = 4 * 1024 * 1024

LARGEST_FRAME = 64 * 1024 * 1024
"""Bytes; more than a frame with the largest record of the changelog takes."""

_COUNTS = {0xDE: 2, 0xDF: 4}
"""Size in bytes of a MessagePack map's count, by the map's first byte."""

_GREATEST = 2**63 - 1

Changes = Mapping[bytes, bytes | None]
"""Values by key; None: the key is deleted."""


class Mark(NamedTuple):
    """A place in a changelog: everything before `next` is applied.

    last, digest: offset and digest of the last record applied; -1 and empty if there was none.
    """

    next: int
    last: int = -1
    digest: bytes = b""


def record_digest(key: bytes, value: bytes | None, secret: bytes = b"") -> bytes:
    """Return a digest by which a record of the changelog is recognised.

    secret: keys the digest, so that nobody else can test deleted keys on it.
    """
    seen = blake2b(len(key).to_bytes(4, "big"), digest_size=16)
    seen.update(key)
    seen.update(b"-" if value is None else b"+" + value)
    return fingerprint(seen.digest(), secret, COPY_MARK)


class Frame(msgspec.Struct, array_like=True):
    """The contents of a frame.

    mark: None except in the last of several frames of one change. at: Unix seconds until which no
    other worker can have written to the changelog.
    """

    mark: Mark | None
    at: float
    changes: dict[bytes, bytes | None]


class _Outline(msgspec.Struct, array_like=True):
    """A frame whose changes are not decoded."""

    mark: Mark | None
    at: float
    changes: msgspec.Raw


_encode = msgspec.msgpack.Encoder().encode
_decode_outline = msgspec.msgpack.Decoder(_Outline).decode
_decode_changes = msgspec.msgpack.Decoder(dict[bytes, bytes | None]).decode


def read_frame(data: bytes) -> Frame | None:
    """Decode a frame; None if `frames` cannot have made it."""
    try:
        outline = _decode_outline(data)
        if _count(outline.changes) > _FRAME_KEYS or not _is_place(outline.mark):
            return None
        return Frame(outline.mark, outline.at, _decode_changes(outline.changes))
    except (msgspec.MsgspecError, RecursionError):
        return None


def _count(changes: msgspec.Raw) -> int:
    """Return how many keys a MessagePack map claims to have."""
    data = bytes(memoryview(changes)[:5])
    if data[0] in _COUNTS:
        return int.from_bytes(data[1 : 1 + _COUNTS[data[0]]])
    return data[0] & 0x0F


def _is_place(mark: Mark | None) -> bool:
    return mark is None or (0 <= mark.next <= _GREATEST and -1 <= mark.last < mark.next)


def apply(state: dict[bytes, bytes], changes: Changes) -> None:
    """Apply changes to a state; None deletes the key."""
    if None not in changes.values():
        state.update(changes)  # type: ignore[arg-type]
        return
    for key, value in changes.items():
        if value is None:
            state.pop(key, None)
        else:
            state[key] = value


def frames(items: Iterable[tuple[bytes, bytes | None]], mark: Mark, at: float) -> Iterator[bytes]:
    """Yield changes as frames, of which the last has the mark; at: as in `Frame`."""
    rows = iter(items)
    chunk = _chunk(rows)
    while True:
        following = _chunk(rows) if chunk else {}
        last = not following
        yield framed(_encode(Frame(mark if last else None, at, chunk)))
        if last:
            return
        chunk = following


def _chunk(rows: Iterator[tuple[bytes, bytes | None]]) -> dict[bytes, bytes | None]:
    chunk: dict[bytes, bytes | None] = {}
    size = 0
    for key, value in islice(rows, _FRAME_KEYS):
        chunk[key] = value
        size += len(key) + len(value or b"")
        if size >= _FRAME_BYTES:
            break
    return chunk


def framed(data: bytes) -> bytes:
    """Prefix contents with their length and checksum."""
    return _FRAME.pack(len(data), zlib.crc32(data)) + data


def next_frame(file: BinaryIO, size: int) -> bytes | None:
    """Return the next frame's contents; None at the end or if the file is damaged there."""
    head = file.read(_FRAME.size)
    if len(head) < _FRAME.size:
        return None
    length, checksum = _FRAME.unpack(head)
    if length > LARGEST_FRAME or file.tell() + length > size:
        return None
    data = file.read(length)
    return data if len(data) == length and zlib.crc32(data) == checksum else None
