"""Buy-till-you-die models of purchases (`MODELS`), of order value, and of support contacts."""

from models.btyd._optimise import Fit, FitError
from models.btyd.bg_nbd import BgNbd
from models.btyd.cells import Cells, SpendCells
from models.btyd.contacts import GammaPoisson, fit_gamma_poisson
from models.btyd.gamma_gamma import GammaGamma, fit_gamma_gamma
from models.btyd.mbg_nbd import MbgNbd
from models.btyd.model import MODELS, PurchaseModel, model_of, registered
from models.btyd.pareto_nbd import ParetoNbd

__all__ = [
    "MODELS",
    "BgNbd",
    "Cells",
    "Fit",
    "FitError",
    "GammaGamma",
    "GammaPoisson",
    "MbgNbd",
    "ParetoNbd",
    "PurchaseModel",
    "SpendCells",
    "fit_gamma_gamma",
    "fit_gamma_poisson",
    "model_of",
    "registered",
]
