"""A compressed batch that would unpack too far: refused as one, with nothing of it read."""

from __future__ import annotations

from typing import NamedTuple

from models.contracts import Reason, Refused


class Packed(NamedTuple):
    """What a batch says about itself.

    first, last: offsets. records: how many it has; None where its format does not say. codec:
    "gzip", "snappy", "lz4" or "zstd". limit: why it is not unpacked, in words.
    """

    first: int
    last: int
    records: int | None
    codec: str
    limit: str


class OversizedBatch(bytes):
    """The value of the one record that stands for such a batch: its bytes, still compressed.

    No publisher can make one: what is read of a record is plain bytes.
    """

    packed: Packed

    @classmethod
    def of(cls, data: bytes, packed: Packed) -> OversizedBatch:
        """A batch's bytes, and what they say."""
        batch = cls(data)
        batch.packed = packed
        return batch


def check_unpacked(value: bytes | None, origin: str) -> None:
    """Raise `Refused` for what stands for a whole batch; origin: "topic/partition"."""
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
