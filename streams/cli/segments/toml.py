"""Rules as TOML, in the form of the configuration file."""

from __future__ import annotations

import json
from collections.abc import Iterator

from models.segments import Condition, Rules
from models.segments.conditions import Bound


def toml_of(rules: Rules) -> str:
    """Return rules as text that a configuration file can have."""
    return "\n".join(_lines(rules))


def _lines(rules: Rules) -> Iterator[str]:
    yield f"# rules {rules.version}"
    for dimension in rules.dimensions:
        yield ""
        yield "[[dimensions]]"
        yield f"name = {_text(dimension.name)}"
        for rule in dimension.rules:
            yield ""
            yield "[[dimensions.rules]]"
            yield f"id = {_text(rule.id)}"
            yield f"segment = {_text(rule.segment)}"
            if rule.stay_days:
                yield f"stay_days = {rule.stay_days}"
            for name, conditions in (("all", rule.all), ("any", rule.any)):
                if conditions:
                    yield f"{name} = ["
                    yield from (f"  {_condition(each)}," for each in conditions)
                    yield "]"


def _condition(condition: Condition) -> str:
    leave = "" if condition.leave is None else f", leave = {_bound(condition.leave)}"
    return (
        f"{{ feature = {_text(condition.feature)}, is = {_text(condition.is_)}, "
        f"bound = {_bound(condition.bound)}{leave} }}"
    )


def _bound(bound: Bound) -> str:
    if isinstance(bound, tuple):
        return f"[{', '.join(map(_text, bound))}]"
    if isinstance(bound, str):
        return _text(bound)
    return str(int(bound)) if bound == int(bound) and abs(bound) < 1e15 else repr(bound)


def _text(text: str) -> str:
    # A JSON string is a TOML string, but for surrogates, which no text here has.
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
