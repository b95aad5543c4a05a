"""Buy-till-you-die models: orders (BG/NBD), order value (Gamma-Gamma), contacts (Gamma-Poisson)."""

from models.btyd._optimise import Fit, FitError
from models.btyd.bg_nbd import BgNbd, fit_bg_nbd
from models.btyd.cells import Cells, SpendCells
from models.btyd.contacts import GammaPoisson, fit_gamma_poisson
from models.btyd.gamma_gamma import GammaGamma, fit_gamma_gamma

__all__ = [
    "BgNbd",
    "Cells",
    "Fit",
    "FitError",
    "GammaGamma",
    "GammaPoisson",
    "SpendCells",
    "fit_bg_nbd",
    "fit_gamma_gamma",
    "fit_gamma_poisson",
]
