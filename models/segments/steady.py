"""Which customers surely keep their segments, by bounds on how their features may move.

It decides nothing that is published: who is not surely steady is looked at day by day.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.features.reach import Reach
from models.segments.tables import Held, Tables, highest_of


def surely_steady(
    tables: Tables, held: Held, rows: NDArray[np.intp], reach: Reach
) -> NDArray[np.bool_]:
    """Return who keeps the segments that they can be in now, of these rows.

    held: of the rows as they are now. A customer keeps a segment if one of its rules holds surely,
    in all of the silence, before any rule of another segment that may hold at some time.
    """
    comparisons, of = tables.comparisons, tables.steady
    bounds = np.array([held.numbers.take(rows, axis=1)] * 2)
    for place, feature in comparisons.moving:
        bounds[0, place], bounds[1, place] = reach.bounds(feature)
    limits = held.limits if held.limits.shape[1] == 1 else held.limits[:, rows]
    texts = [column[rows] for column in held.texts]
    surely, possibly = tables.ranks(comparisons.sides(bounds), texts, limits)
    keeps = highest_of(surely, of.own) > highest_of(possibly, of.others)
    elsewhere = highest_of(held.ranks, of.mine) < held.highest[of.dimension]
    steady: NDArray[np.bool_] = np.logical_and.reduce(elsewhere.take(rows, axis=1) | keeps)
    return steady
