"""Comparing two outcomes of the same events: whose value differs, why, and by how much."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from streams.outcome.digest import Result
from streams.outcome.outcome import Snapshot

COMPONENTS: Mapping[str, tuple[str, ...]] = {
    "margin so far": ("realised", "margin"),
    "cost to serve so far": ("realised", "cost_to_serve"),
    "acquisition cost": ("realised", "acquisition_cost"),
    "P(alive)": ("p_alive",),
    "P(purchase within a year)": ("p_purchase",),
    "expected purchases": ("expected", "purchases"),
    "expected purchase value": ("expected", "purchase_value"),
    "margin of an expected purchase": ("expected", "margin_per_purchase"),
    "expected contacts": ("expected", "contacts"),
    "expected cost to serve": ("expected", "cost_to_serve"),
    "expected value": ("expected", "total"),
}
"""The parts of a value, and their paths in a value update."""

TERMS: Mapping[str, int] = {
    "margin so far": 1,
    "cost to serve so far": -1,
    "acquisition cost": -1,
    "expected value": 1,
}
"""The components whose sum is the value, with their signs."""

_decode = msgspec.json.Decoder().decode


@dataclass(frozen=True, slots=True)
class Moved:
    """A segment that differs, with the evidence on both sides."""

    dimension: str
    first: str | None
    second: str | None
    because_first: Mapping[str, float | None]
    because_second: Mapping[str, float | None]


@dataclass(frozen=True, slots=True)
class Difference:
    """A customer whose value or segments differ; None where the customer does not exist.

    components: the differing parts of the value, with both numbers.
    """

    customer: str
    first: float | None
    second: float | None
    components: Mapping[str, tuple[float | None, float | None]]
    moved: Sequence[Moved]

    @property
    def by(self) -> float:
        """By how much the second is greater, in the shop's currency."""
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
    """The differences between two outcomes, the greatest difference in value first.

    names: of the two outcomes.
    """

    names: tuple[str, str]
    currency: str
    results: tuple[Result, Result]
    differences: Sequence[Difference]

    @property
    def differs(self) -> bool:
        """Whether any value, segment or refusal differs, or a segment change on the way."""
        first, second = self.results
        refused = first.dead_letters != second.dead_letters
        return bool(self.differences) or refused or self.changes_differ

    @property
    def changes_differ(self) -> bool:
        """Whether the segment changes differ; each customer's are compared in their order."""
        first, second = self.results
        return first.digests["changes"] != second.digests["changes"]

    @property
    def by(self) -> float:
        """The sum of the differences, in the shop's currency."""
        return math.fsum(each.by for each in self.differences)

    @property
    def moved(self) -> float:
        """The sum of the absolute differences."""
        return math.fsum(abs(each.by) for each in self.differences)

    def components(self) -> dict[str, tuple[int, float | None]]:
        """Number of differing customers by component, and the sum that it adds to the value.

        None for components that are part of another one.
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
        """Dimension, both segments, number of customers, difference in value; most first."""
        found: defaultdict[tuple[str, str | None, str | None], list[float]] = defaultdict(list)
        for each in self.differences:
            for moved in each.moved:
                found[moved.dimension, moved.first, moved.second].append(each.by)
        listed = [(*where, len(values), math.fsum(values)) for where, values in found.items()]
        return sorted(listed, key=lambda each: (-each[3], str(each[:3])))

    def document(self, number: int) -> dict[str, Any]:
        """The comparison for --json, with the first `number` customers."""
        first, second = self.results
        return {
            "differs": self.differs,
            "names": list(self.names),
            "currency": self.currency,
            "customers": [first.customers, second.customers],
            "value": [first.value, second.value],
            "dead_letters": [dict(first.dead_letters), dict(second.dead_letters)],
            "changes": [first.changes, second.changes],
            "changes_differ": self.changes_differ,
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
    first: Snapshot, second: Snapshot, names: tuple[str, str], currency: str
) -> Comparison:
    """Compare two outcomes of the same events."""
    keys = first.documents.keys() | second.documents.keys()
    found = [
        difference for key in keys if (difference := _difference(key, first, second)) is not None
    ]
    found.sort(key=lambda each: (-abs(each.by), each.customer))
    return Comparison(names, currency, (first.result, second.result), found)


def _difference(key: bytes, first: Snapshot, second: Snapshot) -> Difference | None:
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
    key: bytes, a: Mapping[str, Any], b: Mapping[str, Any], first: Snapshot, second: Snapshot
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


def _because(snapshot: Snapshot, key: bytes, dimension: str) -> Mapping[str, float | None]:
    document = snapshot.reasons.get((key, dimension))
    return {} if document is None else dict(_decode(document)["data"]["reason"]["values"])


def _at(document: Mapping[str, Any], path: Sequence[str]) -> float | None:
    found: Any = document
    for name in path:
        found = found.get(name, {}) if isinstance(found, Mapping) else {}
    return found if isinstance(found, int | float) else None
