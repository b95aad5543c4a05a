"""Which rules of a dimension no customer can reach."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from models.features import FEATURES, NEVER, Floats
from models.features.feature import MONEY, SHARE
from models.quantiles import percent_of
from models.segments.conditions import Quantile
from models.segments.tables import Tables

if TYPE_CHECKING:
    from models.segments.rules import Rule

MOST_COMBINATIONS: Final = 500_000
"""More are not tried: then no rule is called unreachable."""

AT_ONCE: Final = 10_000
"""Combinations, to bound the memory that they take."""


def unreachable(rules: Sequence[Rule]) -> int | None:
    """Return the index of the first rule but the last that decides for no values at all, or None.

    Rules compare features with bounds, so it is enough to try each feature at, between and beyond
    its bounds. Where a quantile lies among the numbers is not known: they are tried below, between
    and above them.
    """
    tables, reached = Tables([rules]), set[int]()
    for place in _places(rules):
        quantiles = {each: [value] for each, value in place.items()}
        values = _values(rules, place)
        size = int(np.prod([len(each) for each in values.values()], dtype=np.float64))
        if size > MOST_COMBINATIONS:
            return None
        grid = np.meshgrid(*values.values(), indexing="ij") if values else []
        features: dict[str, Any] = {
            name: each.ravel() for name, each in zip(values, grid, strict=True)
        }
        for start in range(0, size, AT_ONCE):
            some = {name: each[start : start + AT_ONCE] for name, each in features.items()}
            held = tables.held(some, quantiles, min(AT_ONCE, size - start))
            reached.update(held.places[0].tolist())
            if len(reached) == len(rules):
                return None
    return next((index for index in range(len(rules) - 1) if index not in reached), None)


def _places(rules: Sequence[Rule]) -> Iterable[Mapping[Quantile, float]]:
    """Yield values that the quantiles may have, in their order: below, among, above the numbers."""
    conditions = [each for rule in rules for each in rule.conditions]
    quantiles = {each for one in conditions for each in one.quantiles}
    if not quantiles:
        return [{}]
    numbers: defaultdict[str, list[float]] = defaultdict(list)
    for one in conditions:
        if isinstance(one.bound, float):
            numbers[one.feature].append(one.bound)
    most = max((len(set(each)) for each in numbers.values()), default=0)
    return [
        {
            each: _start(sorted(set(numbers[each.feature])), gap)
            + (percent_of(each.name) or 0) / 1e6
            for each in quantiles
        }
        for gap in range(most + 1)
    ]


def _start(numbers: Sequence[float], gap: int) -> float:
    """Return a number before the first, within a gap, or after the last."""
    if not numbers:
        return 0.25
    if gap == 0:
        return numbers[0] - 1.0
    if gap >= len(numbers):
        return numbers[-1] + 1.0
    return (numbers[gap - 1] + numbers[gap]) / 2


def _values(
    rules: Sequence[Rule], place: Mapping[Quantile, float]
) -> dict[str, Floats | NDArray[np.str_]]:
    """Return for each feature values at, between and beyond its bounds, and nan if one may be.

    Of one that is a text: those that rules name, another one, and none.
    """
    bounds: defaultdict[str, set[float]] = defaultdict(set)
    texts: defaultdict[str, set[str]] = defaultdict(set)
    for rule in rules:
        for each in rule.conditions:
            bound = each.bound
            if isinstance(bound, tuple):
                texts[each.feature].update(bound)
                continue
            bounds[each.feature].add(
                place[Quantile(each.feature, bound)] if isinstance(bound, str) else bound
            )
    return {
        **{name: _around(name, sorted(each)) for name, each in bounds.items()},
        **{name: np.array([*each, "", "another"]) for name, each in texts.items()},
    }


def _around(name: str, bounds: Sequence[float]) -> Floats:
    feature = FEATURES[name]
    between = [(low + high) / 2 for low, high in pairwise(bounds)]
    tried = np.array([bounds[0] - 1.0, *bounds, *between, bounds[-1] + 1.0])
    if feature.unit != MONEY:
        tried = np.unique(np.clip(tried, 0.0, 1.0 if feature.unit == SHARE else None))
    if feature.missing != NEVER:
        tried = np.append(tried, np.nan)
    return tried
