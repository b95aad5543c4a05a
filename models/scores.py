"""The scored rows of a batch as plain Python numbers, with the segment each row falls into."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from models.contracts.parameters import Parameters
from models.segments import FEATURES, Dimension
from models.value import Values

_MAY_BE_MISSING = ("p_alive", "days_since_last_order", "mean_gap")


class Scores:
    """Values and segments by row.

    numpy scalars are slow to handle one by one, so the columns are turned into lists at once, with
    None for nan: JSON has no nan.
    """

    def __init__(
        self, values: Values, dimensions: tuple[Dimension, ...], parameters: Parameters | None
    ) -> None:
        self.values = values
        self.columns: dict[str, list[float]] = {
            name: getattr(values, name).tolist() for name in Values.__slots__
        }
        for name in _MAY_BE_MISSING:
            if np.isnan(getattr(values, name)).any():
                self.columns[name] = [None if v != v else v for v in self.columns[name]]  # type: ignore[misc] # noqa: PLR0124
        self.clv = self.columns["clv"]
        tiers = None if parameters is None else parameters.tiers
        features = {name: getattr(values, name) for name in FEATURES}
        self._dimensions = [
            (dimension, dimension.classify(features, tiers, len(self.clv)).tolist())
            for dimension in dimensions
        ]
        self._chosen = {dimension.name: chosen for dimension, chosen in self._dimensions}

    def segment(self, dimension: Dimension, row: int) -> str:
        """The segment of a row in a dimension."""
        return dimension.rules[self._chosen[dimension.name][row]].segment

    def changed(self, row: int, segments: Mapping[str, str]) -> Iterator[Dimension]:
        """The dimensions in which a row's segment is not the one given."""
        for dimension, chosen in self._dimensions:
            if dimension.rules[chosen[row]].segment != segments.get(dimension.name):
                yield dimension

    def evidence(self, dimension: Dimension, row: int) -> dict[str, float | None]:
        """The values that decided: the features the rules looked at, up to the one that held."""
        columns = self.columns
        names = dimension.evidence[self._chosen[dimension.name][row]]
        return {name: columns[name][row] for name in names}
