"""What a service made of its events, taken from the topics that hold it."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
from pydantic import ValidationError

from models.aggregate.record import CustomerRecord, customers
from models.contracts import NOTICES
from models.contracts.dead_letters import DeadLetter, Headers, noted, split_headers
from models.errors import ClvError
from streams.outcome.digest import SIZE, Result, digest_of, digest_of_all, digest_of_customer
from streams.outcome.facts import Fact, Facts, fact_of_change, fact_of_value

ROLES = ("changelog", "updates", "segment_changes", "dead_letters")
"""Roles of the topics that hold it."""

_SHOWN = 10

_decode = msgspec.json.Decoder().decode


class UnreadableOutput(ClvError):
    """A topic of outputs holds a document that the service did not publish; the text says which."""


class _Update(NamedTuple):
    """A published value, and the digest of its document."""

    clv: float
    digest: bytes


@dataclass(slots=True)
class _Changes:
    """The published segment changes and removals of a customer: their digest, and digests by id.

    documents: each change once, in order, if they are kept.
    """

    digest: bytes = b""
    seen: dict[str, bytes] = field(default_factory=dict)
    documents: list[bytes] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What two outcomes are compared by.

    documents: value updates by key. reasons: each segment's last change, by key and dimension.
    """

    result: Result
    documents: Mapping[bytes, bytes]
    reasons: Mapping[tuple[bytes, str], bytes]


class Outcome:
    """Takes states, value updates, segment changes and dead letters; repeats count once.

    Each partition's records must be given in their order. detailed: keep each customer's documents,
    which facts and snapshots need; digests do without, in less memory.
    """

    def __init__(self, *, detailed: bool = True) -> None:
        self._detailed = detailed
        self._states: dict[bytes, bytes] = {}
        self._updates: dict[bytes, _Update] = {}
        self._documents: dict[bytes, bytes] = {}
        self._changes: defaultdict[bytes, _Changes] = defaultdict(_Changes)
        self._letters: dict[tuple[str, int, int], str] = {}
        self.first_refusal = ""
        """Place and reason of the first dead letter, in words; empty: there is none."""
        self._repeats = 0
        self._contradictions: list[str] = []

    def take(self, role: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """Take a record of the topic that has one of ROLES; UnreadableOutput."""
        if role == "dead_letters":
            self.letter(headers)
        elif key is None:
            return
        elif role == "changelog":
            self.state(key, value)
        elif role == "updates":
            self.update(key, value)
        elif value is not None:
            self.change(key, value)

    def state(self, key: bytes, data: bytes | None) -> None:
        """Take a record of the changelog; None removes the key."""
        if data is None:
            self._states.pop(key, None)
        else:
            self._states[key] = data

    def update(self, key: bytes, document: bytes | None) -> None:
        """Take a record of the value updates; None: the customer is gone."""
        if document is None:
            self._updates.pop(key, None)
            self._documents.pop(key, None)
            return
        read = _read(key, document)
        clv = _field(key, read["data"], "clv", int | float)
        self._updates[key] = _Update(clv, digest_of(read))
        if self._detailed:
            self._documents[key] = document

    def change(self, key: bytes, document: bytes) -> None:
        """Take a segment change or a removal."""
        read = _read(key, document)
        changes, name, content = self._changes[key], _field(key, read, "id", str), digest_of(read)
        before = changes.seen.get(name)
        if before is None:
            changes.seen[name] = content
            changes.digest = blake2b(changes.digest + content, digest_size=SIZE).digest()
            if self._detailed:
                changes.documents.append(document)
            return
        self._repeats += 1
        if before != content:
            self._contradictions.append(f"{name} was told twice, and not the same")

    def letter(self, headers: Headers) -> None:
        """Take a record of the dead letters; notices, notes and foreign records are ignored."""
        if noted(headers) is None and split_headers(headers) is not None:
            try:
                letter = DeadLetter.from_headers(headers)
            except ValidationError:
                return
            if letter.reason in NOTICES:
                return
            if not self._letters:
                where = f"{letter.topic}[{letter.partition}]@{letter.offset}"
                self.first_refusal = f"{where}, {letter.reason}: {letter.message}"
            self._letters[letter.topic, letter.partition, letter.offset] = letter.reason

    def result(self) -> Result:
        """Summarise everything taken so far."""
        held = sorted(customers(self._states))
        values = sorted(self._updates.items())
        changes = sorted((key, each) for key, each in self._changes.items())
        digests = {
            "customers": digest_of_all((key, digest_of_customer(record)) for key, record in held),
            "values": digest_of_all((key, update.digest) for key, update in values),
            "changes": digest_of_all((key, each.digest) for key, each in changes),
        }
        digests["all"] = blake2b("/".join(digests.values()).encode(), digest_size=SIZE).hexdigest()
        segments: defaultdict[str, Counter[str]] = defaultdict(Counter)
        for _, record in held:
            for dimension, segment in record.segments.items():
                segments[dimension][segment] += 1
        return Result(
            customers=len(held),
            value=math.fsum(update.clv for _, update in values),
            segments={name: dict(sorted(counts.items())) for name, counts in segments.items()},
            changes=sum(len(each.seen) for _, each in changes),
            repeats=self._repeats,
            dead_letters=self._reasons(),
            digests=digests,
            disagreements=tuple(self._disagreements(dict(held)))[:_SHOWN],
        )

    def snapshot(self) -> Snapshot:
        """The outcome for a comparison; it must be detailed."""
        reasons: dict[tuple[bytes, str], bytes] = {}
        for key, changes in self._changes.items():
            for document in changes.documents:
                dimension = _decode(document)["data"].get("dimension")
                if dimension is not None:
                    reasons[key, dimension] = document
        return Snapshot(self.result(), self._documents, reasons)

    def facts(self) -> Facts:
        """All facts by customer; the outcome must be detailed.

        A customer's value comes first, then changes and removals in order.
        """
        facts: defaultdict[str, list[Fact]] = defaultdict(list)
        for key in sorted(self._documents.keys() | self._changes.keys()):
            name = key.decode()
            if key in self._documents:
                facts[name].append(fact_of_value(name, _decode(self._documents[key])))
            if key in self._changes:
                documents = self._changes[key].documents
                facts[name] += [fact_of_change(name, _decode(each)) for each in documents]
        if letters := self._reasons():
            facts[""] = [{"dead_letters": name, "count": count} for name, count in letters.items()]
        return dict(facts)

    def _reasons(self) -> dict[str, int]:
        """Dead letters by reason."""
        return dict(sorted(Counter(self._letters.values()).items()))

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


def _read(key: bytes, document: bytes) -> dict[str, Any]:
    """A published document whose data is an object; UnreadableOutput."""
    try:
        read = _decode(document)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise _foreign(key, f"it is not JSON: {error}") from error
    if not isinstance(read, dict) or not isinstance(read.get("data"), dict):
        raise _foreign(key, "it has no object `data`")
    return read


def _field(key: bytes, read: Mapping[str, Any], name: str, kind: Any) -> Any:
    value = read.get(name)
    if not isinstance(value, kind):
        raise _foreign(key, f"its `{name}` is {value!r:.40}")
    return value


def _foreign(key: bytes, why: str) -> UnreadableOutput:
    return UnreadableOutput(
        f"the record with the key {key.decode('utf-8', 'backslashreplace')!r} is none that the "
        f"service publishes: {why}. See who else may write to this topic"
    )
