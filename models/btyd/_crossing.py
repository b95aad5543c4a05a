"""The age at which a probability that silence lowers has fallen to a bound."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from models.btyd._checks import FloatArray

Function = Callable[[FloatArray], FloatArray]

_STEP = np.log(16.0)  # width of a bracket
_SHORTEST, _LONGEST = np.log(1e-30), np.log(1e12)  # of the silences, in any unit of time
_SMALLEST = 5e-324  # probability with a logarithm
_PRECISION = 1e-14
_MOST_STEPS = 100


def age_at(bound: FloatArray, start: FloatArray, probability: Function) -> FloatArray:
    """Return the age at which a probability falls to a bound; all columns have one shape.

    probability: of the age; it falls from `start` on. The age is `start` where the probability is
    at or below the bound already there, and inf where it is above the bound still 1e12 units of
    time later.
    """

    def excess(log_silence: FloatArray) -> FloatArray:
        at = probability(start + np.exp(log_silence))
        return np.log(np.maximum(at, _SMALLEST)) - np.log(bound)

    at_once = probability(start) <= bound
    low, high = _bracket(excess, start.shape)
    never = excess(high) > 0
    age = start + np.exp(_root(excess, low, high, ~at_once & ~never))
    return np.where(at_once, start, np.where(never, np.inf, age))


def _bracket(excess: Function, shape: tuple[int, ...]) -> tuple[FloatArray, FloatArray]:
    """Return ends between which the falling function changes its sign, if it does."""
    high = np.zeros(shape)
    while np.any(more := (excess(high) > 0) & (high < _LONGEST)):
        high = np.where(more, np.minimum(high + _STEP, _LONGEST), high)
    low = high - _STEP
    while np.any(less := (excess(low) <= 0) & (low > _SHORTEST)):
        high = np.where(less, low, high)
        low = np.where(less, low - _STEP, low)
    return low, high


def _root(
    function: Function, low: FloatArray, high: FloatArray, wanted: npt.NDArray[np.bool_]
) -> FloatArray:
    """Return where the function, positive at low and negative at high, is zero.

    By regula falsi; an end that stays twice counts half (the Illinois method). Rows that have
    converged stay as they are, so that a row's result does not depend on the others.
    """
    f_low, f_high = function(low), function(high)
    at, was_above = high, np.zeros(high.shape, dtype=np.bool_)
    for _ in range(_MOST_STEPS):
        if not wanted.any():
            break
        with np.errstate(invalid="ignore", divide="ignore"):
            guess = (low * f_high - high * f_low) / (f_high - f_low)
        inside = (guess > low) & (guess < high)
        at = np.where(wanted, np.where(inside, guess, (low + high) / 2.0), at)
        f_at = function(at)
        above = f_at > 0
        again = above == was_above
        f_low = np.where(above, f_at, np.where(again, f_low / 2.0, f_low))
        f_high = np.where(above, np.where(again, f_high / 2.0, f_high), f_at)
        low, high, was_above = np.where(above, at, low), np.where(above, high, at), above
        wanted = wanted & (np.abs(f_at) > _PRECISION) & (high - low > _PRECISION)
    return at
