"""A compressed record batch that exceeds the limits of unpacking is refused as a whole."""

from __future__ import annotations

from typing import NamedTuple

from models.contracts import Reason, Refused


class Packed(NamedTuple):
    """The header of a record batch.

    first, last: offsets. records: their number, None if the format does not say. codec: "gzip",
    "snappy", "lz4" or "zstd". limit: why it is not unpacked, in words.
    """

    first: int
    last: int
    records: int | None
    codec: str
    limit: str


class OversizedBatch(bytes):
    """The value of the one record that stands for such a batch: its compressed bytes.

    Publishers cannot forge one: values read from a record are plain bytes.
    """

    packed: Packed

    @classmethod
    def of(cls, data: bytes, packed: Packed) -> OversizedBatch:
        """Make one from a batch's bytes and its header."""
        batch = cls(data)
        batch.packed = packed
        return batch


def check_unpacked(value: bytes | None, origin: str) -> None:
    """Raise `Refused` for an `OversizedBatch`; origin: "topic/partition"."""
    if type(value) is not OversizedBatch:
        return
    packed = value.packed
    topic, _, partition = origin.partition("#")[0].rpartition("/")
    count = "records" if packed.records is None else f"{packed.records} records"
    raise Refused(
        Reason.TOO_LARGE,
        None,
        f"{topic}[{partition}]@{packed.first} to @{packed.last} is one batch of {count} in "
        f"{len(value)} bytes of {packed.codec}; {packed.limit}. None of its records was read; this "
        "letter's value is the batch as it was sent. Unpack it, and publish its records again in "
        "smaller batches",
    )
