"""What a service made of its events, in a few digests that do not depend on how it was made.

Partitions, workers, batches, offsets and repeats leave no trace in them: equal customers and equal
changes of segment, each customer's in their order, give equal digests. Floats count to the last
digit.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec

from models.aggregate.record import CustomerRecord, customers
from models.aggregate.state import Aggregate
from models.contracts.dead_letters import DeadLetter, Headers, noted, split_headers

_SIZE = 16

_encode = msgspec.msgpack.Encoder(order="sorted").encode
_encode_as_stored = msgspec.msgpack.Encoder().encode
_decode_json = msgspec.json.Decoder().decode


class Update(NamedTuple):
    """The published value of a customer, and a digest of all of the document."""

    clv: float
    digest: bytes


@dataclass(slots=True)
class _Told:
    """The changes that were told of a customer: their running digest, and those seen, by id."""

    digest: bytes = b""
    seen: dict[str, bytes] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Result:
    """What a service made of its events.

    value: sum of the customers' values, in the shop's currency. segments: customers by dimension
    and segment. changes: of segment, and customers who went, each counted once. repeats: how often
    one was told again. dead_letters: by reason, each counted once. digests: of the stored
    customers, of their published values, of the changes, and of all three. disagreements: what
    should not be, in words, at most a few.
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
        return {
            "customers": self.customers,
            "value": self.value,
            "segments": {name: dict(counts) for name, counts in self.segments.items()},
            "changes": self.changes,
            "repeats": self.repeats,
            "dead_letters": dict(self.dead_letters),
            "digests": dict(self.digests),
            "disagreements": list(self.disagreements),
        }


_SHOWN = 10


class Results:
    """Takes states, value updates and segment changes, in the order of their partitions."""

    def __init__(self) -> None:
        self.states: dict[bytes, bytes] = {}
        """Encoded customer records by key."""
        self._updates: dict[bytes, Update] = {}
        self._told: defaultdict[bytes, _Told] = defaultdict(_Told)
        self._letters: dict[tuple[str, int, int], str] = {}
        self._repeats = 0
        self._contradictions: list[str] = []

    def state(self, key: bytes, data: bytes | None) -> None:
        """Take a record of the changelog; None takes the key away."""
        if data is None:
            self.states.pop(key, None)
        else:
            self.states[key] = data

    def update(self, key: bytes, document: bytes | None) -> None:
        """Take a record of the value updates; None: the customer is gone."""
        if document is None:
            self._updates.pop(key, None)
            return
        read = _decode_json(document)
        self._updates[key] = Update(read["data"]["clv"], _digest(read))

    def change(self, key: bytes, document: bytes) -> None:
        """Take a change of segment, or a notice of a customer who is gone."""
        read = _decode_json(document)
        told, name, content = self._told[key], read["id"], _digest(read)
        before = told.seen.get(name)
        if before is None:
            told.seen[name] = content
            told.digest = blake2b(told.digest + content, digest_size=_SIZE).digest()
            return
        self._repeats += 1
        if before != content:
            self._contradictions.append(f"{name} was told twice, and not the same")

    def letter(self, headers: Headers) -> None:
        """Take a record of the dead letters; what is no letter of a worker's is passed over."""
        if noted(headers) is None and split_headers(headers) is not None:
            letter = DeadLetter.from_headers(headers)
            self._letters[letter.topic, letter.partition, letter.offset] = letter.reason

    def result(self) -> Result:
        """What all of it comes to."""
        held = sorted(customers(self.states))
        values = sorted(self._updates.items())
        told = sorted((key, each) for key, each in self._told.items())
        digests = {
            "customers": _of_all((key, _customer(record)) for key, record in held),
            "values": _of_all((key, update.digest) for key, update in values),
            "changes": _of_all((key, each.digest) for key, each in told),
        }
        digests["all"] = blake2b("/".join(digests.values()).encode(), digest_size=_SIZE).hexdigest()
        segments: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for _, record in held:
            for dimension, segment in record.segments.items():
                segments[dimension][segment] += 1
        return Result(
            customers=len(held),
            value=math.fsum(update.clv for _, update in values),
            segments={name: dict(sorted(counts.items())) for name, counts in segments.items()},
            changes=sum(len(each.seen) for _, each in told),
            repeats=self._repeats,
            dead_letters=dict(sorted(Counter(self._letters.values()).items())),
            digests=digests,
            disagreements=tuple(self._disagreements(dict(held)))[:_SHOWN],
        )

    def _disagreements(self, held: Mapping[bytes, CustomerRecord]) -> Iterator[str]:
        yield from self._contradictions
        for key, record in held.items():
            update = self._updates.get(key)
            # What is stored of a customer whose history is being loaded is of before it.
            if record.clv is not None and update is None:
                yield f"customer {key.decode()!r} is valued at {record.clv} and not published"
            elif update is not None and not record.backfill and update.clv != record.clv:
                yield (
                    f"customer {key.decode()!r} is valued at {record.clv}, and {update.clv} is "
                    "published"
                )
        for key in self._updates.keys() - held.keys():
            yield f"a value of customer {key.decode()!r} is published, and none is stored"


def _customer(record: CustomerRecord) -> bytes:
    """A digest of what is stored of a customer, without offsets and what is still to be told."""
    return _digest(
        (
            record.version,
            record.as_of,
            record.clv,
            record.segments,
            record.backfill,
            record.erased_at,
            {name: (guest.version, guest.at) for name, guest in record.absorbed.items()},
            # Its dictionaries are in order already: equal aggregates are equal bytes.
            _encode_as_stored(_facts(record.aggregate)),
        )
    )


def _facts(aggregate: Aggregate) -> list[Any]:
    """The fields of an aggregate; the newer ones only if they say something: old digests hold."""
    *fields, settled, superseded = msgspec.structs.astuple(aggregate)
    if settled is not None and not settled.cancelled and settled.cancellations_until < 0:
        settled = msgspec.structs.astuple(settled)[:-2]
    return [*fields, settled, superseded] if superseded else [*fields, settled]


def _digest(content: Any) -> bytes:
    return blake2b(_encode(content), digest_size=_SIZE).digest()


def _of_all(parts: Any) -> str:
    whole = blake2b(digest_size=_SIZE)
    for key, digest in parts:
        whole.update(len(key).to_bytes(4, "big") + key + digest)
    return whole.hexdigest()
