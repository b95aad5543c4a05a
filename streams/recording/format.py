"""What a recording holds, and how its frames are laid out.

    magic (8 bytes), version (2 bytes, big-endian), frames

    frame: kind (1 byte), length as stored (4), length (4), CRC-32 of what is stored (4),
           CRC-32 of these 13 bytes (4), what is stored: MessagePack, compressed by zlib

The first frame is the head, the last one the end; between them are records in the order in which
they are replayed. The digest is BLAKE2b over the topics and the records as MessagePack, so that
equal slices have equal digests, whenever they were recorded and however they were compressed.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from models.errors import ClvError

MAGIC: Final = b"\x89CLV\r\n\x1a\n"
"""Its bytes are no text, and do not outlive a transfer that takes the file for text."""

VERSION: Final = 1
PREAMBLE: Final = struct.Struct(">8sH")

HEAD: Final = b"H"
RECORDS: Final = b"R"
END: Final = b"E"

_FRAME: Final = struct.Struct(">cIII")
_CHECK: Final = struct.Struct(">I")
_ARRAY: Final = struct.Struct(">BI")
FRAME_BYTES: Final = _FRAME.size + _CHECK.size
"""Bytes before what is stored."""

FRAME_CONTENT: Final = 1024 * 1024
"""Bytes of records after which a frame is written: all but the last are fewer."""

LARGEST_RECORD: Final = 64 * 1024 * 1024
"""Bytes of a record: more than a broker takes, unless it was told to."""

LARGEST_FRAME: Final = FRAME_CONTENT + LARGEST_RECORD + 1024
"""Bytes of a frame's content."""

LARGEST_HEAD: Final = 4 * 1024 * 1024
"""Bytes of the head, and of the end: MOST_PARTITIONS of each of our topics take 1.5 MB."""

MOST_TOPICS: Final = 64
MOST_PARTITIONS: Final = 10_000
"""Partitions of a topic, as `clv partitions grow` allows."""

LONGEST_WORDS: Final = 1_000
"""Characters of a name, and of what was asked for in words."""

MOST_HEADERS: Final = 512 * 1024
"""Headers of a record, as of one in a compressed batch."""

MOST_RECORDS: Final = FRAME_CONTENT // 8 + 1
"""Records of a frame: the smallest takes eight bytes."""

MOST_APART: Final = 100
"""Customers that the end names: a replay names some, and counts no others."""

_LEVEL: Final = 6


Progress = Callable[[int, int], None]
"""Called with how much has been read so far, and how much there is: offsets, or bytes of a file."""


class RecordingUnusable(ClvError):
    """A recording cannot be used; the text says file, place, what is wrong, and what to do."""

    def __init__(self, path: Path, where: str, problem: str) -> None:
        super().__init__(f"{path}{', ' if where else ''}{where}: {problem}")


class RecordedTopic(msgspec.Struct, frozen=True):
    """A topic; role: what it is for, a field of `Topics`."""

    role: str
    name: str
    partitions: int


class Place(NamedTuple):
    """A partition; topic: its index in the head."""

    topic: int
    partition: int


class Span(msgspec.Struct, array_like=True, frozen=True):
    """The offsets read of a partition: from `start` to before `end`. topic: as in `Place`."""

    topic: int
    partition: int
    start: int
    end: int


class Head(msgspec.Struct, frozen=True):
    """What was recorded, without the shop's configuration.

    recorded_at: milliseconds since 1970. since, until: as asked for. customers: how many were asked
    for; None: all. pseudonyms: whether ids are made up.
    """

    recorded_at: int
    topics: tuple[RecordedTopic, ...]
    spans: tuple[Span, ...]
    since: str = "the beginning"
    until: str = "the end"
    customers: int | None = None
    pseudonyms: bool = False


class Recorded(msgspec.Struct, array_like=True, frozen=True, gc=False):
    """A record as it was in its topic; topic: its index in the head.

    timestamp: milliseconds since 1970. headers: the names are UTF-8.
    """

    topic: int
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: tuple[tuple[str, bytes | None], ...] = ()


class End(msgspec.Struct, frozen=True):
    """What a recording holds in all.

    by_topic: records of each topic of the head. first, last: least and greatest timestamp, None
    without records. left_out: records that were read and not recorded, by reason in words. apart:
    customers whom recorded merges name, and whose own events were not asked for.
    """

    records: int
    by_topic: tuple[int, ...]
    first: int | None
    last: int | None
    left_out: dict[str, int]
    digest: bytes
    apart: tuple[str, ...] = ()


def frame_head(kind: bytes, stored: bytes, length: int) -> bytes:
    """The bytes before what is stored."""
    fields = _FRAME.pack(kind, len(stored), length, zlib.crc32(stored))
    return fields + _CHECK.pack(zlib.crc32(fields))


def read_frame_head(data: bytes) -> tuple[bytes, int, int, int] | None:
    """Kind, length as stored, length, and checksum; None where these bytes are damaged."""
    fields, check = data[: _FRAME.size], data[_FRAME.size :]
    if _CHECK.unpack(check)[0] != zlib.crc32(fields):
        return None
    kind, stored, length, checksum = _FRAME.unpack(fields)
    return kind, stored, length, checksum


def array_of(encoded: Sequence[bytes]) -> bytes:
    """What is encoded already, as one array of MessagePack."""
    return b"".join((_ARRAY.pack(0xDD, len(encoded)), *encoded))


def compress(content: bytes) -> bytes:
    """Content as it is stored."""
    return zlib.compress(content, _LEVEL)


def most_stored(length: int) -> int:
    """Bytes that so many take as they are stored, when they do not compress at all."""
    return length + length // 1000 + 64


def decompress(stored: bytes, length: int) -> bytes | None:
    """What was stored, of just this length; None where it is damaged."""
    stream = zlib.decompressobj()
    try:
        content = stream.decompress(stored, length + 1)
    except zlib.error:
        return None
    return content if stream.eof and len(content) == length and not stream.unused_data else None


class Digest:
    """The digest of a recording's content."""

    def __init__(self, topics: tuple[RecordedTopic, ...]) -> None:
        self._hash = blake2b(msgspec.msgpack.encode(topics), digest_size=32)

    def add(self, records: bytes) -> None:
        """Take a frame of records."""
        self._hash.update(records[_ARRAY.size :])

    def result(self) -> bytes:
        """The digest of all that was taken."""
        return self._hash.digest()
