"""Digests of an outcome that do not depend on how the service got there.

Equal customers, and equal changes of each customer in their order, give equal digests, whatever the
partitions, workers, batches, offsets and repeats. Floats count to the last digit.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from hashlib import blake2b
from typing import Any, Final

import msgspec

from models.aggregate.record import CustomerRecord

SIZE: Final = 16
"""Bytes of a digest."""

_encode = msgspec.msgpack.Encoder(order="sorted").encode
_encode_as_stored = msgspec.msgpack.Encoder().encode


@dataclass(frozen=True, slots=True)
class Result:
    """What a service made of its events.

    value: sum of the customers' values, in the shop's currency. segments: customers by dimension
    and segment. changes: segment changes and removals, each counted once. repeats: how often one
    was published again. dead_letters: by reason, each counted once. digests: of the stored
    customers, of their published values, of the changes, and of all three. disagreements: the
    first inconsistencies, in words.
    """

    customers: int
    value: float
    segments: Mapping[str, Mapping[str, int]]
    changes: int
    repeats: int
    dead_letters: Mapping[str, int]
    digests: Mapping[str, str]
    disagreements: tuple[str, ...]

    @property
    def digest(self) -> str:
        """The digest of everything."""
        return self.digests["all"]

    def document(self) -> dict[str, Any]:
        """The result for --json."""
        return asdict(self)


def digest_of(content: Any) -> bytes:
    """The digest of a document; the order of its fields does not matter."""
    return blake2b(_encode(content), digest_size=SIZE).digest()


def digest_of_all(parts: Iterable[tuple[bytes, bytes]]) -> str:
    """The digest of keys and their digests, in the given order, as hexadecimal digits."""
    whole = blake2b(digest_size=SIZE)
    for key, digest in parts:
        whole.update(len(key).to_bytes(4, "big") + key + digest)
    return whole.hexdigest()


def digest_of_customer(record: CustomerRecord) -> bytes:
    """The digest of a stored record, without applied offsets and outbox."""
    return digest_of(
        (
            record.version,
            record.as_of,
            record.clv,
            record.segments,
            record.backfill,
            record.erased_at,
            {name: (merged.version, merged.at) for name, merged in record.absorbed.items()},
            # Its dictionaries are in order already: equal aggregates are equal bytes.
            _encode_as_stored(record.aggregate),
        )
    )
