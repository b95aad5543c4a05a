"""The greatest version of any customer that was published: new ones must be above it."""

from __future__ import annotations

from typing import Any

import msgspec
from faust.types import TP

from streams.basis.logs import KafkaLogs
from streams.outgoing import VERSION_HEADER


class _Data(msgspec.Struct):
    version: int = 0


class _Document(msgspec.Struct):
    data: _Data


_decode = msgspec.json.Decoder(_Document).decode


async def greatest_version(logs: KafkaLogs, tp: TP) -> int:
    """The greatest version in a log of value updates or of segment changes; errors: KafkaError."""
    greatest = 0
    async for _, records in logs.read(await logs.bounds([tp])):
        greatest = max(greatest, *map(_version, records), greatest)
    return greatest


def _version(record: Any) -> int:
    if record.value is not None:
        try:
            return _decode(record.value).data.version
        except msgspec.MsgspecError:
            # Not one of ours; readers who compare versions do not read it either.
            return 0
    told = dict(record.headers).get(VERSION_HEADER, b"")
    return int(told) if told.isdigit() else 0
