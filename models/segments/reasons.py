"""Why a customer changed segments: the rule, the conditions that decided, and a sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

from models.aggregate.record import Evidence
from models.features import FEATURES, MONEY
from models.segments.conditions import OPERATORS, OPPOSITE, Bound, Comparison, Condition
from models.segments.rules import Dimension, Rule

QuantileOf = Callable[[str, str], float]
"""Returns a quantile of a feature by name, as published with the model; nan for none."""


class Asked(NamedTuple):
    """A condition that may have decided, with all that does not depend on the customer.

    limit: the bound. ends: the id of the rule that is over if the condition does not hold; None if
    it must hold. comparison: as it is reported.
    """

    feature: str
    holds: Callable[[Any, Any], Any]
    limit: Bound
    ends: str | None
    comparison: Comparison
    after: str
    """What the sentence says after the bound."""
    said: str
    """The bound, as people write it; empty for a quantile."""
    others: tuple[tuple[str, Callable[[Any, Any], Any], Bound], ...] = ()
    """Feature, comparison and bound of conditions, any of which is enough to keep the rule."""


def explain(
    dimension: Dimension,
    index: int,
    previous: str | None,
    values: Evidence,
    quantile: QuantileOf,
    *,
    currency: str,
) -> dict[str, Any]:
    """Return why a customer came from a segment to that of the rule with this index.

    values: of the features that the rules looked at. currency: of those that are money.
    """
    conditions: list[dict[str, Any]] = []
    parts: list[str] = []
    last = ""
    for asked in _asked(dimension, index, previous):
        feature, limit = asked.feature, asked.limit
        value = values.get(feature)
        bound: Any = quantile(feature, limit) if isinstance(limit, str) else limit
        if (value is not None and asked.holds(value, bound)) == (asked.ends is not None):
            # Of conditions joined by any, one that does not explain the change.
            continue
        if asked.others and any(_holds(*each, values, quantile) for each in asked.others):
            continue
        fact = {"feature": feature, "value": value, "is": asked.comparison, "bound": bound}
        if isinstance(limit, str):
            fact["quantile"] = limit
            if math.isnan(bound):
                fact["bound"] = None
        if asked.ends is not None:
            fact["ends"] = asked.ends
        conditions.append(fact)
        unit = f" {currency}" if FEATURES[feature].unit == MONEY else ""
        phrase = _phrase(asked, value, bound, unit)
        if feature == last:
            parts[-1] += f" and {phrase}"
        else:
            shown = "is not known" if value is None else f"is {_shown(value)}{unit}"
            parts.append(f"{FEATURES[feature].said} {shown}, {phrase}")
        last = feature
    rule = dimension.rules[index]
    because = f", because {'; '.join(parts)}." if parts else ", as no other rule holds."
    segment = rule.segment
    return {
        "rule": rule.id,
        "text": segment[:1].upper() + segment[1:] + because,
        "conditions": conditions,
        "values": values,
    }


def _asked(dimension: Dimension, index: int, previous: str | None) -> tuple[Asked, ...]:
    """Return what may have decided, sorted by feature; each case is found once."""
    former = dimension.rules_of.get(previous or "", ())
    case = (index, former)
    known: dict[Any, tuple[Asked, ...]] = dimension.reasons
    if (found := known.get(case)) is None:
        all_asked = list(_deciding(dimension, index, former))
        order = list(dict.fromkeys(each.feature for each in all_asked))
        found = tuple(sorted(all_asked, key=lambda each: order.index(each.feature)))
        known[case] = found
    return found


def _deciding(dimension: Dimension, index: int, former: tuple[int, ...]) -> Iterator[Asked]:
    """Yield what may have decided.

    That is what the rule asks for; and what the rules before it that kept the customer in the
    former segment asked for. For want of both it is what the rule just before asked for.
    """
    rules = dimension.rules
    for condition in rules[index].conditions:
        yield _condition(condition, condition.bound)
    left = [rules[each] for each in former if each < index]
    for rule in left:
        yield from _ending(rule, leaving=True)
    if not left and not rules[index].conditions and index:
        yield from _ending(rules[index - 1], leaving=False)


def _ending(rule: Rule, *, leaving: bool) -> Iterator[Asked]:
    """Yield the conditions of a rule that does not hold."""
    for condition in rule.all:
        yield _condition(condition, condition.limit(leaving=leaving), rule)
    either = tuple(
        (each.feature, OPERATORS[each.is_], each.limit(leaving=leaving)) for each in rule.any
    )
    for condition in rule.any:
        asked = _condition(condition, condition.limit(leaving=leaving), rule)
        yield asked._replace(others=either)


def _holds(
    feature: str,
    holds: Callable[[Any, Any], Any],
    limit: Bound,
    values: Evidence,
    quantile: QuantileOf,
) -> bool:
    value = values.get(feature)
    bound = quantile(feature, limit) if isinstance(limit, str) else limit
    return value is not None and bool(holds(value, bound))


def _condition(condition: Condition, limit: Bound, ends: Rule | None = None) -> Asked:
    comparison = condition.is_ if ends is None else OPPOSITE[condition.is_]
    after = f" ({limit})" if isinstance(limit, str) else ""
    if ends is not None:
        after += f", where {ends.segment} ends"
    return Asked(
        condition.feature,
        OPERATORS[condition.is_],
        limit,
        None if ends is None else ends.id,
        comparison,
        after,
        "" if isinstance(limit, str) else _shown(limit),
    )


def _phrase(asked: Asked, value: float | str | None, bound: Any, unit: str) -> str:
    if isinstance(value, str) or isinstance(bound, tuple):
        return f"{asked.comparison} {asked.said}{asked.after}"
    if math.isnan(bound):
        return f"and the model has no quantile {asked.limit} of it"
    said = asked.said or _number(bound)
    if value is None:
        return f"and so not {OPPOSITE[asked.comparison]} {said}{unit}{asked.after}"
    if value != bound and _number(value) == said:
        said = repr(bound)
    return f"{asked.comparison} {said}{unit}{asked.after}"


def _shown(value: float | str | tuple[str, ...]) -> str:
    if isinstance(value, tuple):
        return ", ".join(value)
    return value if isinstance(value, str) else _number(value)


def _number(number: float) -> str:
    """Return a number as people write it: two decimals from 100, four digits below."""
    if number == int(number):
        return f"{int(number):,}"
    return f"{number:,.2f}" if abs(number) >= 100 else f"{number:.4g}"
