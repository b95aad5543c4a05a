"""The scored rows of a batch as plain Python numbers, with the segment each row falls into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.aggregate.record import Cause, Evidence
from models.contracts.parameters import Parameters
from models.features import NEVER, Columns, Floats
from models.segments import Decisions, Dimension, Quantile, Rules
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


class Look(NamedTuple):
    """Look at a silent customer at a moment; it is told only if a segment has changed.

    row: index among all rows of the batch.
    """

    row: int
    as_of: int
    offset: int
    """Of the record that led to it."""
    cause: Cause


class Evaluation(NamedTuple):
    """Score a customer; row: index among all rows of the batch.

    backfill: segment changes are not published now, but with the next event that is no backfill.
    """

    row: int
    as_of: int
    offset: int
    """Of the record that led to it."""
    backfill: bool
    cause: Cause


RemovalReason = Literal["erased", "merged"]


class RemovalStep(NamedTuple):
    """Remove a customer; into: the customer who stays, or empty.

    handover: what is sent to that customer, without the version, which is not known yet.
    """

    as_of: int
    offset: int
    """Of the record that led to it."""
    reason: RemovalReason
    into: str
    handover: bytes = b""


class Resend(NamedTuple):
    """Send the stored outputs again; row: of the customer as stored, if present."""

    row: int | None


class Decided:
    """The decisions of one version of rules about the rows of a batch.

    rules: that version. quantiles: those that they compare with, of one length with the rows or of
    length 1. columns: the features that they use.

    Columns are converted to lists at once, because numpy scalars are slow one by one. nan becomes
    None, because JSON has no nan.
    """

    def __init__(
        self,
        rules: Rules,
        columns: Columns,
        quantiles: Mapping[Quantile, Floats],
        size: int,
    ) -> None:
        self.rules = rules
        self.columns = columns
        self.dimensions = [
            Decisions(dimension, columns, quantiles, size) for dimension in rules.dimensions
        ]
        self._columns = {
            each.name: _listed(columns[each.name], missing=each.missing != NEVER)
            for each in rules.asked
        }

    def evidence(self, dimension: Dimension, index: int, row: int) -> Evidence:
        """Return the features that the rules looked at, up to the one of that index."""
        columns = self._columns
        return {name: columns[name][row] for name in dimension.evidence[index]}


class Scores:
    """Values and segments by row.

    rules, models: those that scored each row. decided: the decisions of each of these rules, by
    their identity.
    """

    def __init__(
        self,
        values: Values,
        rules: Sequence[Rules],
        models: Sequence[Parameters],
        decided: Mapping[int, Decided],
    ) -> None:
        self.models = models
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
        self.clv: list[float] = [each.clv for each in self.published]
        self._rules = rules
        self._decided = decided

    def decided(self, row: int) -> Decided:
        """Return the decisions of the rules that scored a row."""
        return self._decided[id(self._rules[row])]


def _listed(column: Floats | NDArray[np.str_], *, missing: bool) -> list[Any]:
    if column.dtype.kind == "U":
        return [value or None for value in column.tolist()]
    # Added to -0.0, 0.0 makes 0.0: the two are equal, and so must be written alike.
    listed: list[Any] = np.add(column, 0.0).tolist()
    if missing and np.isnan(column).any():
        return [None if value != value else value for value in listed]  # noqa: PLR0124
    return listed
