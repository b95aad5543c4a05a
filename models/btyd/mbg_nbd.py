"""MBG/NBD: as BG/NBD, but a customer may drop out right after the first purchase too.

While alive a customer buys at a Poisson rate λ ~ Gamma(r, rate α), and after each purchase, the
first one included, drops out with probability p ~ Beta(a, b). So a one-time buyer need not be alive
for ever, as in BG/NBD. Batislam, Denizel and Filiztekin (2007), Empirical validation and comparison
of models for customer base analysis, International Journal of Research in Marketing 24(3).
"""

from dataclasses import dataclass
from typing import ClassVar

from models.btyd._beta_geometric import BetaGeometric
from models.btyd.model import registered
from models.btyd.prior import LogNormal, Prior


@registered
@dataclass(frozen=True, slots=True)
class MbgNbd(BetaGeometric):
    """MBG/NBD with parameters r, α, a and b; right at the first purchase P(alive) is b/(a+b)."""

    name: ClassVar[str] = "mbg-nbd"
    title: ClassVar[str] = "MBG/NBD"
    occasions_before: ClassVar[int] = 1

    @classmethod
    def weak_prior(cls, week: float = 1.0) -> Prior:
        """Return what is assumed of a shop that has hardly any customers yet."""
        return {
            "r": LogNormal(0.5, 1.0),
            "alpha": LogNormal(10.0 * week, 1.0),
            "a": LogNormal(0.7, 1.0),
            "b": LogNormal(2.5, 1.0),
        }
