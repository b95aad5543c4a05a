"""The scored rows of a batch as plain Python numbers, with the segment each row falls into."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.aggregate.record import Cause, Evidence
from models.contracts.parameters import Parameters
from models.economics import Economics
from models.features import NEVER, Columns, Floats
from models.segments import Dimension, Quantile, Rules, decisions
from models.value import Row, Values, percentiles_each

Places = NDArray[np.intp]


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
        quantiles: Mapping[Quantile, Sequence[float]],
        size: int,
    ) -> None:
        self.rules = rules
        self.columns = columns
        self.held = rules.tables.held(columns, quantiles, size)
        self.dimensions = decisions(rules, self.held)
        self._columns = {
            each.name: _listed(columns[each.name], missing=each.missing != NEVER)
            for each in rules.asked
        }

    def differ(self, rows: Places, others: Places) -> NDArray[np.bool_]:
        """Return which of these rows may come to another segment than a row of others.

        That is, of a customer who is what the other row has made of them; minimum stays apart.
        """
        places = self.held.places
        different: NDArray[np.bool_] = np.any(places[:, rows] != places[:, others], axis=0)
        return different

    def evidence(self, dimension: Dimension, index: int, row: int) -> Evidence:
        """Return the features that the rules looked at, up to the one of that index."""
        columns = self._columns
        return {name: columns[name][row] for name in dimension.evidence[index]}


class Scores:
    """Values and segments by row.

    of: the inputs of the values. rules, models: those that scored each row. decided: the decisions
    of each of these rules, by their identity. spread: whether the values have percentiles.
    """

    def __init__(
        self,
        of: Row[Floats],
        values: Values,
        rules: Sequence[Rules],
        models: Sequence[Parameters],
        decided: Mapping[int, Decided],
        *,
        economics: Economics,
        spread: bool,
    ) -> None:
        self.models = models
        self.clv: list[float] = _listed(values.clv, missing=False)
        self._of = of
        self._values = values
        self._rules = rules
        self._decided = decided
        self._economics = economics
        self._spread = spread

    def decided(self, row: int) -> Decided:
        """Return the decisions of the rules that scored a row."""
        return self._decided[id(self._rules[row])]

    def differ(self, rows: Sequence[int], others: Sequence[int]) -> NDArray[np.bool_]:
        """See `Decided.differ`; the same rules have scored a row and the other one."""
        mine, theirs = np.array(rows, np.intp), np.array(others, np.intp)
        if len(self._decided) == 1:
            return next(iter(self._decided.values())).differ(mine, theirs)
        different = np.zeros(mine.size, np.bool_)
        rules = np.array([id(self._rules[row]) for row in rows])
        for number, decided in self._decided.items():
            own = rules == number
            different[own] = decided.differ(mine[own], theirs[own])
        return different

    def published(self, rows: Sequence[int]) -> list[Published]:
        """Return what value updates say of these rows."""
        if not rows:
            return []
        which = np.array(rows, np.intp)
        found = {name: getattr(self._values, name)[which] for name in Published._fields}
        if not self._spread:
            of = Row(*(column[which] for column in self._of))
            models = [self.models[row] for row in rows]
            spread = percentiles_each(of, found["expected"], models, self._economics)
            found |= spread._asdict()
        listed = (_listed(column, missing=name in _MISSING) for name, column in found.items())
        return list(map(Published._make, zip(*listed, strict=True)))


def _listed(column: Floats | NDArray[np.str_], *, missing: bool) -> list[Any]:
    if column.dtype.kind == "U":
        return [value or None for value in column.tolist()]
    # Added to -0.0, 0.0 makes 0.0: the two are equal, and so must be written alike.
    listed: list[Any] = np.add(column, 0.0).tolist()
    if missing and np.isnan(column).any():
        return [None if value != value else value for value in listed]  # noqa: PLR0124
    return listed
