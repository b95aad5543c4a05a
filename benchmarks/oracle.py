"""BG/NBD, MBG/NBD and Gamma-Gamma once more, from their definitions and with more digits.

Slow and plain: sums of positive terms in numbers of 64 binary digits (19 decimal ones, where the
machine has them), and integrals over the dropout probability and over time. Nothing is shared with
`models.btyd`. Of one customer who is alive: λ ~ Gamma(r + x, rate α + T), p ~ Beta(a, b + k), with
k = x occasions survived in BG/NBD and x + 1 in MBG/NBD.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Long = np.longdouble
Longs = NDArray[np.longdouble]

_STEP = Long(1) / 48
_REACH = 48.0
"""In the logarithm of a weight: what is further out is nothing."""

_LEAST_LOG = np.log(np.finfo(Long).tiny)

_STIRLING = [Long(n) / Long(d) for n, d in (
    (1, 12), (-1, 360), (1, 1260), (-1, 1680), (1, 1188), (-691, 360360), (1, 156), (-3617, 122400),
)]  # fmt: skip


def log_gamma(x: float) -> Long:
    """Stirling's series, far enough out."""
    at, shift = Long(x), Long(0)
    while at < 40:
        shift += np.log(at)
        at += 1
    series = sum(c / at ** (2 * n + 1) for n, c in enumerate(_STIRLING))
    half = Long(1) / 2
    return (at - half) * np.log(at) - at + half * np.log(2 * np.pi * Long(1)) + series - shift


@dataclass(frozen=True)
class Customer:
    """One customer of BG/NBD (first = 0) or MBG/NBD (first = 1)."""

    r: float
    alpha: float
    a: float
    b: float
    first: int
    x: float
    t_x: float
    T: float

    @property
    def _k(self) -> int:
        return int(self.x) + self.first

    def log_likelihood(self) -> Long:
        """Of the purchases: alive until T, or gone after the last one."""
        r, alpha, a, b = map(Long, (self.r, self.alpha, self.a, self.b))
        i = np.arange(int(self.x), dtype=Long)
        rate = np.log((r + i) / (alpha + Long(self.t_x))).sum()
        rate -= r * np.log1p(Long(self.t_x) / alpha)
        i = np.arange(self._k, dtype=Long)
        stayed = -np.log1p(a / (b + i)).sum()
        return rate + stayed - self._silence() + np.logaddexp(Long(0), self._log_odds())

    def p_alive(self) -> Long:
        """By Bayes."""
        return 1 / (1 + self._odds())

    def time_alive(self) -> Long:
        """Until T: those who have gone left at t_x."""
        return Long(self.t_x) + self.p_alive() * (Long(self.T) - Long(self.t_x))

    def _silence(self) -> Long:
        return (Long(self.r) + Long(self.x)) * np.log1p(
            (Long(self.T) - Long(self.t_x)) / (Long(self.alpha) + Long(self.t_x))
        )

    def _odds(self) -> Long:
        """That they have gone; beyond what a number can hold, nobody is alive."""
        with np.errstate(over="ignore"):
            return np.exp(self._log_odds())

    def _log_odds(self) -> Long:
        if not self._k:
            return Long(-np.inf)
        return np.log(Long(self.a) / (Long(self.b) + (self._k - 1))) + self._silence()

    def purchases(self, t: float) -> Long:
        """E over p of [1 - (1 + p t / (α + T))^-(r+x)] / p, by the chance of being alive."""
        p, weight = self._dropout()
        each = -np.expm1(-self._shape * np.log1p(p * Long(t) / self._scale)) / p
        return self.p_alive() * (weight * each).sum()

    def discounted(self, t: float, rate: float) -> tuple[float, float]:
        """Purchases and time alive, each moment s worth exp(-rate s)."""
        p, weight = (each.astype(np.float64) for each in self._dropout())
        kept = weight > 1e-25 * weight.max()
        p, weight = p[kept], weight[kept]
        nodes, parts = np.polynomial.legendre.leggauss(12)
        edges = np.linspace(-45.0, 0.0, 61)
        half = np.diff(edges)[:, None] / 2
        s = t * np.exp(edges[:-1, None] + half * (nodes + 1)).ravel()
        width = (half * parts).ravel() * s * np.exp(-rate * s)
        shape, scale = float(self._shape), float(self._scale)
        survival = np.log1p(p[:, None] * s / scale)
        lives = np.exp(-shape * survival)
        buys = shape / scale * (weight @ (lives * np.exp(-survival))) @ width
        alive = float(self.p_alive())
        return alive * float(buys), alive * float((weight @ lives) @ width)

    def at_least(self, n: int, t: float) -> Long:
        """Alive, not gone at the first n - 1 of the purchases, and the n-th is before t."""
        i = np.arange(n - 1, dtype=Long)
        b = Long(self.b) + self._k
        stays = np.exp(-np.log1p(Long(self.a) / (b + i)).sum())
        z = Long(t) / (self._scale + Long(t))
        early = -self._shape * np.log1p(Long(t) / self._scale)
        j = np.arange(n + 40_000, dtype=Long)
        steps = np.log(z) + np.log((self._shape + j[:-1]) / (j[:-1] + 1))
        logs = early + np.concatenate(([Long(0)], np.cumsum(steps)))
        before = np.exp(logs[:n]).sum()
        return self.p_alive() * stays * (1 - before if before < 0.5 else np.exp(logs[n:]).sum())

    @property
    def _shape(self) -> Long:
        return Long(self.r) + Long(self.x)

    @property
    def _scale(self) -> Long:
        return Long(self.alpha) + Long(self.T)

    def _dropout(self) -> tuple[Longs, Longs]:
        """Points and weights of p ~ Beta(a, b + k): the trapezoidal rule in its log-odds, stretched
        so that tails of any length have few points."""
        a, b = Long(self.a), Long(self.b) + self._k
        mode = np.log(a / b)
        width = min(Long(1), 1 / np.sqrt(a * b / (a + b)))
        furthest = (_REACH / min(a, b, Long(1)) + _REACH) / width + 50
        v = np.arange(-np.arcsinh(furthest), np.arcsinh(furthest), _STEP, dtype=Long)
        u = mode + width * np.sinh(v)
        log_p, log_q = -np.logaddexp(Long(0), -u), -np.logaddexp(Long(0), u)
        logs = a * log_p + b * log_q
        weight = np.exp(logs - logs.max()) * np.cosh(v)
        # Below the smallest number p makes no difference any more, but has a weight if a is tiny.
        return np.exp(np.maximum(log_p, _LEAST_LOG)), weight / weight.sum()


def spend_log_likelihood(p: float, q: float, v: float, x: float, m: float) -> Long:
    """Gamma-Gamma, equation 1a of Fader and Hardie (2013)."""
    shape, total = Long(p) * Long(x), Long(x) * Long(m)
    beta = log_gamma(shape) + log_gamma(Long(q)) - log_gamma(shape + Long(q))
    at = Long(v) + total
    return -beta + Long(q) * np.log(Long(v) / at) + shape * np.log(total / at) - np.log(Long(m))
