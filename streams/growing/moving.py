"""What moves when there are more partitions: pure, from what is stored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import msgspec

from models.aggregate.record import (
    Forgotten,
    decode_forgotten,
    decode_record,
    encode_record,
    is_customer,
    is_forgotten,
)
from streams.kafka.partitions import home_partition


class Growth(NamedTuple):
    """From how many partitions to how many."""

    old: int
    new: int

    def home(self, key: bytes) -> int:
        """Where a customer's key is at home afterwards."""
        return home_partition(key, self.new)

    def sources(self, partition: int) -> range:
        """The old partitions from which customers may come to a partition, itself included."""
        if self.new % self.old == 0:
            first = partition % self.old
            return range(first, first + 1)
        return range(self.old)


def outgoing(held: Mapping[bytes, bytes], partition: int, growth: Growth) -> dict[bytes, bytes]:
    """The customers' records that leave a partition, as they are to be stored elsewhere.

    Their outboxes are emptied: all in them is delivered, and names a topic-partition that the new
    owner does not read.
    """
    return {
        key: _without_outbox(data)
        for key, data in held.items()
        if is_customer(key) and growth.home(key) != partition
    }


def outbox(held: Mapping[bytes, bytes]) -> Iterator[tuple[bytes, str, int]]:
    """Key, origin and offset of everything that waits in the outboxes of a partition."""
    for key, data in held.items():
        if is_customer(key):
            entries = decode_record(data, key).outbox
        elif is_forgotten(key):
            entries = decode_forgotten(data, key).outbox
        else:
            continue
        for entry in entries:
            yield key, entry.origin, entry.offset


def forgotten(held: Mapping[bytes, bytes]) -> dict[bytes, bytes]:
    """What is remembered in a partition of erased customers."""
    return {key: data for key, data in held.items() if is_forgotten(key)}


def inherited(
    partition: int, by_partition: Mapping[int, Mapping[bytes, bytes]], growth: Growth
) -> dict[bytes, bytes]:
    """What a partition is to remember of erased customers, and does not remember yet.

    Nobody can tell from the fingerprint of an id where it is at home: what an old partition
    remembers goes to all that its customers may have moved to. by_partition: what each remembers.
    """
    wanted: dict[bytes, bytes] = {}
    for source in growth.sources(partition):
        for key, data in by_partition.get(source, {}).items():
            wanted[key] = joined(wanted[key], data) if key in wanted else data
    own = by_partition.get(partition, {})
    result: dict[bytes, bytes] = {}
    for key, data in wanted.items():
        if key in own:
            data = joined(own[key], data)  # noqa: PLW2901 - one of two
        silent = _silent(data)
        if key not in own or silent != _silent(own[key]):
            result[key] = encode_record(silent)
    return result


def joined(one: bytes, other: bytes) -> bytes:
    """What two partitions remember of an erased customer, as one record."""
    left, right = decode_forgotten(one), decode_forgotten(other)
    newer, older = (left, right) if left.version >= right.version else (right, left)
    applied = dict(older.applied)
    for origin, offset in newer.applied.items():
        applied[origin] = max(offset, applied.get(origin, -1))
    erased_at = max(left.erased_at, right.erased_at)
    return encode_record(msgspec.structs.replace(newer, erased_at=erased_at, applied=applied))


def _silent(data: bytes) -> Forgotten:
    """What is remembered, without an outbox."""
    return msgspec.structs.replace(decode_forgotten(data), outbox=())


def _without_outbox(data: bytes) -> bytes:
    record = decode_record(data)
    if not record.outbox:
        return data
    record.outbox = ()
    return encode_record(record)
