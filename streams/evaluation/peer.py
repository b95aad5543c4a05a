"""The predictions of the library lifetimes, where it is installed."""

from __future__ import annotations

import importlib
import io
import warnings
from contextlib import redirect_stdout
from types import ModuleType
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.evaluation import Rival
from models.value import Row

Floats = NDArray[np.float64]

NAME: Final = "lifetimes (BG/NBD)"
WEEK: Final = 7.0


def lifetimes() -> ModuleType | None:
    """Return the library, or None if it is not installed."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return importlib.import_module("lifetimes")
    except ImportError:
        return None


def predicted(library: ModuleType, of: Row[Floats], days: int) -> Rival | None:
    """Return what its BG/NBD and Gamma-Gamma expect within so many days; None if they do not fit.

    As its documentation has it: Gamma-Gamma on repeat purchases with a positive mean value, and the
    population's mean for everybody else.
    """
    frequency = np.maximum(of.purchase_days - 1, 0)
    value = of.repeat_gross / np.maximum(frequency, 1)
    seen = frequency, of.recency / WEEK, of.T / WEEK
    # What it prints of a search that failed must not mix with our results.
    with warnings.catch_warnings(), np.errstate(all="ignore"), redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        try:
            orders = library.BetaGeoFitter(penalizer_coef=0.0).fit(*seen)
            spent = (frequency > 0) & (value > 0)
            money = library.GammaGammaFitter(penalizer_coef=0.0).fit(frequency[spent], value[spent])
            purchases = np.asarray(
                orders.conditional_expected_number_of_purchases_up_to_time(days / WEEK, *seen)
            )
            # It has no answer for a frequency of 0; the population's mean is that of no weight.
            p, q, v = (float(money.params_[name]) for name in ("p", "q", "v"))
        except (ValueError, ArithmeticError, library.utils.ConvergenceError):
            return None
    number = np.where(spent, frequency, 0.0)
    mean: Floats = p * (v + number * value) / (p * number + q - 1.0)
    expected = np.nan_to_num(purchases)
    return Rival(expected, expected * mean)
