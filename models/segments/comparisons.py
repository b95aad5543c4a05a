"""The comparisons of many conditions, made by a few numpy calls: one for each way to compare."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.features import FEATURES, Columns, Floats, Silence
from models.segments.conditions import OPERATORS, Bound, Comparison, Condition, Quantile

Bools = NDArray[np.bool_]
Texts = Sequence[NDArray[np.str_]]

Quantiles = Mapping[Quantile, Sequence[float] | Floats]
"""For each quantile one value for all rows, or one for each row; nan if it is not published."""

_ORDER: Final[tuple[Comparison, ...]] = (
    "at least", "above", "at most", "below", "one of", "none of"
)  # fmt: skip
_RISING: Final = ("at least", "above")
"""Those that a higher number meets."""


class Compared(NamedTuple):
    """A condition with one of its bounds."""

    feature: str
    is_: Comparison
    limit: Bound


def compared(condition: Condition, *, leaving: bool) -> Compared:
    """Return a condition with the bound to enter, or the one to leave if it has one."""
    return Compared(condition.feature, condition.is_, condition.limit(leaving=leaving))


class Comparisons:
    """Different comparisons: first those of numbers, by the way they compare, then those of texts.

    features: the numbers that are compared. moving: those that do not stay while nothing happens,
    and the index of each. places: the index of each comparison.
    """

    def __init__(self, all_: Iterable[Compared]) -> None:
        every = sorted(dict.fromkeys(all_), key=lambda each: _ORDER.index(each.is_))
        numbers = [each for each in every if not isinstance(each.limit, tuple)]
        self.places = {each: place for place, each in enumerate(every)}
        self.features = tuple(dict.fromkeys(each.feature for each in numbers))
        those = [FEATURES[name] for name in self.features]
        self.moving = [each for each in enumerate(those) if each[1].silence is not Silence.STAYS]
        self._texts = every[len(numbers) :]
        self._of = np.array([self.features.index(each.feature) for each in numbers], np.intp)
        ways = [each.is_ for each in numbers]
        self._ways = [
            (OPERATORS[way], slice(ways.index(way), ways.index(way) + ways.count(way)))
            for way in dict.fromkeys(ways)
        ]
        rising = np.array([way in _RISING for way in ways], np.bool_)
        high = self._of + len(self.features)
        self._sides = np.where(rising, [self._of, high], [high, self._of])
        bounds = [np.nan if isinstance(each.limit, str) else each.limit for each in numbers]
        self._limits = np.array(bounds, np.float64).reshape(-1, 1)
        self._quantiles = {
            self.places[each]: Quantile(each.feature, each.limit)
            for each in numbers
            if isinstance(each.limit, str)
        }

    def columns(self, features: Columns, size: int) -> tuple[Floats, Texts]:
        """Return features × rows, and the column of each comparison of texts."""
        numbers = np.array([features[name] for name in self.features], np.float64)
        texts: Texts = [features[each.feature] for each in self._texts]  # type: ignore[misc]
        return numbers.reshape(len(self.features), size), texts

    def limits(self, quantiles: Quantiles) -> Floats:
        """Return comparisons × 1 or, if quantiles differ by row, × rows."""
        if not self._quantiles:
            return self._limits
        given = np.array([quantiles[each] for each in self._quantiles.values()])
        limits = self._limits.repeat(given.shape[1], axis=1)
        limits[list(self._quantiles)] = given
        return limits

    def each(self, numbers: Floats) -> Floats:
        """Return the numbers that are compared, comparisons × rows, of features × rows."""
        return numbers.take(self._of, axis=0)

    def sides(self, bounds: Floats) -> Floats:
        """Return 2 × comparisons × rows: the bound that is harder to meet, and the other one.

        bounds: (low, high) × features × rows.
        """
        _, features, rows = bounds.shape
        return bounds.reshape(2 * features, rows).take(self._sides, axis=0)

    def meet(self, met: Bools, numbers: Floats, texts: Texts, limits: Floats) -> None:
        """Write which comparisons are met to the first of … × comparisons × rows.

        numbers: as `each` or `sides` returns them. What is nan meets nothing.
        """
        for compare, those in self._ways:
            met[..., those, :] = compare(numbers[..., those, :], limits[those])
        for place, (each, column) in enumerate(zip(self._texts, texts, strict=True), len(self._of)):
            met[..., place, :] = OPERATORS[each.is_](column, each.limit)
