"""Errors in the rules of a configuration file: file, line, dimension, rule, and what to do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any, Final

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from models.segments import Condition, Dimension, Rule, RuleError
from streams.toml_places import Place

DIMENSIONS: Final = "dimensions"

_FORMS: Final[Mapping[str, str]] = {
    "dimension": '[[dimensions]] with name = "tier" and [[dimensions.rules]], or use = "tier"',
    "rule": '[[dimensions.rules]] with id = "gold", segment = "gold", and conditions under all '
    "or any",
    "condition": '{ feature = "clv", is = "at least", bound = 100 }, perhaps with leave = 80',
}
_NAMES: Final = {
    "name": "lower-case letters, digits and hyphens, beginning with a letter, at most 40",
    "id": "lower-case letters, digits and hyphens, beginning with a letter, at most 40",
    "segment": "a text in quotes of 1 to 60 characters",
    "stay_days": "a whole number from 0 to 3650",
    "is": '"at least", "at most", "below" or "above"; of texts "one of" or "none of"',
    "feature": "the name of a feature, as `clv features` lists them",
    "all": "a list of conditions: [{ … }, { … }]",
    "any": "a list of conditions: [{ … }, { … }]",
    "rules": "[[dimensions.rules]], once for each rule",
    "dimensions": "[[dimensions]], once for each dimension",
}


def place_of(error: ErrorDetails) -> Place:
    """Return where in the settings an error is; with the rule that a dimension's error is about."""
    where = tuple(error["loc"])
    cause = error.get("ctx", {}).get("error")
    return (*where, cause.index) if isinstance(cause, RuleError) else where


def line_of(where: Place, lines: Mapping[Place, int]) -> int | None:
    """Return the line of a place, or of the nearest that is in the file and is around it."""
    for end in range(len(where), 0, -1):
        if (line := lines.get(where[:end])) is not None:
            return line
    return None


def problem(error: ErrorDetails, given: Any) -> str:
    """Return what is wrong with the rules, where, and what to do. given: them, as configured."""
    where = place_of(error)
    return ": ".join(
        each for each in (", ".join(_named(where, given)), _said(error, where)) if each
    )


def _named(where: Place, given: Any) -> list[str]:
    """Return dimension and rule by name, or by number where they have none."""
    named = []
    dimension = _at(given, where[1:2])
    if len(where) > 1:
        name = _at(dimension, ("name",)) or _at(dimension, ("use",))
        named.append(f"dimension {name!r}" if name else f"dimension number {_count(where[1])}")
    if len(where) > 3 and where[2] == "rules":
        name = _at(dimension, ("rules", where[3], "id"))
        named.append(f"rule {name!r}" if name else f"rule number {_count(where[3])}")
    return named


def _said(error: ErrorDetails, where: Place) -> str:
    kind, key = error["type"], str(where[-1])
    if kind == "extra_forbidden":
        known = _keys(where)
        close = get_close_matches(key, known, 1)
        meant = f"did you mean {close[0]!r}? " if close else ""
        return f"unknown key {key!r}: {meant}there are {', '.join(known)}"
    if kind == "missing":
        return f"{key} is missing; write {_form(where)}"
    if kind == "value_error":
        return error["msg"].removeprefix("Value error, ")
    expected = _NAMES.get(key) or _form((*where, ""))
    return f"{key if isinstance(where[-1], str) else 'it'} is {error['input']!r}; write {expected}"


def _what(where: Place) -> type[BaseModel]:
    """Return what the last key of a place belongs to."""
    depth = sum(isinstance(each, int) for each in where[:-1])
    return Dimension if depth == 1 else Rule if depth == 2 else Condition


def _form(where: Place) -> str:
    return _FORMS[_what(where).__name__.lower()]


def _keys(where: Place) -> Sequence[str]:
    kind = _what(where)
    keys = [field.alias or name for name, field in kind.model_fields.items()]
    return [*keys, "use"] if kind is Dimension else keys


def _at(given: Any, where: Place) -> Any:
    for each in where:
        try:
            given = given[each]
        except (KeyError, IndexError, TypeError):
            return None
    return given


def _count(index: str | int) -> int:
    return int(index) + 1
