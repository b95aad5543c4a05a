"""Which model of purchases fits a shop: the one that predicts best what it has not seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.btyd import MODELS, Cells, FitError, PurchaseModel
from models.evaluation.counting import log_probability
from models.population import Population, Seen

Floats = NDArray[np.float64]

AUTO: Final = "auto"
HELD_OUT_DAYS: Final = 56
"""The days that are predicted from what was known before them."""

WORTH: Final = 1.0
"""Nats per 1,000 customers by which another model must be ahead of the default."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The chosen model, why, and the held-out log scores in nats per 1,000 customers by model."""

    model: str
    why: str
    scores: Mapping[str, float]


def log_scores(model: PurchaseModel, seen: Seen, t: float) -> Floats:
    """Return the log-probability of each customer's purchases within t, by what was seen before.

    The statistics and t in the model's unit of time.
    """
    return log_probability(model, seen.after, t, (seen.x, seen.t_x, seen.T))


def choose(population: Population, today: int, default: str) -> Choice:
    """Fit every model on what was known some weeks ago, and see which predicts what came since.

    today: the ordinal of the last day that counts. Another model than the default must be ahead by
    more than `WORTH` and by more than two standard errors; with too little history the default is
    taken.
    """
    seen = population.at(today - HELD_OUT_DAYS)
    cells = Cells.count(seen.x, seen.t_x, seen.T)
    found: dict[str, Floats] = {}
    for name, family in MODELS.items():
        try:
            fitted = family.fit(cells, prior=family.weak_prior(week=7.0)).parameters
        except FitError:
            continue
        found[name] = log_scores(fitted, seen, float(HELD_OUT_DAYS))
    if default not in found or not seen.x.size:
        why = f"{default}, because nobody had bought {HELD_OUT_DAYS} days before the end"
        return Choice(default, why, {})
    scores = {name: 1_000.0 * float(each.mean()) for name, each in found.items()}
    best = max(scores, key=scores.__getitem__)
    ahead = found[best] - found[default]
    error = 1_000.0 * float(ahead.std()) / np.sqrt(seen.x.size)
    lead = scores[best] - scores[default]
    told = ", ".join(f"{name} {score:.2f}" for name, score in scores.items())
    what = f"held-out log score per 1,000 customers over {HELD_OUT_DAYS} days: {told}"
    if best == default or lead <= max(WORTH, 2.0 * error):
        return Choice(default, f"{default}, since no other is clearly ahead; {what}", scores)
    return Choice(best, f"{best}, ahead by {lead:.2f} ± {error:.2f}; {what}", scores)
