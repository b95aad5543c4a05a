"""Customers drawn from the models' own assumptions, event by event."""

import numpy as np

from models.btyd import BgNbd, Cells, MbgNbd, ParetoNbd, PurchaseModel

Statistics = tuple[np.ndarray, np.ndarray, np.ndarray]


def simulated(model: PurchaseModel, T: np.ndarray, rng: np.random.Generator) -> Statistics:
    """x, t_x and T of one customer for each age in T."""
    number = len(T)
    rate = rng.gamma(model.r, 1 / model.alpha, number)
    if isinstance(model, ParetoNbd):
        end = rng.exponential(1 / rng.gamma(model.s, 1 / model.beta, number))
        dropout = np.zeros(number)
    else:
        end = np.full(number, np.inf)
        dropout = rng.beta(model.a, model.b, number)
    alive = np.ones(number, dtype=bool)
    if isinstance(model, MbgNbd):
        alive = rng.random(number) >= dropout
    x, t_x, time = np.zeros(number), np.zeros(number), np.zeros(number)
    while alive.any():
        time = time + rng.exponential(1 / rate)
        buys = alive & (time < np.minimum(T, end))
        x, t_x = np.where(buys, x + 1, x), np.where(buys, time, t_x)
        alive = buys & (rng.random(number) >= dropout)
    return x, t_x, T


def no_dropout() -> Cells:
    """Three hundred customers none of whom ever drops out."""
    immortal = BgNbd(r=0.5, alpha=5.0, a=1e-9, b=1.0)
    rng = np.random.default_rng(4)
    return Cells.count(*simulated(immortal, rng.uniform(20, 60, 300), rng))
