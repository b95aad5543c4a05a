"""Facts: an outcome as lines of JSON in a stable order, for golden files."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Fact = Mapping[str, Any]
"""A customer's value and segments, a change, a removal, or dead letters of one reason."""

_FIELDS: Mapping[str, Mapping[str, Any]] = {
    "value": {"customer": str, "value": object},
    "change": {"customer": str, "change": str, "from": str | None, "to": str, "as_of": str},
    "removed": {"customer": str, "removed": str, "into": str | None, "as_of": str},
    "dead_letters": {"dead_letters": str, "count": int},
}
"""The fields of each kind of fact; values may have more."""

Facts = dict[str, list[Fact]]
"""Facts by customer, sorted; dead letters are under ""."""


def fact_of_value(customer: str, event: Mapping[str, Any]) -> Fact:
    """The fact of a value update."""
    data = event["data"]
    return {
        "customer": customer,
        "value": data["clv"],
        "currency": data["currency"],
        "as_of": data["as_of"],
        "segments": dict(sorted(data["segments"].items())),
    }


def fact_of_change(customer: str, event: Mapping[str, Any]) -> Fact:
    """The fact of a change of segment, or of a customer who is gone."""
    data = event["data"]
    if event["type"] == "clv.segment-changed":
        said = {"change": data["dimension"], "from": data["previous"], "to": data["current"]}
    else:
        said = {"removed": data["reason"], "into": data["merged_into"]}
    return {"customer": customer, **said, "as_of": data["as_of"]}


def to_lines(facts: Facts) -> Iterator[str]:
    """Facts as lines of JSON; floats are the shortest text that reads back as the same."""
    for those in facts.values():
        for fact in those:
            yield json.dumps(fact, ensure_ascii=False, allow_nan=False)


def from_lines(text: str) -> Facts:
    """Parse the lines of a file; ValueError names the first line that is not a fact."""
    facts: Facts = {}
    # Not `splitlines`: ids may hold other characters that it takes for the end of a line.
    for number, line in enumerate(text.split("\n"), 1):
        if not line.strip():
            continue
        try:
            fact = json.loads(line)
        except ValueError as error:
            raise ValueError(f"line {number} is {line[:60]!r}: {error}") from error
        if not isinstance(fact, dict):
            raise ValueError(f"line {number} is {line[:60]!r}, and no object")  # noqa: TRY004
        if wrong := _wrong(fact):
            raise ValueError(f"line {number} is {line[:60]!r}, and {wrong}")
        those = facts.setdefault(fact.get("customer", ""), [])
        if "value" in fact and any("value" in other for other in those):
            raise ValueError(f"line {number} gives {fact['customer']!r} a second value")
        those.append(fact)
    return facts


def _wrong(fact: Fact) -> str:
    """What is wrong with a fact; empty if nothing is."""
    kinds = [kind for kind in _FIELDS if kind in fact]
    if len(kinds) != 1:
        return f"says not one of {', '.join(_FIELDS)}"
    [kind] = kinds
    for name, type_ in _FIELDS[kind].items():
        if name not in fact:
            return f"has no {name}"
        if not isinstance(fact[name], type_):
            return f"its {name} is {fact[name]!r}"
    if kind == "value":
        return "" if isinstance(fact.get("segments", {}), dict) else "its segments are no object"
    unknown = sorted(fact.keys() - _FIELDS[kind].keys())
    return f"has the unknown {', '.join(unknown)}" if unknown else ""
