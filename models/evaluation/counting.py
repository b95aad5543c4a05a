"""The predicted distribution of the number of purchases: log score, coverage and PIT."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.btyd import PurchaseModel
from models.btyd.cells import grouped
from models.btyd.complaints import Complaining
from models.evaluation.predictions import Statistics

Floats = NDArray[np.float64]

_LEAST: Final = 1e-300
"""What a model calls impossible counts as this probable: -691 nats."""

BINS: Final = 10


class Placed(NamedTuple):
    """Where outcomes lie in their predicted distributions: P(X < n) and P(X <= n)."""

    below: Floats
    up_to: Floats


def tails(model: PurchaseModel, n: Floats, t: float, of: Statistics) -> tuple[Floats, Floats]:
    """Return P(X >= n) and P(X > n), X the number of purchases within t, by customer."""
    if isinstance(model, Complaining):  # It knows its customers one by one.
        return (
            model.probability_of_at_least(n, t, *of),
            model.probability_of_at_least(n + 1.0, t, *of),
        )
    order, first = grouped(n, *of)
    number, *like = (column[order[first]] for column in (n, *of))
    place = np.empty(order.shape, dtype=np.intp)
    place[order] = np.repeat(np.arange(first.size), np.diff(first, append=order.size))
    at_least = model.probability_of_at_least(number, t, *like)
    more = model.probability_of_at_least(number + 1.0, t, *like)
    return at_least[place], more[place]


def log_probability(model: PurchaseModel, n: Floats, t: float, of: Statistics) -> Floats:
    """Return log P(X = n), X the number of purchases within t, by customer."""
    at_least, more = tails(model, n, t, of)
    result: Floats = np.log(np.maximum(at_least - more, _LEAST))
    return result


def placed(model: PurchaseModel, n: Floats, t: float, of: Statistics) -> Placed:
    """Return where each customer's number of purchases within t lies in its distribution."""
    at_least, more = tails(model, n, t, of)
    return Placed(1.0 - at_least, 1.0 - more)


def pit_shares(where: Placed, edges: Floats) -> Floats:
    """Return the share of the randomised probability integral transform between edges.

    An outcome counts in each interval with the part of [P(X < n), P(X <= n)] that lies there: the
    mean over all ways to draw (Czado, Gneiting and Held 2009). Under the right model the shares
    are the lengths of the intervals.
    """
    width = np.maximum(where.up_to - where.below, _LEAST)
    until = [np.mean(np.clip((edge - where.below) / width, 0.0, 1.0)) for edge in edges]
    return np.diff(np.array(until))


def nominal_coverage(
    model: PurchaseModel, low: Floats, high: Floats, t: float, of: Statistics
) -> Floats:
    """Return P(low <= X <= high); above .8 for a whole number between its percentiles."""
    at_least, _ = tails(model, low, t, of)
    _, more = tails(model, high, t, of)
    return at_least - more
