"""How little the purchases of the past tell of those to come: `PurchaseModel.unsteadiness`.

In the models a customer's rate never changes, so that those who have bought often seem to be known
well: their intervals are too narrow. How much too narrow is seen where outcomes are known. A model
is fitted on what was known half of the shop's time ago; of all unsteadiness, the one is taken under
which the purchases since then, of those who had bought often, are likeliest. So it is with the
values of purchases: of the second half of each customer's, given the first.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.special import betaln

from models.btyd import Cells, FitError, GammaGamma, PurchaseModel
from models.btyd.prior import UNSTEADINESS, VALUE_UNSTEADINESS, LogNormal
from models.choosing import log_scores
from models.population import HEAVY, Halves, Past, Seen

Floats = NDArray[np.float64]

_GRID: Final = np.geomspace(1e-3, 1.0, 31)
_VALUE_GRID: Final = np.geomspace(1e-3, 10.0, 41)
"""Ten values in each power of ten, so that no last digit of a fit moves the result."""

_RAREST: Final = np.log(1e-9)
"""Least log-probability of a customer: a single one must not decide."""

_MOST_FITTED: Final = 50_000
_MOST_MEASURED: Final = 10_000
"""Customers that are fitted and measured; of more, about so many."""


def measured(model: PurchaseModel, past: Past | None, unit_days: int, *, prior: bool) -> float:
    """Return the unsteadiness of a shop's customers; without any to measure that of the prior.

    model: as fitted today, in units of so many days. prior: multiply the likelihood with that of
    `UNSTEADINESS`; else the unsteadiness of a shop that cannot be measured is 0.
    """
    unmeasured = UNSTEADINESS.median if prior else 0.0
    if past is None:
        return unmeasured
    often = past.seen.x >= HEAVY
    heavy = _some(Seen(*(column[often] for column in past.seen)), _MOST_MEASURED, unit_days)
    if not heavy.x.size:
        return unmeasured
    then = _some(past.seen, _MOST_FITTED, unit_days)
    kind = type(model)
    believed = kind.weak_prior(7 / unit_days) if prior else None
    try:
        known = kind.fit(Cells.count(then.x, then.t_x, then.T), model, believed).parameters
    except FitError:
        return unmeasured

    def score(value: float) -> float:
        changing = known.with_unsteadiness(value)
        return math.fsum(np.maximum(log_scores(changing, heavy, past.days / unit_days), _RAREST))

    return _likeliest(score, _GRID, UNSTEADINESS if prior else None)


def measured_value(spend: GammaGamma, halves: Halves | None, *, prior: bool) -> float:
    """Return the unsteadiness of the values of purchases; without any to measure that of the prior.

    spend: as fitted today. prior: as in `measured`.
    """
    unmeasured = VALUE_UNSTEADINESS.median if prior else 0.0
    paid = halves is not None and (halves.gross > 0) & (halves.later_gross > 0)
    if halves is None or not np.any(paid):
        return unmeasured
    known = Halves(*(column[paid] for column in halves))
    step = max(-(-known.days.size // _MOST_MEASURED), 1)
    # The same in whatever order they come.
    mixed = np.floor(known.gross * 101 + known.later_gross * 1_009)
    days, gross, later_days, later = (column[mixed % step == 0] for column in known)
    rate = (spend.v + gross) / (spend.q + spend.p * days - 1.0)
    later_shape = spend.p * later_days

    def score(value: float) -> float:
        # The mean stays, and the shape of ν is smaller.
        shape = spend.with_unsteadiness(value).shape_to_come(days)
        scale = rate * (shape - 1.0)
        each = (
            later_shape * np.log(later / (later + scale))
            + shape * np.log(scale / (later + scale))
            - betaln(later_shape, shape)
        )
        return math.fsum(np.maximum(each, each.max() + _RAREST))

    return _likeliest(score, _VALUE_GRID, VALUE_UNSTEADINESS if prior else None)


def _likeliest(score: Callable[[float], float], grid: Floats, prior: LogNormal | None) -> float:
    """Return the value of a grid with the highest score; 0 for the smallest."""

    def posterior(value: float) -> float:
        far = 0.0 if prior is None else math.log(value / prior.median) / prior.deviation
        return score(value) - 0.5 * far**2

    coarse = max(grid[::5], key=posterior)
    near = np.abs(np.log(grid / coarse)) < np.log(grid[5] / grid[0])
    best = max(grid[near], key=posterior)
    return float(f"{best:.2g}") if best > grid[0] else 0.0


def _some(seen: Seen, most: int, unit_days: int) -> Seen:
    """Return about as many of the customers, the same in whatever order they come, in a unit."""
    step = max(-(-seen.x.size // most), 1)
    mixed = np.floor(seen.x * 10_007 + seen.t_x * 1_009 + seen.T * 101)
    x, t_x, T, after = (column[mixed % step == 0] for column in seen)
    return Seen(x, t_x / unit_days, T / unit_days, after)
