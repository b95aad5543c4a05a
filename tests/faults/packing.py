"""Compressed batches as a hostile publisher makes them, sent as they are."""

from __future__ import annotations

import struct
import time
import zlib
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.producer.message_accumulator import BatchBuilder
from aiokafka.record.util import calc_crc32c, encode_varint

GZIP = 1
REQUEST_BYTES = 16 * 1024 * 1024

_HEAD = struct.Struct(">qiibIhiqqqhii")
_AFTER_LENGTH = 12
_CRC_AT = 17
SET_BY_THE_BROKER = 21
"""The first bytes of a batch, which a broker changes: offset, epoch, and what belongs to them."""


class Packed(NamedTuple):
    """A record in a batch: `headers` empty ones."""

    key: bytes | None
    value: bytes
    headers: int = 0


def gzip_batch(records: Sequence[Packed]) -> bytes:
    """A batch of these records, made without holding what it unpacks to."""
    data = b"".join(_gzip(_encoded(offset, record) for offset, record in enumerate(records)))
    now = time.time_ns() // 1_000_000
    batch = bytearray(
        _HEAD.pack(
            0, _HEAD.size - _AFTER_LENGTH + len(data), -1, 2, 0, GZIP, len(records) - 1, now, now,
            -1, -1, -1, len(records),
        )
        + data
    )  # fmt: skip
    struct.pack_into(">I", batch, _CRC_AT, calc_crc32c(bytes(batch[SET_BY_THE_BROKER:])))
    return bytes(batch)


def _encoded(offset: int, record: Packed) -> bytes:
    body = bytearray(b"\0\0")
    encode_varint(offset, body.append)
    for part in (record.key, record.value):
        encode_varint(-1 if part is None else len(part), body.append)
        body += part or b""
    encode_varint(record.headers, body.append)
    body += bytes(2 * record.headers)
    head = bytearray()
    encode_varint(len(body), head.append)
    return bytes(head + body)


def _gzip(parts: Iterable[bytes]) -> Iterator[bytes]:
    packer = zlib.compressobj(9, wbits=31)
    for part in parts:
        yield packer.compress(part)
    yield packer.flush()


class _Ready(BatchBuilder):
    """A batch that is sent as it is."""

    def __init__(self, data: bytes) -> None:
        super().__init__(16_384, 0)
        self.append(timestamp=None, key=None, value=b"")
        self._data = bytearray(data)

    def _build(self) -> bytearray:
        self._buffer = self._data
        return self._data


async def publish_batch(address: str, topic: str, partition: int, data: bytes) -> None:
    """Send a batch, and wait until the broker has it."""
    producer = AIOKafkaProducer(
        bootstrap_servers=address, acks="all", max_request_size=REQUEST_BYTES
    )
    await producer.start()
    try:
        await (await producer.send_batch(_Ready(data), topic, partition=partition))
    finally:
        await producer.stop()
