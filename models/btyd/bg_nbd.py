"""BG/NBD: how often a customer buys, and whether they still do.

While alive a customer buys at a Poisson rate λ ~ Gamma(r, rate α) and after each purchase drops out
with probability p ~ Beta(a, b). Fader, Hardie and Lee (2005), "Counting Your Customers" the Easy
Way, Marketing Science 24(2); equation numbers below are theirs.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.special import betainc, betaln, digamma, expit, gammaln, xlogy

from models.btyd._beta_mean import beta_mean_of_power
from models.btyd._checks import FloatArray, horizon, refuse_rows, require_positive, statistics
from models.btyd._optimise import Fit, FitError, maximise
from models.btyd.cells import Cells

_SMALLEST, _LARGEST = 1e-5, 1e4  # of every fitted parameter, α in units of the longest T
_FORGOTTEN = 40.0  # discount e-folds after which a purchase is worth nothing: 4e-18


@dataclass(frozen=True, slots=True)
class BgNbd:
    """BG/NBD with parameters r, α, a and b, in the time unit of the statistics it is given.

    Statistics are scalars or arrays that broadcast together: x, the number of repeat purchases;
    t_x, the time from the first purchase to the last; T, the time from the first purchase to now.
    Results are float64 arrays of the broadcast shape. Raises ValueError for parameters that are not
    finite and > 0, and for statistics that cannot be (naming the row).
    """

    r: float
    alpha: float
    a: float
    b: float

    def __post_init__(self) -> None:
        require_positive("BG/NBD", r=self.r, alpha=self.alpha, a=self.a, b=self.b)

    def log_likelihood(self, x: npt.ArrayLike, t_x: npt.ArrayLike, T: npt.ArrayLike) -> FloatArray:
        """Return each customer's log-likelihood (equation 6)."""
        x, t_x, T = statistics(x, t_x, T)
        alive = self._log_likelihood_alive(x, T)
        return alive + np.logaddexp(0.0, self._log_odds_of_death(x, t_x, T))

    def mean_log_likelihood(self, cells: Cells) -> tuple[float, FloatArray]:
        """Return the mean log-likelihood of counted customers and its gradient by (r, α, a, b)."""
        x, t_x, T = cells.x, cells.t_x, cells.T
        share = cells.number / cells.number.sum()
        r, alpha, a, b = self.r, self.alpha, self.a, self.b
        log_odds = self._log_odds_of_death(x, t_x, T)
        dead: FloatArray = expit(log_odds)
        value = self._log_likelihood_alive(x, T) + np.logaddexp(0.0, log_odds)
        both = digamma(a + b) - digamma(a + b + x)
        gradient = (
            digamma(r + x) - digamma(r) - np.log1p(T / alpha)
            + dead * np.log1p((T - t_x) / (alpha + t_x)),
            r / alpha - (r + x) / (alpha + T)
            + dead * (r + x) * (1.0 / (alpha + T) - 1.0 / (alpha + t_x)),
            both + dead / a,
            both + digamma(b + x) - digamma(b) - dead / self._survivals(x),
        )  # fmt: skip
        return float(share @ value), np.array([share @ part for part in gradient])

    def p_alive(self, x: npt.ArrayLike, t_x: npt.ArrayLike, T: npt.ArrayLike) -> FloatArray:
        """Return the probability that the customer has not dropped out; 1 when x = 0.

        Fader, Hardie and Lee (2008), Computing P(alive) Using the BG/NBD Model.
        """
        return self._p_alive(*statistics(x, t_x, T))

    def expected_purchases(
        self, t: npt.ArrayLike, x: npt.ArrayLike, t_x: npt.ArrayLike, T: npt.ArrayLike
    ) -> FloatArray:
        """Return the expected number of purchases in (T, T + t] (equation 10)."""
        return self.expected_discounted_purchases(t, 0.0, x, t_x, T)

    def expected_discounted_purchases(
        self,
        t: npt.ArrayLike,
        discount_rate: float,
        x: npt.ArrayLike,
        t_x: npt.ArrayLike,
        T: npt.ArrayLike,
    ) -> FloatArray:
        """Return the expected number of purchases in (T, T + t], each discounted to now.

        discount_rate is δ, compounded continuously, per unit of time: a purchase s from now counts
        exp(-δ s). The result is P(alive) ∫₀ᵗ exp(-δ s) n(s) ds, n(s) the expected rate of purchases
        of a customer now alive, E[λ exp(-λ p s)].
        """
        t = horizon(t)
        if not (np.isfinite(discount_rate) and discount_rate >= 0):
            raise ValueError(f"discount_rate is {discount_rate!r}; it must be finite and >= 0")
        x, t_x, T = statistics(x, t_x, T)
        if t.ndim == 0:  # Once for equal (x, T): those who came today are many, and the slowest.
            distinct, row = np.unique(x + 1j * T, return_inverse=True)
            ahead = self._purchases_while_alive(t, discount_rate, distinct.real, distinct.imag)[row]
        else:
            ahead = self._purchases_while_alive(t, discount_rate, x, T)
        return self._p_alive(x, t_x, T) * ahead

    def discounted_residual_purchases(
        self, discount_rate: float, x: npt.ArrayLike, t_x: npt.ArrayLike, T: npt.ArrayLike
    ) -> FloatArray:
        """Return the expected number of all future purchases, each discounted to now (DERT).

        As expected_discounted_purchases without a horizon; discount_rate must be > 0.
        """
        if not (np.isfinite(discount_rate) and discount_rate > 0):
            raise ValueError(f"discount_rate is {discount_rate!r}; it must be finite and > 0")
        return self.expected_discounted_purchases(
            _FORGOTTEN / discount_rate, discount_rate, x, t_x, T
        )

    def expected_purchases_of_new_customer(self, t: npt.ArrayLike) -> FloatArray:
        """Return E[X(t)], the expected repeat purchases within t of the first (equation 9)."""
        return self.expected_purchases(t, 0, 0, 0)

    def probability_of_purchases(self, n: npt.ArrayLike, t: npt.ArrayLike) -> FloatArray:
        """Return P(X(t) = n), of exactly n repeat purchases t after the first (equation 8)."""
        t = horizon(t)
        n = np.asarray(n, dtype=np.float64)
        whole = np.isfinite(n) & (n >= 0) & (n == np.floor(n))
        refuse_rows(~whole, "n must be a whole number >= 0", n=n)
        z = t / (self.alpha + t)
        counts = (
            gammaln(self.r + n) - gammaln(self.r) - gammaln(n + 1.0)
            - self.r * np.log1p(t / self.alpha) + xlogy(n, z)
        )  # fmt: skip
        alive = np.exp(betaln(self.a, self.b + n) - betaln(self.a, self.b) + counts)
        dropped = np.exp(betaln(self.a + 1.0, self._survivals(n)) - betaln(self.a, self.b))
        at_least_n: FloatArray = betainc(np.maximum(n, 1.0), self.r, z)
        probability: FloatArray = alive + np.where(n > 0, dropped * at_least_n, 0.0)
        return probability

    def _survivals(self, x: FloatArray) -> FloatArray:
        """Return b + x - 1, and b when x = 0; grouped so that a tiny b is kept."""
        survivals: FloatArray = self.b + (np.maximum(x, 1.0) - 1.0)
        return survivals

    def _log_odds_of_death(self, x: FloatArray, t_x: FloatArray, T: FloatArray) -> FloatArray:
        silence = np.log1p((T - t_x) / (self.alpha + t_x))
        odds: FloatArray = (self.r + x) * silence + np.log(self.a / self._survivals(x))
        return np.where(x > 0, odds, -np.inf)

    def _p_alive(self, x: FloatArray, t_x: FloatArray, T: FloatArray) -> FloatArray:
        alive: FloatArray = expit(-self._log_odds_of_death(x, t_x, T))
        return alive

    def _log_likelihood_alive(self, x: FloatArray, T: FloatArray) -> FloatArray:
        r, alpha, a, b = self.r, self.alpha, self.a, self.b
        likelihood: FloatArray = (
            gammaln(r + x) - gammaln(r) - r * np.log1p(T / alpha) - x * np.log(alpha + T)
            + betaln(a, b + x) - betaln(a, b)
        )  # fmt: skip
        return likelihood

    def _purchases_while_alive(
        self, t: FloatArray, discount_rate: float, x: FloatArray, T: FloatArray
    ) -> FloatArray:
        """Integrate exp(-δ s) n(s) over the horizon.

        n(s) = (r+x)/(α+T) E[(1 + p s/(α+T))^-(r+x+1)], p ~ Beta(a, b+x).

        By Gauss-Legendre in w = ln(1 + s k), k the pace at which the integrand falls at first: it
        falls at every pace from there to none, and all of them are equally long in w.
        """
        t, x, T = np.broadcast_arrays(t, x, T)
        shape, scale, b = self.r + x, self.alpha + T, self.b + x
        dropout = (shape + 1.0) * self.a / (self.a + b)
        pace = np.maximum(np.maximum(dropout, 1.0) / scale, discount_rate)
        end = np.log1p(t * pace)
        rate = shape / scale * end / pace
        needed = _nodes_needed(end)
        purchases = np.empty(rate.shape)
        # By number of nodes, and summed row by row: a customer's value must not depend, not even
        # in its last digit, on who else is in the batch.
        for number in np.unique(needed):
            rows = needed == number
            columns = (end[rows], pace[rows], shape[rows], scale[rows], b[rows])
            purchases[rows] = self._integral(int(number), discount_rate, *columns)
        return rate * purchases

    def _integral(self, number: int, discount_rate: float, *columns: FloatArray) -> FloatArray:
        """Integrate over w in [0, end], divided by end, with so many nodes; one row each.

        columns: end, pace, shape, scale and b of the rows.
        """
        end, pace, shape, scale, b = columns
        nodes, weights = _gauss_legendre(number)
        w = end[:, None] * nodes
        s = np.expm1(w) / pace[:, None]
        mean = beta_mean_of_power(
            np.broadcast_to((shape + 1.0)[:, None], s.shape),
            s / scale[:, None],
            self.a,
            np.broadcast_to(b[:, None], s.shape),
        )
        integral: FloatArray = np.sum(np.exp(w - discount_rate * s) * mean * weights, axis=1)
        return integral


def fit_bg_nbd(cells: Cells, start: BgNbd | None = None) -> Fit[BgNbd]:
    """Estimate BG/NBD by maximum likelihood from counted customers.

    start: parameters to search from, such as the last fit's. Raises FitError when there are no
    customers, when none has bought again, and when the search does not converge.
    """
    x, t_x, T, number = cells.x, cells.t_x, cells.T, cells.number
    customers = cells.customers
    if customers == 0:
        raise FitError("BG/NBD: no customers to fit on; load orders first")
    if not np.any(number * x):
        raise FitError(
            f"BG/NBD: none of {customers} customers has a repeat purchase, so rate and dropout "
            "cannot be told apart; fit on a longer period, or keep the previous parameters"
        )
    longest = float(T.max())
    if longest == 0:
        raise FitError(
            f"BG/NBD: T is 0 for all {customers} customers, no time has passed since their first "
            "purchases; fit on a longer period"
        )
    # In units of the longest T, so that the search is the same in days and in weeks.
    scaled = Cells(x, t_x / longest, T / longest, number)

    def mean_log_likelihood(values: FloatArray) -> tuple[float, FloatArray]:
        return BgNbd(*values.tolist()).mean_log_likelihood(scaled)

    if start is None:
        rate = float(number @ x) / float(number @ scaled.T)
        start = BgNbd(r=0.5, alpha=0.5 / rate, a=0.5, b=2.0)
    else:
        start = BgNbd(start.r, start.alpha / longest, start.a, start.b)
    names = ("r", "alpha", "a", "b")
    found, iterations, edges = maximise(
        "BG/NBD",
        mean_log_likelihood,
        {name: getattr(start, name) for name in names},
        dict.fromkeys(names, _SMALLEST),
        dict.fromkeys(names, _LARGEST),
    )
    model = BgNbd(found["r"], found["alpha"] * longest, found["a"], found["b"])
    log_likelihood = float(number @ model.log_likelihood(x, t_x, T))
    return Fit(model, log_likelihood, customers, iterations, edges)


def _nodes_needed(end: FloatArray) -> npt.NDArray[np.intp]:
    """Return how many nodes integrate up to w = end to 1e-10, in steps that the cache can hold."""
    return 4 * np.ceil((6.0 + 2.0 * end) / 4.0).astype(np.intp)


@lru_cache(maxsize=128)
def _gauss_legendre(number: int) -> tuple[FloatArray, FloatArray]:
    """Return the nodes and weights of the rule on [0, 1]."""
    nodes, weights = np.polynomial.legendre.leggauss(number)
    return (nodes + 1.0) / 2.0, weights / 2.0
