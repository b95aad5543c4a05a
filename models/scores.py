"""The scored rows of a batch as plain Python numbers, with the segment each row falls into."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

import numpy as np

from models.contracts.parameters import Parameters
from models.segments import FEATURES, Dimension
from models.value import Values

_MAY_BE_MISSING = ("p_alive", "days_since_last_order", "mean_gap")

PUBLISHED = (
    "T",
    "monetary_value",
    "p_alive",
    "expected_orders",
    "order_value",
    "margin_per_order",
    "expected_contacts",
    "expected_support_cost",
    "expected",
    "clv",
    "lever_orders",
    "lever_acquisition",
    "lever_margin",
)

Published = tuple[Any, ...]
"""The columns of PUBLISHED of one row."""


class Evaluation(NamedTuple):
    """A moment at which a customer is scored; `row` is its place among all of the batch.

    backfill: what changes is not told now, but with the next that is none.
    """

    row: int
    version: int
    as_of: int
    offset: int
    """Of the record that led to it."""
    backfill: bool


RemovalReason = Literal["erased", "merged"]


class Removal(NamedTuple):
    """A moment at which a customer goes; `into` is the one who stays, or empty."""

    version: int
    as_of: int
    offset: int
    """Of the record that led to it."""
    reason: RemovalReason
    into: str


class Resend(NamedTuple):
    """What is stored already is told again; `row` is of the customer as stored, if present."""

    row: int | None


class Scores:
    """Values and segments by row.

    numpy scalars are slow to handle one by one, so the columns are turned into lists at once, with
    None for nan: JSON has no nan.
    """

    def __init__(
        self, values: Values, dimensions: tuple[Dimension, ...], parameters: Parameters | None
    ) -> None:
        self.columns: dict[str, list[float]] = {
            name: getattr(values, name).tolist() for name in Values.__slots__
        }
        for name in _MAY_BE_MISSING:
            if np.isnan(getattr(values, name)).any():
                self.columns[name] = [None if v != v else v for v in self.columns[name]]  # type: ignore[misc] # noqa: PLR0124
        self.clv = self.columns["clv"]
        self.published: list[Published] = list(
            zip(*(self.columns[name] for name in PUBLISHED), strict=True)
        )
        """The columns that a value update shows, by row."""
        tiers = None if parameters is None else parameters.tiers
        features = {name: getattr(values, name) for name in FEATURES}
        self.segments: list[tuple[Dimension, list[str]]] = []
        """The segment of each row, by dimension."""
        self._evidence: dict[str, list[tuple[str, ...]]] = {}
        for dimension in dimensions:
            chosen = dimension.classify(features, tiers, len(self.clv)).tolist()
            rules, evidence = dimension.rules, dimension.evidence
            self.segments.append((dimension, [rules[index].segment for index in chosen]))
            self._evidence[dimension.name] = [evidence[index] for index in chosen]

    def evidence(self, dimension: Dimension, row: int) -> dict[str, float | None]:
        """The values that decided: the features the rules looked at, up to the one that held."""
        columns = self.columns
        return {name: columns[name][row] for name in self._evidence[dimension.name][row]}
