"""Compressed batches as a publisher may send them, made without holding what they unpack to."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import Any

import cramjam
from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.util import calc_crc32c, encode_varint

CODECS = {"gzip": 1, "snappy": 2, "lz4": 3, "zstd": 4}
_HEAD = struct.Struct(">qiibIhiqqqhii")
_CRC_AT, _ATTRIBUTES_AT = 17, 21
_SNAPPY_HEAD = struct.pack("!bccccccBii", -126, b"S", b"N", b"A", b"P", b"P", b"Y", 0, 1, 1)


def encoded(offset: int, key: bytes | None, value: bytes) -> bytes:
    """A record of a batch."""
    body = bytearray(b"\0\0")
    encode_varint(offset, body.append)
    for part in (key, value):
        encode_varint(-1 if part is None else len(part), body.append)
        body += part or b""
    encode_varint(0, body.append)
    head = bytearray()
    encode_varint(len(body), head.append)
    return bytes(head + body)


def packed_batch(codec: str, count: int, value: bytes, key: bytes | None = b"c1") -> bytes:
    """A batch of that many records of one value."""
    records = (encoded(offset, key, value) for offset in range(count))
    data = b"".join(_PACKERS[codec](records))
    batch = bytearray(
        _HEAD.pack(
            0, _HEAD.size - 12 + len(data), -1, 2, 0, CODECS[codec], count - 1,
            1_767_225_600_000, 1_767_225_600_000, -1, -1, -1, count,
        )
        + data
    )  # fmt: skip
    struct.pack_into(">I", batch, _CRC_AT, calc_crc32c(bytes(batch[_ATTRIBUTES_AT:])))
    return bytes(batch)


def _gzip(records: Iterator[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(9, wbits=31)
    for record in records:
        yield packer.compress(record)
    yield packer.flush()


def _snappy(records: Iterator[bytes]) -> Iterator[bytes]:
    yield _SNAPPY_HEAD
    for record in records:
        block = bytes(cramjam.snappy.compress_raw(record))
        yield struct.pack("!i", len(block)) + block


def _lz4(records: Iterator[bytes]) -> Iterator[bytes]:
    yield from _streamed(
        cramjam.lz4.Compressor(level=9, content_checksum=False, block_linked=False), records
    )


def _zstd(records: Iterator[bytes]) -> Iterator[bytes]:
    yield from _streamed(cramjam.zstd.Compressor(level=9), records)


def _streamed(packer: Any, records: Iterator[bytes]) -> Iterator[bytes]:
    for record in records:
        packer.compress(record)
        yield bytes(packer.flush())
    yield bytes(packer.finish())


_PACKERS = {"gzip": _gzip, "snappy": _snappy, "lz4": _lz4, "zstd": _zstd}


class _Ready(BatchBuilder):
    """A batch that is sent as it is."""

    def __init__(self, data: bytes) -> None:
        super().__init__(16_384, 0)
        self.append(timestamp=None, key=None, value=b"")
        self._data = bytearray(data)

    def _build(self) -> bytearray:
        self._buffer = self._data
        return self._data


async def publish_batch(servers: str, topic: str, partition: int, data: bytes) -> int:
    """Send a batch as it is; returns the offset of its first record."""
    producer = AIOKafkaProducer(
        bootstrap_servers=servers, acks="all", max_request_size=16 * 1024 * 1024
    )
    await producer.start()
    try:
        sent = await producer.send_batch(_Ready(data), topic, partition=partition)
        return int((await sent).offset)
    finally:
        await producer.stop()
