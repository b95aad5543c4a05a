"""What a service came to, as facts in a stable order: one line of text each."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

Fact = Mapping[str, Any]
"""A customer's value and segments, a change, a removal, or dead letters of one reason."""

Facts = dict[str, list[Fact]]
"""Facts by customer, sorted; those that are nobody's are under ""."""


def to_lines(facts: Facts) -> Iterator[str]:
    """Facts as lines of JSON; floats are the shortest text that reads back as the same."""
    for those in facts.values():
        for fact in those:
            yield json.dumps(fact, ensure_ascii=False, allow_nan=False)


def from_lines(text: str) -> Facts:
    """The facts of a file; ValueError with the line for what is none."""
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
        facts.setdefault(fact.get("customer", ""), []).append(fact)
    return facts
