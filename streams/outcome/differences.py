"""The differences between a golden file and an outcome, as text; the first few customers."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from difflib import unified_diff
from typing import Any

from streams.outcome.facts import Fact, Facts

MOST_CUSTOMERS = 5
MOST_LINES = 12


def difference(golden: Facts, now: Facts) -> str:
    """Describe what differs from a golden file; empty if nothing does."""
    differing = [
        name
        for name in sorted(golden.keys() | now.keys())
        if _text(golden.get(name)) != _text(now.get(name))
    ]
    if not differing:
        return ""
    customers = [name for name in differing if name]
    lines = [_counted(customers, golden, now)]
    if "" in differing:
        lines += ["dead letters", *_indented(_compared(golden.get("", []), now.get("", [])))]
    for name in customers[:MOST_CUSTOMERS]:
        new = "" if name in golden else ", who is new"
        gone = "" if name in now else ", who is gone"
        lines.append(f"customer {name!r}{new}{gone}")
        if name in now:
            lines += _indented(_compared(golden.get(name, []), now[name]))
    if (more := len(customers) - MOST_CUSTOMERS) > 0:
        lines.append(f"and {more} customers more")
    return "\n".join(lines)


def _text(facts: Sequence[Fact] | None) -> str:
    """Facts as text, so that 1 is not 1.0 and -0.0 not 0.0.

    The position of the value among the changes, and the order of fields, do not matter.
    """
    if facts is not None:
        facts = sorted(facts, key=lambda fact: "value" not in fact)
    return json.dumps(facts, sort_keys=True)


def _counted(customers: Sequence[str], golden: Facts, now: Facts) -> str:
    known = sum(1 for name in golden if name)
    new = sum(1 for name in customers if name not in golden)
    gone = sum(1 for name in customers if name not in now)
    return (
        f"customers that differ: {len(customers):,}, of {known:,} in the golden file; "
        f"{new:,} of them new, {gone:,} gone"
    )


def _compared(golden: Sequence[Fact], now: Sequence[Fact]) -> Iterator[str]:
    """The lines of one customer: parts of the value, then facts that are gone (-) or new (+)."""
    was, values = _value(golden), _value(now)
    for name in [*was, *(name for name in values if name not in was)]:
        part, other = was.get(name), values.get(name)
        if json.dumps(part) != json.dumps(other):
            yield f"{name}: {_shown(part)} -> {_shown(other)}{_by(part, other)}"
    before, after = (
        [_said(fact) for fact in facts if "value" not in fact] for facts in (golden, now)
    )
    changes = unified_diff(before, after, n=0, lineterm="")
    yield from (f"{line[0]} {line[1:]}" for line in list(changes)[2:] if line[0] in "-+")


def _value(facts: Sequence[Fact]) -> dict[str, Any]:
    """The parts of a customer's value by name, segments included."""
    fact = next((fact for fact in facts if "value" in fact), {})
    parts = {name: part for name, part in fact.items() if name not in ("customer", "segments")}
    return parts | dict(fact.get("segments", {}))


def _said(fact: Fact) -> str:
    if "change" in fact:
        before = "none" if fact["from"] is None else fact["from"]
        return f"{fact['change']}: {before} -> {fact['to']}, as of {fact['as_of']}"
    if "removed" in fact:
        into = "" if fact["into"] is None else f" into {fact['into']!r}"
        return f"{fact['removed']}{into}, as of {fact['as_of']}"
    return ", ".join(f"{name} {content}" for name, content in fact.items())


def _shown(part: Any) -> str:
    return "nothing" if part is None else str(part)


def _by(before: Any, after: Any) -> str:
    both = isinstance(before, float) and isinstance(after, float)
    return f" ({after - before:+.6g})" if both else ""


def _indented(lines: Iterator[str]) -> list[str]:
    given = list(lines)
    left = len(given) - MOST_LINES
    shown = given if left <= 0 else [*given[:MOST_LINES], f"({left} more of these)"]
    return [f"    {line}" for line in shown]
