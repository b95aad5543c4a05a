"""Read records that aiokafka cannot read, so that they do not stop a consumer.

Kafka stores header names as bytes. aiokafka decodes them while it unpacks a fetch, and raises if
they are not UTF-8: one such record would stop every worker that reads it. Here such a batch is read
again with undecodable bytes as backslash escapes.

A compressed batch that unpacks too far is read as one record, whose value is the batch itself.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Any, Final, NamedTuple

from aiokafka.consumer import fetcher
from aiokafka.record.default_records import _DefaultRecordBatchPy
from aiokafka.record.memory_records import MemoryRecords

from models.oversized import OversizedBatch, Packed
from streams.transport import unpacking

_LENGTH_AT = 8
_AFTER_LENGTH = 12
_MAGIC_AT = 16

_HEAD: Final = struct.Struct(">qiibIhiqqqhii")
"""A batch's first fields, from its first offset to its number of records."""

_OLD_ATTRIBUTES_AT = 17
_CODECS: Final = {1: "gzip", 2: "snappy", 3: "lz4", 4: "zstd"}


class _ForgivingBytes(bytes):
    """Bytes that decode without errors."""

    def decode(self, encoding: str = "utf-8", _errors: str = "strict") -> str:
        return super().decode(encoding, "backslashreplace")


class _ForgivingBuffer(bytearray):
    """A buffer whose slices are forgiving."""

    def __getitem__(self, index: Any) -> Any:
        part = super().__getitem__(index)
        return _ForgivingBytes(part) if isinstance(index, slice) else part


class _ForgivingBatch(_DefaultRecordBatchPy):  # type: ignore[misc]
    """A record batch read in Python, which replaces its buffer when it is uncompressed."""

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, _ForgivingBuffer(value) if name == "_buffer" else value)


class _Sealed(NamedTuple):
    """A record that stands for a batch that is not unpacked."""

    offset: int
    timestamp: int
    timestamp_type: int
    value: OversizedBatch
    key: None = None
    checksum: None = None
    headers: tuple[tuple[str, bytes], ...] = ()


def _sealed(data: bytes, next_offset: int, limit: str) -> _Sealed:
    """Return the record for a batch; limit: why it is not unpacked."""
    last = next_offset - 1
    if data[_MAGIC_AT] >= 2:
        first, *_, attributes, _, _, timestamp, _, _, _, count = _HEAD.unpack_from(data)
        records: int | None = count
    else:
        # A message set of the old format, which need not have a timestamp.
        first, attributes, timestamp, records = last, data[_OLD_ATTRIBUTES_AT], 0, None
    codec = _CODECS.get(attributes & 7, "an unknown codec")
    value = OversizedBatch.of(data, Packed(first, last, records, codec, limit))
    return _Sealed(last, timestamp, int(bool(attributes & 8)), value)


class _Batch:
    """aiokafka's record batch, and its bytes in case aiokafka cannot read it."""

    def __init__(self, batch: Any, data: memoryview) -> None:
        self._batch = batch
        self._data = data

    def __getattr__(self, name: str) -> Any:
        return getattr(self._batch, name)

    def __next__(self) -> Any:
        return next(self._batch)

    def __iter__(self) -> Iterator[Any]:
        read = 0
        try:
            for record in self._batch:
                read += 1
                yield record
        except UnicodeDecodeError:
            again = _ForgivingBatch(bytearray(self._data))
            for number, record in enumerate(again):
                if number >= read:
                    yield record
        except unpacking.UnpacksTooFar as error:
            yield _sealed(bytes(self._data), self._batch.next_offset, str(error))


class ForgivingRecords:
    """The record batches of a fetch response; takes the place of aiokafka's `MemoryRecords`."""

    def __init__(self, data: bytes) -> None:
        self._data = memoryview(data)
        self._records = MemoryRecords(data)
        self._at = 0

    def has_next(self) -> bool:
        """Whether another batch follows."""
        return bool(self._records.has_next())

    def next_batch(self) -> _Batch:
        """The next batch."""
        start = self._at
        length = int.from_bytes(self._data[start + _LENGTH_AT : start + _AFTER_LENGTH], "big")
        self._at = start + _AFTER_LENGTH + length
        return _Batch(self._records.next_batch(), self._data[start : self._at])

    def size_in_bytes(self) -> int:
        """Size of all batches."""
        return int(self._records.size_in_bytes())


def install() -> None:
    """Make every aiokafka consumer of this process read records this way."""
    unpacking.install()
    fetcher.MemoryRecords = ForgivingRecords
