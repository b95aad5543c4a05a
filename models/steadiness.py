"""How little the purchases of the past tell of those to come: `PurchaseModel.unsteadiness`.

In the models a customer's rate never changes, so that those who have bought often seem to be known
well: their intervals are too narrow. How much too narrow is seen where outcomes are known. A model
is fitted on what was known half of the shop's time ago; of all unsteadiness, the one is taken under
which the purchases since then, of those who had bought often, are likeliest.
"""

from __future__ import annotations

import math
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.btyd import Cells, FitError, PurchaseModel
from models.btyd.prior import UNSTEADINESS
from models.choosing import log_scores
from models.population import Past, Seen

Floats = NDArray[np.float64]

HEAVY: Final = 4
"""Repeat purchases from which on a customer is measured."""

_GRID: Final = np.geomspace(1e-3, 1.0, 31)
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
        each = np.maximum(log_scores(changing, heavy, past.days / unit_days), _RAREST)
        far = np.log(value / UNSTEADINESS.median) / UNSTEADINESS.deviation if prior else 0.0
        return math.fsum(each) - 0.5 * float(far**2)

    coarse = max(_GRID[::5], key=score)
    near = np.abs(np.log(_GRID / coarse)) < np.log(_GRID[5] / _GRID[0])
    best = max(_GRID[near], key=score)
    return float(f"{best:.2g}") if best > _GRID[0] else 0.0


def _some(seen: Seen, most: int, unit_days: int) -> Seen:
    """Return about as many of the customers, the same in whatever order they come, in a unit."""
    step = max(-(-seen.x.size // most), 1)
    mixed = np.floor(seen.x * 10_007 + seen.t_x * 1_009 + seen.T * 101)
    x, t_x, T, after = (column[mixed % step == 0] for column in seen)
    return Seen(x, t_x / unit_days, T / unit_days, after)
