"""Two results of the same events, customer by customer: whose value differs, why, by how much."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import msgspec

from streams.recording.digest import Result, Results

COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "margin so far": ("realised", "margin"),
    "cost to serve so far": ("realised", "cost_to_serve"),
    "acquisition cost": ("realised", "acquisition_cost"),
    "P(alive)": ("p_alive",),
    "expected orders": ("expected", "orders"),
    "expected order value": ("expected", "order_value"),
    "margin of an expected order": ("expected", "margin_per_order"),
    "expected contacts": ("expected", "contacts"),
    "expected cost to serve": ("expected", "cost_to_serve"),
    "expected value": ("expected", "total"),
}
"""What a value is made of, and where its document has it."""

TERMS: Mapping[str, int] = {
    "margin so far": 1,
    "cost to serve so far": -1,
    "acquisition cost": -1,
    "expected value": 1,
}
"""Components that are money and make the value, with their signs."""

_decode = msgspec.json.Decoder().decode


class Comparable(Protocol):
    """What a comparison asks of a result.

    documents: each customer's value update, by key. reasons: the last change of each customer's
    segment, by key and dimension.
    """

    @property
    def documents(self) -> Mapping[bytes, bytes]:
        """As above."""

    @property
    def reasons(self) -> Mapping[tuple[bytes, str], bytes]:
        """As above."""

    def result(self) -> Result:
        """What all of it came to."""


class Valued(Results):
    """A result that keeps each customer's value and the reasons of the segments."""

    def __init__(self) -> None:
        super().__init__()
        self.documents: dict[bytes, bytes] = {}
        self.reasons: dict[tuple[bytes, str], bytes] = {}

    def update(self, key: bytes, document: bytes | None) -> None:
        """Take a record of the value updates."""
        super().update(key, document)
        if document is None:
            self.documents.pop(key, None)
        else:
            self.documents[key] = document

    def change(self, key: bytes, document: bytes) -> None:
        """Take a change of segment."""
        super().change(key, document)
        dimension = _decode(document)["data"].get("dimension")
        if dimension is not None:
            self.reasons[key, dimension] = document


@dataclass(frozen=True, slots=True)
class Moved:
    """A segment that differs, and what each was decided on."""

    dimension: str
    first: str | None
    second: str | None
    because_first: Mapping[str, float | None]
    because_second: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Difference:
    """A customer whose value or segments differ; None where there is no such customer.

    components: those that differ, with both values.
    """

    customer: str
    first: float | None
    second: float | None
    components: Mapping[str, tuple[float | None, float | None]]
    moved: Sequence[Moved]

    @property
    def by(self) -> float:
        """How much more the second is, in the shop's currency."""
        return (self.second or 0.0) - (self.first or 0.0)

    def document(self) -> dict[str, Any]:
        """The difference for --json."""
        return {
            "customer_id": self.customer,
            "clv": [self.first, self.second],
            "by": self.by,
            "components": {name: list(both) for name, both in self.components.items()},
            "segments": [
                {
                    "dimension": each.dimension,
                    "segments": [each.first, each.second],
                    "because": [dict(each.because_first), dict(each.because_second)],
                }
                for each in self.moved
            ],
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """What differs between two results, the greatest difference in value first.

    names: of the two.
    """

    names: tuple[str, str]
    currency: str
    results: tuple[Result, Result]
    differences: Sequence[Difference]

    @property
    def differs(self) -> bool:
        """Whether any value, segment or refusal does, or what was told on the way."""
        first, second = self.results
        refused = first.dead_letters != second.dead_letters
        return bool(self.differences) or refused or self.told_differs

    @property
    def told_differs(self) -> bool:
        """Whether the changes of segment are not the same, each customer's in their order."""
        first, second = self.results
        return first.digests["changes"] != second.digests["changes"]

    @property
    def by(self) -> float:
        """How much more the second is in all, in the shop's currency."""
        return math.fsum(each.by for each in self.differences)

    @property
    def moved(self) -> float:
        """The sum of the differences whichever way they go."""
        return math.fsum(abs(each.by) for each in self.differences)

    def components(self) -> dict[str, tuple[int, float | None]]:
        """How many customers differ in each component, and what that adds to the value.

        None for what adds to it by way of others.
        """
        found: defaultdict[str, list[float]] = defaultdict(list)
        for each in self.differences:
            for name, (one, other) in each.components.items():
                found[name].append((other or 0.0) - (one or 0.0))
        return {
            name: (
                len(found[name]),
                TERMS[name] * math.fsum(found[name]) if name in TERMS else None,
            )
            for name in COMPONENTS
            if name in found
        }

    def transitions(self) -> list[tuple[str, str | None, str | None, int, float]]:
        """Dimension, both segments, customers, and by how much their values differ; most first."""
        found: defaultdict[tuple[str, str | None, str | None], list[float]] = defaultdict(list)
        for each in self.differences:
            for moved in each.moved:
                found[moved.dimension, moved.first, moved.second].append(each.by)
        listed = [(*where, len(values), math.fsum(values)) for where, values in found.items()]
        return sorted(listed, key=lambda each: (-each[3], str(each[:3])))

    def document(self, number: int) -> dict[str, Any]:
        """The comparison for --json, with so many customers."""
        first, second = self.results
        return {
            "differs": self.differs,
            "names": list(self.names),
            "currency": self.currency,
            "customers": [first.customers, second.customers],
            "value": [first.value, second.value],
            "dead_letters": [dict(first.dead_letters), dict(second.dead_letters)],
            "changes": [first.changes, second.changes],
            "changes_differ": self.told_differs,
            "customers_that_differ": len(self.differences),
            "by": self.by,
            "sum_of_differences": self.moved,
            "components": {
                name: {"customers": customers, "by": by}
                for name, (customers, by) in self.components().items()
            },
            "segments": [
                {"dimension": name, "segments": [a, b], "customers": customers, "by": by}
                for name, a, b, customers, by in self.transitions()
            ],
            "top": [each.document() for each in self.differences[:number]],
        }


def compared(
    first: Comparable, second: Comparable, names: tuple[str, str], currency: str
) -> Comparison:
    """Compare two results of the same events."""
    keys = first.documents.keys() | second.documents.keys()
    found = [
        difference for key in keys if (difference := _difference(key, first, second)) is not None
    ]
    found.sort(key=lambda each: (-abs(each.by), each.customer))
    return Comparison(names, currency, (first.result(), second.result()), found)


def _difference(key: bytes, first: Comparable, second: Comparable) -> Difference | None:
    one, other = first.documents.get(key), second.documents.get(key)
    if one == other:
        return None
    a = {} if one is None else _decode(one)["data"]
    b = {} if other is None else _decode(other)["data"]
    components = {
        name: both
        for name, path in COMPONENTS.items()
        if (both := (_at(a, path), _at(b, path)))[0] != both[1]
    }
    moved = list(_moved(key, a, b, first, second))
    if a.get("clv") == b.get("clv") and not components and not moved:
        return None
    return Difference(key.decode(), a.get("clv"), b.get("clv"), components, moved)


def _moved(
    key: bytes, a: Mapping[str, Any], b: Mapping[str, Any], first: Comparable, second: Comparable
) -> Iterator[Moved]:
    one, other = a.get("segments", {}), b.get("segments", {})
    for dimension in sorted(one.keys() | other.keys()):
        if one.get(dimension) != other.get(dimension):
            yield Moved(
                dimension,
                one.get(dimension),
                other.get(dimension),
                _because(first, key, dimension),
                _because(second, key, dimension),
            )


def _because(valued: Comparable, key: bytes, dimension: str) -> Mapping[str, float | None]:
    document = valued.reasons.get((key, dimension))
    values: Mapping[str, float | None] = (
        {} if document is None else _decode(document)["data"]["reason"]["values"]
    )
    return values


def _at(document: Mapping[str, Any], path: Sequence[str]) -> float | None:
    found: Any = document
    for name in path:
        found = found.get(name, {}) if isinstance(found, Mapping) else {}
    return found if isinstance(found, int | float) else None
