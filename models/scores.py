"""The scored rows of a batch as plain Python numbers, with the segment each row falls into."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from models.features import NEVER, Feature, Floats
from models.segments import Dimension
from models.value import Values


class Published(NamedTuple):
    """The columns of `Values` that a value update publishes, of one customer."""

    T: float
    monetary_value: float
    p_alive: float | None
    p_purchase: float | None
    expected_purchases: float
    purchases_low: float
    purchases_high: float
    purchase_value: float
    margin_per_purchase: float
    expected_contacts: float
    expected_support_cost: float
    expected: float
    expected_low: float
    expected_high: float
    clv: float
    lever_value: float
    lever_purchases: float
    lever_margin: float


_MISSING = frozenset({"p_alive", "p_purchase"})
"""Those that nobody has before the first order."""


class Evaluation(NamedTuple):
    """Score a customer; row: index among all rows of the batch.

    backfill: segment changes are not published now, but with the next event that is no backfill.
    """

    row: int
    version: int
    as_of: int
    offset: int
    """Of the record that led to it."""
    backfill: bool


RemovalReason = Literal["erased", "merged"]


class RemovalStep(NamedTuple):
    """Remove a customer; into: the customer who stays, or empty."""

    version: int
    as_of: int
    offset: int
    """Of the record that led to it."""
    reason: RemovalReason
    into: str


class Resend(NamedTuple):
    """Send the stored outputs again; row: of the customer as stored, if present."""

    row: int | None


class Scores:
    """Values and segments by row.

    bounds: published bounds by name, of one length with the rows or of length 1. features: those
    that rules use. read: columns of the features that are read from the state.

    Columns are converted to lists at once, because numpy scalars are slow one by one. nan becomes
    None, because JSON has no nan.
    """

    def __init__(
        self,
        values: Values,
        dimensions: Collection[Dimension],
        bounds: Mapping[str, Floats],
        features: Sequence[Feature],
        read: Mapping[str, Sequence[float]],
    ) -> None:
        columns = {
            each.name: np.asarray(read[each.name]) if each.of is None else each.of(values)
            for each in features
        }
        self._columns = {
            each.name: _listed(columns[each.name], missing=each.missing != NEVER)
            for each in features
        }
        self.clv: list[float] = values.clv.tolist()
        self.published = list(
            map(
                Published._make,
                zip(
                    *(
                        _listed(getattr(values, name), missing=name in _MISSING)
                        for name in Published._fields
                    ),
                    strict=True,
                ),
            )
        )
        self.segments: list[tuple[Dimension, list[str]]] = []
        """The segment of each row, by dimension."""
        self._evidence: dict[str, list[tuple[str, ...]]] = {}
        for dimension in dimensions:
            chosen = dimension.classify(columns, bounds, len(self.clv)).tolist()
            rules, evidence = dimension.rules, dimension.evidence
            self.segments.append((dimension, [rules[index].segment for index in chosen]))
            self._evidence[dimension.name] = [evidence[index] for index in chosen]

    def evidence(self, dimension: Dimension, row: int) -> dict[str, float | None]:
        """Return the features that the rules looked at, up to the rule that matched."""
        columns = self._columns
        return {name: columns[name][row] for name in self._evidence[dimension.name][row]}


def _listed(column: Floats, *, missing: bool) -> list[Any]:
    listed: list[Any] = column.tolist()
    if missing and np.isnan(column).any():
        return [None if value != value else value for value in listed]  # noqa: PLR0124
    return listed
