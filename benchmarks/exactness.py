"""`python -m benchmarks.exactness`: every function of BG/NBD, MBG/NBD and Gamma-Gamma against
`benchmarks.oracle`, over random and extreme customers; lifetimes beside it where it is installed.

Pareto/NBD is compared with integrals over time in `tests/test_models/test_pareto_nbd.py`.
"""

from __future__ import annotations

import importlib
import importlib.util
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from benchmarks.oracle import Customer, Long, spend_log_likelihood
from models.btyd import BgNbd, GammaGamma, MbgNbd, PurchaseModel

WRONG = 1e-9
_TINY = 1e-280
"""What is smaller is next to no float."""

MODELS: dict[str, tuple[type[PurchaseModel], int]] = {"MBG/NBD": (MbgNbd, 1), "BG/NBD": (BgNbd, 0)}


@dataclass
class Errors:
    """Relative errors of one function by whom; of logarithms above -1 they are absolute."""

    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)

    def note(self, exact: Any, ours: float, theirs: float | None) -> None:
        """Take in one value, as it should be and as it is."""
        self.ours.append(_error(exact, ours))
        if theirs is not None:
            self.theirs.append(_error(exact, theirs))


def _error(exact: Any, got: float) -> float:
    if not np.isfinite(got):
        return float("inf")
    if abs(exact) < _TINY and abs(got) < _TINY:
        return 0.0
    return float(abs(Long(got) - exact) / abs(exact))


def random_customer(rng: np.random.Generator, kind: int, first: int) -> tuple[Customer, float, int]:
    """A customer, a time ahead, and a number of purchases; every second one is extreme."""
    if kind % 2:
        r, alpha, a, b = 10 ** rng.uniform(-5, 4, 4)
    else:
        r, a, b = rng.uniform(0.05, 5, 3)
        alpha = rng.uniform(1, 100)
    if kind % 8 == 1:
        a, b = 10 ** rng.uniform(0.5, 4), 10 ** rng.uniform(-5, 4)
    age = 10 ** rng.uniform(-1, np.log10(5_000))
    x = t_x = 0.0
    if rng.random() > 0.3:
        x = float(np.floor(10 ** rng.uniform(0, np.log10(2_000))))
        t_x = age * (rng.random() if rng.random() < 0.7 else 1 - 10 ** rng.uniform(-6, 0))
    ahead, n = 10 ** rng.uniform(-1, 3.3), int(np.ceil(10 ** rng.uniform(0, 2.5)))
    return Customer(r, alpha, a, b, first, x, float(t_x), float(age)), float(ahead), n


def of_purchases(
    name: str, points: int, discounted: int, *, peers: bool = True
) -> Iterator[tuple[str, Errors]]:
    """The errors of each function of a model; discounted: customers of the functions with it."""
    family, first = MODELS[name]
    rng = np.random.default_rng(20)
    found: dict[str, Errors] = {}
    peer = _lifetimes(name) if peers else None
    for number in range(points):
        who, t, n = random_customer(rng, number, first)
        model = family(who.r, who.alpha, who.a, who.b)  # type: ignore[call-arg]
        seen = who.x, who.t_x, who.T
        theirs = {} if peer is None else peer(who, t)

        def note(function: str, exact: Any, ours: Any, theirs: dict[str, float] = theirs) -> None:
            errors = found.setdefault(function, Errors())
            errors.note(exact, float(ours), theirs.get(function))

        likelihood = who.log_likelihood()
        scale = max(abs(likelihood), Long(1))
        off = Long(float(model.log_likelihood(*seen))) - likelihood
        their = theirs.get("log-likelihood")
        found.setdefault("log-likelihood", Errors()).note(
            Long(1),
            float(1 + off / scale),
            None if their is None else float(1 + (Long(their) - likelihood) / scale),
        )
        note("P(alive)", who.p_alive(), model.p_alive(*seen))
        note("time alive", who.time_alive(), model.expected_time_alive(*seen))
        note("expected purchases", who.purchases(t), model.expected_purchases(t, *seen))
        several = model.probability_of_at_least(n, t, *seen)
        note("probability of n or more", who.at_least(n, t), several)
        if number < discounted:
            purchases, time = who.discounted(t, 1e-3)
            note(
                "discounted purchases",
                purchases,
                model.expected_discounted_purchases(t, 1e-3, *seen),
            )
            note("discounted time alive", time, model.expected_discounted_time(t, 1e-3, *seen))
    yield from found.items()


def of_spend(points: int) -> Iterator[tuple[str, Errors]]:
    """The errors of Gamma-Gamma."""
    rng = np.random.default_rng(21)
    likelihood, mean = Errors(), Errors()
    for number in range(points):
        p, v = 10 ** (rng.uniform(-3, 3, 2) if number % 2 else rng.uniform(-0.5, 2, 2))
        q = 1 + 10 ** rng.uniform(-3, 3)
        x, m = float(np.floor(10 ** rng.uniform(0, 3.3))), 10 ** rng.uniform(-2, 5)
        model, exact = GammaGamma(p, q, v), spend_log_likelihood(p, q, v, x, m)
        off = Long(float(model.log_likelihood(x, m))) - exact
        likelihood.note(Long(1), float(1 + off / max(abs(exact), Long(1))), None)
        value = Long(p) * (Long(v) + Long(x) * Long(m)) / (Long(p) * Long(x) + (Long(q) - 1))
        mean.note(value, float(model.expected_order_value(x, m)), None)
    yield "log-likelihood", likelihood
    yield "expected value of a purchase", mean


def _lifetimes(name: str) -> Callable[[Customer, float], dict[str, float]] | None:
    """What lifetimes says of a customer; None where it is not installed."""
    if not importlib.util.find_spec("lifetimes"):
        return None
    library = importlib.import_module("lifetimes")
    kind = {"BG/NBD": library.BetaGeoFitter, "MBG/NBD": library.ModifiedBetaGeoFitter}[name]

    def said(who: Customer, t: float) -> dict[str, float]:
        fitter = kind()
        values = {"r": who.r, "alpha": who.alpha, "a": who.a, "b": who.b}
        fitter.params_ = importlib.import_module("pandas").Series(values)
        fitter.predict = None
        seen = (np.array([who.x]), np.array([who.t_x]), np.array([who.T]))
        logs = np.log(list(values.values()))
        found = {
            "log-likelihood": -kind._negative_log_likelihood(  # noqa: SLF001 - it has no other.
                logs, *seen, np.ones(1), 0.0
            ),
            "P(alive)": fitter.conditional_probability_alive(*seen),
            "expected purchases": fitter.conditional_expected_number_of_purchases_up_to_time(
                t, *seen
            ),
        }
        return {function: float(np.ravel(value)[0]) for function, value in found.items()}

    return said


def main(
    points: Annotated[int, typer.Option(min=1, help="Customers of each function.")] = 1_000,
) -> None:
    """Print the largest errors, and how many are above 1e-9."""
    heads = "model", "function", "customers", "ours", "wrong", "lifetimes", "wrong", "not finite"
    table = Table(*heads)
    with warnings.catch_warnings(), np.errstate(all="ignore"):
        warnings.simplefilter("ignore")
        for name in MODELS:
            for function, errors in of_purchases(name, points, points):
                table.add_row(name, function, f"{len(errors.ours):,}", *_cells(errors))
        for function, errors in of_spend(points):
            table.add_row("Gamma-Gamma", function, f"{len(errors.ours):,}", *_cells(errors))
    Console(width=130).print(table)


def _cells(errors: Errors) -> Iterator[str]:
    for each in (errors.ours, errors.theirs):
        finite = [error for error in each if np.isfinite(error)]
        yield f"{max(finite):.0e}" if finite else ""
        yield str(sum(error > WRONG for error in finite)) if finite else ""
    yield str(sum(not np.isfinite(error) for error in errors.theirs)) if errors.theirs else ""


if __name__ == "__main__":
    typer.run(main)
