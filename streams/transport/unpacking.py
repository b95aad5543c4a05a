"""Unpack compressed batches up to a limit.

A broker checks only the compressed size of a batch, and aiokafka unpacks all of it at once: 1 MB of
gzip can become 1 GB. Here aiokafka's decoders are replaced by ones that stop at the limit. A size
that the data claims to unpack to is used only to refuse it.
"""

from __future__ import annotations

import gzip
import io
import mmap
import struct
from collections.abc import Callable
from functools import wraps
from typing import Any, Final

import cramjam
from aiokafka import codec
from aiokafka.record import default_records, legacy_records

from models.errors import ClvError

UNPACKED_BYTES: Final = 32 * 1024 * 1024
"""Bytes that a compressed batch may unpack to; the default limit of a topic is 1 MiB."""

MOST_HEADERS: Final = 512 * 1024
"""Headers of a record in a compressed batch: as many as fit into 1 MiB, at two bytes each. A header
of two bytes takes seventy as Python objects."""

_SMALL: Final = 64 * 1024
_XERIAL_HEAD: Final = 16
_NO_ROOM: Final = "failed to write whole buffer"


class UnpacksTooFar(ClvError):
    """A batch exceeds a limit of unpacking; the text says which, for its publisher."""


def _too_far() -> UnpacksTooFar:
    return UnpacksTooFar(f"it unpacks to more than {UNPACKED_BYTES} bytes")


def gzip_decode(payload: Any) -> bytes:
    """Unpack gzip."""
    with gzip.GzipFile(fileobj=io.BytesIO(payload)) as packed:
        data = packed.read(UNPACKED_BYTES + 1)
    if len(data) > UNPACKED_BYTES:
        raise _too_far()
    return data


def snappy_decode(payload: Any) -> bytes:
    """Unpack snappy, as one block or as Java's library frames it."""
    data = bytes(payload)
    if not codec._detect_xerial_stream(data):  # noqa: SLF001
        return _block(data, UNPACKED_BYTES)
    parts: list[bytes] = []
    at, room = _XERIAL_HEAD, UNPACKED_BYTES
    while at < len(data):
        (length,) = struct.unpack_from("!i", data, at)
        if length < 0:
            raise ValueError(f"a block of snappy has the length {length}")
        at += 4
        parts.append(_block(data[at : at + length], room))
        room -= len(parts[-1])
        at += length
    return b"".join(parts)


def _block(data: bytes, room: int) -> bytes:
    # The block starts with its unpacked size; if that is too small, unpacking fails.
    if cramjam.snappy.decompress_raw_len(data) > room:
        raise _too_far()
    return bytes(cramjam.snappy.decompress_raw(data))


def lz4_decode(payload: Any) -> bytes:
    """Unpack lz4."""
    return _into_room(cramjam.lz4.decompress_into, bytes(payload))


def zstd_decode(payload: Any) -> bytes:
    """Unpack zstd."""
    return _into_room(cramjam.zstd.decompress_into, bytes(payload))


def _into_room(decompress_into: Callable[[bytes, Any], int], data: bytes) -> bytes:
    if len(data) < _SMALL // 4:
        small = bytearray(_SMALL)
        if (size := _filled(decompress_into, data, small)) is not None:
            return bytes(memoryview(small)[:size])
    # Only the pages of the mapping that are written to take memory.
    with mmap.mmap(-1, UNPACKED_BYTES) as room:
        size = _filled(decompress_into, data, room)
        if size is None:
            raise _too_far()
        return room[:size]


def _filled(decompress_into: Callable[[bytes, Any], int], data: bytes, room: Any) -> int | None:
    """Return how many bytes were written; None if there was not enough room."""
    with memoryview(room) as view:
        try:
            return decompress_into(data, view)
        except cramjam.DecompressionError as error:
            if _NO_ROOM in str(error):
                return None
            raise


def checked(data: bytes) -> bytes:
    """Return the unpacked records, if none has too many headers."""
    if len(data) <= 2 * MOST_HEADERS:
        return data
    at = 0
    try:
        while at < len(data):
            length, at = _varint(data, at)
            if length > 2 * MOST_HEADERS and (count := _headers(data, at)) > MOST_HEADERS:
                raise UnpacksTooFar(
                    f"a record in it has {count} headers, and {MOST_HEADERS} are allowed"
                )
            at += max(length, 0)
    except IndexError:
        # If these are not records, aiokafka raises a better error.
        pass
    return data


def _headers(data: bytes, at: int) -> int:
    """Return the number of headers of the record whose body starts here."""
    at += 1
    for _ in ("time", "offset"):
        _, at = _varint(data, at)
    for _ in ("key", "value"):
        length, at = _varint(data, at)
        at += max(length, 0)
    count, _ = _varint(data, at)
    return count


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return (value >> 1) ^ -(value & 1), at
        shift += 7


_DECODERS: Final[dict[str, Callable[[Any], bytes]]] = {
    "gzip_decode": gzip_decode,
    "snappy_decode": snappy_decode,
    "lz4_decode": lz4_decode,
    "zstd_decode": zstd_decode,
}


def _records_of(decode: Callable[[Any], bytes]) -> Callable[[Any], bytes]:
    @wraps(decode)
    def records(payload: Any) -> bytes:
        return checked(decode(payload))

    return records


def install() -> None:
    """Make every aiokafka consumer of this process unpack up to the limit."""
    new, old = [default_records], [legacy_records]
    try:
        from aiokafka.record._crecords import default_records as fast  # noqa: PLC0415
        from aiokafka.record._crecords import legacy_records as fast_legacy  # noqa: PLC0415
    except ImportError:
        pass
    else:
        new.append(fast)
        old.append(fast_legacy)
    for name, decode in _DECODERS.items():
        for module in new:
            setattr(module, name, _records_of(decode))
        for module in old:
            # Records of the old formats have no headers.
            setattr(module, name, decode)
