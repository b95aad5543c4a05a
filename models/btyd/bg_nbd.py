"""BG/NBD: a customer may drop out after each repeat purchase.

While alive a customer buys at a Poisson rate λ ~ Gamma(r, rate α) and after each repeat purchase
drops out with probability p ~ Beta(a, b). Fader, Hardie and Lee (2005), "Counting Your Customers"
the Easy Way, Marketing Science 24(2), equation 6 for the likelihood; P(alive) is theirs of 2008,
Computing P(alive) Using the BG/NBD Model.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import betainc, betaln, gammaln, xlogy

from models.btyd._beta_geometric import BetaGeometric, before_the_last
from models.btyd._checks import FloatArray, Numbers, horizon, whole_number
from models.btyd.model import registered
from models.btyd.prior import LogNormal, Prior


@registered
@dataclass(frozen=True, slots=True)
class BgNbd(BetaGeometric):
    """BG/NBD with parameters r, α, a and b; who has not bought again is alive for certain."""

    name: ClassVar[str] = "bg-nbd"
    title: ClassVar[str] = "BG/NBD"
    occasions_before: ClassVar[int] = 0

    @classmethod
    def weak_prior(cls, week: float = 1.0) -> Prior:
        """Return what is assumed of a shop that has hardly any customers yet."""
        return {
            "r": LogNormal(0.5, 1.0),
            "alpha": LogNormal(10.0 * week, 1.0),
            "a": LogNormal(0.5, 1.0),
            "b": LogNormal(3.0, 1.0),
        }

    def probability_of_purchases(self, n: Numbers, t: Numbers) -> FloatArray:
        """Return P(X(t) = n), of exactly n repeat purchases t after the first (equation 8)."""
        n, t = whole_number(n), horizon(t)
        z = t / (self.alpha + t)
        counts = (
            gammaln(self.r + n) - gammaln(self.r) - gammaln(n + 1.0)
            - self.r * np.log1p(t / self.alpha) + xlogy(n, z)
        )  # fmt: skip
        alive = np.exp(betaln(self.a, self.b + n) - betaln(self.a, self.b) + counts)
        survivals = before_the_last(self.b, n)
        dropped = np.exp(betaln(self.a + 1.0, survivals) - betaln(self.a, self.b))
        at_least_n: FloatArray = betainc(np.maximum(n, 1.0), self.r, z)
        probability: FloatArray = alive + np.where(n > 0, dropped * at_least_n, 0.0)
        return probability
