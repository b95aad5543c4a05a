"""Counted sufficient statistics: customers who look the same to a model, with their number."""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from models.btyd._checks import FloatArray, refuse_rows, statistics


@dataclass(frozen=True, slots=True, eq=False)
class Cells:
    """The distinct (x, t_x, T) of a population and how many customers have each.

    Read-only float64 arrays of one length: frequency x, recency t_x, age T, number of customers.
    """

    x: FloatArray
    t_x: FloatArray
    T: FloatArray
    number: FloatArray

    @classmethod
    def count(
        cls,
        x: npt.ArrayLike,
        t_x: npt.ArrayLike,
        T: npt.ArrayLike,
        number: npt.ArrayLike = 1,
    ) -> Self:
        """Count equal rows; number: how many customers each given row stands for.

        To join the cells of several partitions, count them again. Raises ValueError naming the
        first row with impossible statistics.
        """
        frequency, recency, age = (np.atleast_1d(column) for column in statistics(x, t_x, T))
        return cls(*counted(number, frequency, recency, age))

    @property
    def customers(self) -> int:
        """The number of customers counted."""
        return int(self.number.sum())


@dataclass(frozen=True, slots=True, eq=False)
class SpendCells:
    """The distinct (x, m) of repeat buyers and how many customers have each.

    Read-only float64 arrays of one length: frequency x, monetary value m (the mean value of the x
    repeat purchases), number of customers.
    """

    x: FloatArray
    m: FloatArray
    number: FloatArray

    @classmethod
    def count(cls, x: npt.ArrayLike, m: npt.ArrayLike, number: npt.ArrayLike = 1) -> Self:
        """Count equal rows of customers with x >= 1 and m > 0; ValueError names any other row."""
        frequency, value = np.broadcast_arrays(
            np.atleast_1d(np.asarray(x, dtype=np.float64)), np.asarray(m, dtype=np.float64)
        )
        columns = {"x": frequency, "m": value}
        repeats = np.isfinite(frequency) & (frequency >= 1)
        refuse_rows(~repeats, "only repeat buyers, x >= 1, have a repeat order value", **columns)
        positive = np.isfinite(value) & (value > 0)
        refuse_rows(~positive, "leave out customers without a positive order value", **columns)
        return cls(*counted(number, frequency, value))

    @property
    def customers(self) -> int:
        """The number of customers counted."""
        return int(self.number.sum())


def counted(number: npt.ArrayLike, *columns: FloatArray) -> list[FloatArray]:
    """Return the columns of the distinct rows, and last the number of each."""
    weights = np.broadcast_to(np.asarray(number, dtype=np.float64), columns[0].shape)
    whole = np.isfinite(weights) & (weights >= 0) & (weights == np.floor(weights))
    refuse_rows(~whole, "a number of customers must be whole and >= 0", number=weights)
    present = weights > 0
    weights = weights[present]
    columns = tuple(column[present] for column in columns)
    order = np.lexsort(columns[::-1])
    rows = [column[order] for column in columns]
    new = np.zeros(len(order), dtype=np.bool_)
    for row in rows:
        new[1:] |= row[1:] != row[:-1]
    new[:1] = True
    starts = np.flatnonzero(new)
    totals = np.add.reduceat(weights[order], starts) if len(starts) else weights[order]
    result = [*(row[starts] for row in rows), totals]
    for column in result:
        column.flags.writeable = False
    return result
