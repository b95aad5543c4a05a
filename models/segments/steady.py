"""Which customers surely keep their segments, by bounds on how their features may move.

It decides nothing that is published: who is not surely steady is looked at day by day.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.features import FEATURES, Floats
from models.features.reach import Reach
from models.segments.conditions import OPERATORS, Condition, Quantile
from models.segments.deciding import Decisions
from models.segments.rules import Rule

Bools = NDArray[np.bool_]


class _Conditions:
    """Whether conditions hold surely, and possibly, in all of a silence."""

    def __init__(self, reach: Reach, quantiles: Mapping[Quantile, Floats]) -> None:
        self._reach = reach
        self._quantiles = quantiles
        self._size = reach.ahead.shape
        self._always = np.ones(self._size, np.bool_)
        self._known: dict[object, tuple[Bools, Bools]] = {}

    def rule(self, rule: Rule, *, leaving: bool) -> tuple[Bools, Bools]:
        """Return for which rows a rule holds surely, and possibly."""
        sure = possible = self._always
        for condition in rule.all:
            surely, possibly = self._holds(condition, leaving=leaving)
            sure, possible = sure & surely, possible & possibly
        if rule.any:
            either = [self._holds(each, leaving=leaving) for each in rule.any]
            sure = sure & np.logical_or.reduce([surely for surely, _ in either])
            possible = possible & np.logical_or.reduce([possibly for _, possibly in either])
        return sure, possible

    def _holds(self, condition: Condition, *, leaving: bool) -> tuple[Bools, Bools]:
        limit = condition.limit(leaving=leaving)
        key = condition.feature, condition.is_, limit
        known = self._known.get(key)
        if known is None:
            low, high = self._reach.bounds(FEATURES[condition.feature])
            bound: Any = limit
            if isinstance(limit, str):
                bound = self._quantiles[Quantile(condition.feature, limit)]
            compare = OPERATORS[condition.is_]
            of_low = np.broadcast_to(compare(low, bound), self._size)
            of_high = of_low if low is high else np.broadcast_to(compare(high, bound), self._size)
            rising = condition.is_ in ("at least", "above")
            known = (of_low, of_high) if rising else (of_high, of_low)
            self._known[key] = known
        return known


def surely_steady(
    dimensions: Iterable[Decisions],
    quantiles: Mapping[Quantile, Floats],
    rows: NDArray[np.intp],
    reach: Reach,
) -> Bools:
    """Return who keeps the segments that they can be in now, of these rows.

    quantiles: one of each, or of each of these rows.
    """
    conditions = _Conditions(reach, quantiles)
    steady = np.ones(rows.shape, np.bool_)
    for decisions in dimensions:
        _keep(decisions, conditions, rows, steady)
    return steady


def _keep(
    decisions: Decisions, conditions: _Conditions, rows: NDArray[np.intp], steady: Bools
) -> None:
    """Leave those steady who keep the segment of one dimension."""
    rules, first = decisions.dimension.rules, decisions.first_of[rows]
    last = len(rules) - 1
    if not last:
        return
    held = [conditions.rule(rule, leaving=False) for rule in rules[:-1]]
    names = list(decisions.dimension.rules_of)
    now = np.array([names.index(each) for each in decisions.segments])[first]
    for number, segment in enumerate(names):
        mine = now == number
        if (kept := decisions.kept_of.get(segment)) is not None:
            mine |= kept[rows] < first
        for place, _days in decisions.stays.get(segment, ()):
            mine |= place < first
        if not mine.any():
            continue
        stays = np.full(rows.shape, rules[last].segment == segment)
        for index in range(last - 1, -1, -1):
            rule = rules[index]
            sure, possible = held[index]
            if rule.segment != segment:
                stays &= ~possible
            else:
                stays |= sure
                if rule.leaves:
                    stays |= conditions.rule(rule, leaving=True)[0]
        steady &= stays | ~mine
