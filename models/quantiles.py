"""The quantiles of a population that are published with its parameters, and their names."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

PERCENTS: Final = (1, *range(5, 100, 5), 99)
"""p90 is the value that 90 % of the customers do not exceed."""

NAMES: Final = tuple(f"p{percent}" for percent in PERCENTS)

TIERS: Final[Mapping[str, int]] = {"gold": 90, "silver": 60}
"""Quantiles of the value with a name of their own, and their percents."""

_NAME = re.compile(r"p[1-9][0-9]?")


def percent_of(name: str) -> int | None:
    """Return the percent of a published quantile by its name; None for another text."""
    if name in TIERS:
        return TIERS[name]
    percent = int(name[1:]) if _NAME.fullmatch(name) else 0
    return percent if percent in PERCENTS else None


def quantiles_of(columns: Mapping[str, Floats]) -> dict[str, dict[str, float]]:
    """Return the quantiles of each column by name, without missing values; {} of none."""
    found = {}
    for feature, column in columns.items():
        seen = column[~np.isnan(column)]
        if seen.size:
            # Of a sorted column numpy finds quantiles in half of the time.
            ends = np.quantile(np.sort(seen), np.array(PERCENTS) / 100).tolist()
            found[feature] = dict(zip(NAMES, ends, strict=True))
    return found
