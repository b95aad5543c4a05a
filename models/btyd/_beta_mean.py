"""The mean of (1 + p u)^-rho over p ~ Beta(a, b): Gauss's ₂F₁(rho, a; a + b; -u)."""

from collections.abc import Callable

import numpy as np
from scipy.special import betaln, hyp2f1, log_expit

from models.btyd._checks import FloatArray
from models.btyd._quadrature import crossing

# Beyond these the hypergeometric series is slow, cancels or overflows.
_LARGEST_Z = 0.99
_LARGEST_Z_AT_POLE = 0.9  # scipy's connection formula there overflows if rho - a is whole
_LARGEST_CANCELLATION = 9.0  # in e-folds: four digits of sixteen
_LARGEST_GROWTH = 30.0
_LARGEST_SURPLUS = 1000.0  # scipy's recurrence gives up where it would take ten thousand steps

_TAIL = 36.0  # e-folds below the peak at which an integrand is cut off: 2e-16
_POINTS = 256
_BLOCK = 2048

Rule = Callable[[FloatArray, FloatArray, float, FloatArray], FloatArray]


def beta_mean_of_power(rho: FloatArray, u: FloatArray, a: float, b: FloatArray) -> FloatArray:
    """Return the mean of (1 + p u)^-rho over p ~ Beta(a, b), for rho, a, b > 0 and u >= 0.

    rho, u and b have one shape, the result's. Pfaff's transformation of ₂F₁ (Abramowitz & Stegun
    15.3.4) leaves a series whose numerator does not grow with rho and b together; where it would
    still cancel, overflow or crawl, the mean is integrated over logit p by the trapezoidal rule,
    exponentially accurate there.
    """
    z = u / (1.0 + u)
    surplus = a + b - rho
    at_pole = np.abs(rho - a - np.round(rho - a)) < 1e-9
    hard = (
        (z > np.where(at_pole, _LARGEST_Z_AT_POLE, _LARGEST_Z))
        | (np.maximum(-surplus, 0.0) * np.log1p(z) > _LARGEST_CANCELLATION)
        | (a * np.log1p(u) > _LARGEST_GROWTH)
        | (np.abs(surplus) > _LARGEST_SURPLUS)
    )
    mean: FloatArray = np.exp(-a * np.log1p(u)) * hyp2f1(a, surplus, a + b, np.where(hard, 0.0, z))
    tailed = (b < 1.0) | (a < 1.0)
    for rows, rule in ((hard & tailed, _less_a_line), (hard & ~tailed, _around_the_peak)):
        if rows.any():
            mean[rows] = _in_blocks(rule, rho[rows], u[rows], a, b[rows])
    return mean


def _in_blocks(rule: Rule, rho: FloatArray, u: FloatArray, a: float, b: FloatArray) -> FloatArray:
    """Apply a rule to few enough rows at a time for their points to fit into memory."""
    result = np.empty_like(u)
    for start in range(0, len(u), _BLOCK):
        block = slice(start, start + _BLOCK)
        result[block] = rule(rho[block, None], u[block, None], a, b[block, None])
    return result


def _around_the_peak(rho: FloatArray, u: FloatArray, a: float, b: FloatArray) -> FloatArray:
    """Integrate density times power where it is large, for a and b >= 1.

    All terms are positive, so that a tiny mean, as for a large a, keeps its digits.
    """

    def log_curve(v: FloatArray) -> FloatArray:
        log_p = log_expit(v)
        curve: FloatArray = (
            a * log_p + b * log_expit(-v) - rho * np.log1p(np.exp(log_p) * u) - betaln(a, b)
        )
        return curve

    # The slope of the curve over v is zero at the root in (0, 1) of a quadratic in p.
    square, linear = (rho - a - b) * u, (rho - a) * u + a + b
    root = np.sqrt(linear**2 - 4.0 * square * a)
    with np.errstate(divide="ignore", invalid="ignore"):
        p = np.where(linear > 0, 2.0 * a / (linear + root), (linear - root) / (2.0 * square))
    peak = np.log(p) - np.log1p(-p)
    edge = log_curve(peak) - _TAIL
    low = crossing(log_curve, edge, peak, peak - np.log1p(rho * u) - 2.0 * _TAIL)
    high = crossing(log_curve, edge, peak, peak + np.log1p(a / b) + 2.0 * _TAIL)
    v = low + (high - low) * np.linspace(0.0, 1.0, _POINTS)
    step = (high - low)[:, 0] / (_POINTS - 1)
    mean: FloatArray = step * np.sum(np.exp(log_curve(v)), axis=1)
    return mean


def _less_a_line(rho: FloatArray, u: FloatArray, a: float, b: FloatArray) -> FloatArray:
    """Integrate density times power, less the line through the power's values at p = 0 and p = 1.

    The line has an exact mean; what is left vanishes at both ends, so that the integrand dies out
    fast even for tiny a or b.
    """
    peak = np.log(a / b)
    spread = _half_width(a) + _half_width(b)
    low = np.minimum(peak, -np.log1p(rho * u)) - _TAIL / (1.0 + a)
    low = np.maximum(low, peak - _TAIL / a) - spread
    high = peak + _TAIL / (1.0 + b) + spread
    v = low + (high - low) * np.linspace(0.0, 1.0, _POINTS)
    log_p, log_rest = log_expit(v), log_expit(-v)
    p, rest = np.exp(log_p), np.exp(log_rest)
    at_one = np.exp(-rho * np.log1p(u))
    power = np.exp(-rho * np.log1p(p * u))
    curve = power - rest - p * at_one
    weight = np.exp(a * log_p + b * log_rest - betaln(a, b))
    step = (high - low)[:, 0] / (_POINTS - 1)
    line = (b + a * at_one)[:, 0] / (a + b)[:, 0]
    mean: FloatArray = line + step * np.sum(weight * curve, axis=1)
    return mean


def _half_width(shape: FloatArray | float) -> FloatArray:
    """How far from the peak the density of log p has fallen by the tail, on its steep side."""
    return np.minimum(np.sqrt(2.0 * _TAIL / shape), 2.0 + np.log1p(_TAIL / shape))
