"""Expected and actual purchases a head, by what was known of a customer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

FREQUENCIES = (("0", 0, 0), ("1", 1, 1), ("2", 2, 2), ("3", 3, 3), ("4-6", 4, 6), ("7+", 7, np.inf))
"""Label, least and greatest repeat purchases."""

SILENCES = (
    ("0-30", 0, 30),
    ("31-90", 31, 90),
    ("91-180", 91, 180),
    ("181-365", 181, 365),
    ("over 365", 366, np.inf),
)
"""Label, least and greatest days since the last order."""


@dataclass(frozen=True, slots=True)
class Group:
    """Customers of one kind, and their purchases a head in the holdout."""

    label: str
    customers: int
    expected: float
    actual: float


def by_group(
    of: Floats, bounds: Sequence[tuple[str, float, float]], expected: Floats, actual: Floats
) -> tuple[Group, ...]:
    """Return the groups that have customers, in order."""
    found = []
    for label, least, greatest in bounds:
        within = (of >= least) & (of <= greatest)
        if within.any():
            found.append(
                Group(
                    label,
                    int(np.count_nonzero(within)),
                    float(expected[within].mean()),
                    float(actual[within].mean()),
                )
            )
    return tuple(found)
