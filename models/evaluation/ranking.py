"""Whether the better customers are ranked first: concentration, lift and AUC."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]


def concentration(prediction: Floats, outcome: Floats) -> tuple[Floats, Floats]:
    """Return the cumulative share of customers, best predicted first, and of their outcome.

    Both begin at 0 and end at 1. Customers with equal predictions share their outcomes evenly, so
    that their order does not matter. The outcomes must have a positive sum.
    """
    levels, group = np.unique(-prediction, return_inverse=True)
    customers = np.bincount(group, minlength=len(levels))
    total = np.bincount(group, outcome, minlength=len(levels))
    share = np.concatenate(([0.0], np.cumsum(customers) / len(prediction)))
    return share, np.concatenate(([0.0], np.cumsum(total) / outcome.sum()))


def concentration_index(prediction: Floats, outcome: Floats) -> float:
    """Return twice the area between the curve of `concentration` and the diagonal."""
    share, gained = concentration(prediction, outcome)
    return float(np.sum(np.diff(share) * (gained[1:] + gained[:-1]))) - 1.0


def gini(prediction: Floats, outcome: Floats) -> float:
    """Return the normalised Gini: 1 for the order of the outcomes themselves, 0 for chance.

    nan if the outcomes have no positive sum, or are all equal.
    """
    if not outcome.sum() > 0:
        return np.nan
    best = concentration_index(outcome, outcome)
    return concentration_index(prediction, outcome) / best if best > 0 else np.nan


def lift(prediction: Floats, outcome: Floats, parts: int = 10) -> Floats:
    """Return the share of the outcome in each tenth of the customers, best predicted first."""
    if not outcome.sum() > 0:
        return np.full(parts, np.nan)
    ends = np.linspace(0.0, 1.0, parts + 1)
    return np.diff(np.interp(ends, *concentration(prediction, outcome)))


def auc(score: Floats, happened: Flags) -> float:
    """Return the probability that of two customers the one it happened to has the higher score.

    Ties count one half; nan if it happened to all or none.
    """
    positives = int(np.count_nonzero(happened))
    negatives = len(happened) - positives
    if positives == 0 or negatives == 0:
        return np.nan
    levels, group = np.unique(score, return_inverse=True)
    yes = np.bincount(group[happened], minlength=len(levels))
    no = np.bincount(group[~happened], minlength=len(levels))
    below = np.cumsum(no) - no
    return float(yes @ (below + 0.5 * no)) / (positives * negatives)
