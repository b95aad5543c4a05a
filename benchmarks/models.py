"""`python -m benchmarks.models`: fits and scores of many customers, beside other libraries.

Customers are simulated from MBG/NBD as it was fitted on CDNOW. lifetimes and pymc-marketing take
part where they are installed. One process; medians of the rounds, by the clock and of a processor.
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import statistics
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from models.btyd import Cells, MbgNbd
from models.economics import MONEY_SCALE, Economics
from models.fitting import fit_columns
from models.value import Row, columns_of, valued

TRUTH = MbgNbd(r=0.525, alpha=6.183 * 7, a=0.891, b=1.614)
END = datetime(2026, 1, 1, tzinfo=UTC)


def population(customers: int) -> Row[np.ndarray]:
    """Customers who joined within two years, in whole days; a purchase is 35 on average."""
    rng = np.random.default_rng(1)
    ages = rng.integers(1, 730, customers)
    rate = rng.gamma(TRUTH.r, 1 / TRUTH.alpha, customers)
    dropout = rng.beta(TRUTH.a, TRUTH.b, customers)
    alive = rng.random(customers) >= dropout
    at, x, t_x = (np.zeros(customers, dtype=np.int64) for _ in range(3))
    while alive.any():
        at = at + np.maximum(1, np.rint(rng.exponential(1 / rate))).clip(max=10_000).astype(
            np.int64
        )
        alive = alive & (at <= ages)
        x, t_x = np.where(alive, x + 1, x), np.where(alive, at, t_x)
        alive = alive & (rng.random(customers) >= dropout)
    spent = rng.gamma(6.25 * (x + 1), 1 / rng.gamma(3.74, 1 / 15.44, customers))
    gross = np.maximum(1, np.rint(spent * MONEY_SCALE)).astype(np.int64)
    nothing = np.zeros(customers, dtype=np.int64)
    of = {
        "orders": x + 1, "purchase_days": x + 1, "kept_days": x + 1, "recency": t_x, "T": ages,
        "since_last_order": ages - t_x, "repeat_gross": gross * x // (x + 1), "kept_gross": gross,
        "margin": gross * 3 // 10,
    }  # fmt: skip
    return columns_of(np.array([of.get(name, nothing) for name in Row._fields]))


def contenders(of: Row[np.ndarray]) -> dict[str, dict[str, Callable[[], Any]]]:
    """What each library does, by task; those that are not installed do nothing."""
    economics = Economics()
    x, t_x, age = of.purchase_days - 1, of.recency, of.T
    fitted: dict[str, Any] = {}

    def fit() -> None:
        fitted["ours"] = fit_columns(of, until=END, time_unit="day", economics=economics).parameters

    def purchases() -> None:
        MbgNbd.fit(Cells.count(x, t_x, age))

    def refit() -> None:
        later = of._replace(T=of.T + 7)
        fit_columns(
            later,
            until=END + timedelta(days=7),
            time_unit="day",
            economics=economics,
            start=fitted["ours"].purchases,
        )

    def score() -> None:
        valued(of, fitted["ours"], economics)

    found = {
        "ours": {
            "fit of purchases": purchases,
            "fit of everything": fit,
            "refit, a week later": refit,
            "score with intervals": score,
        }
    }
    if importlib.util.find_spec("lifetimes"):
        lifetimes = importlib.import_module("lifetimes")

        def their_fit() -> None:
            fitter = lifetimes.ModifiedBetaGeoFitter()
            fitted["lifetimes"] = fitter.fit(x, t_x, age)

        def their_score() -> None:
            fitted["lifetimes"].conditional_expected_number_of_purchases_up_to_time(
                365, x, t_x, age
            )
            fitted["lifetimes"].conditional_probability_alive(x, t_x, age)

        found["lifetimes"] = {
            "fit of purchases": their_fit,
            "P(alive), expected purchases": their_score,
        }
    if importlib.util.find_spec("pymc_marketing"):
        clv = importlib.import_module("pymc_marketing.clv")
        pandas = importlib.import_module("pandas")
        data = pandas.DataFrame(
            {"customer_id": np.arange(len(x)), "frequency": x, "recency": t_x, "T": age}
        )

        def map_fit() -> None:
            model = clv.ModifiedBetaGeoModel(data)
            model.fit(method="map")
            fitted["pymc"] = model

        def map_score() -> None:
            fitted["pymc"].expected_purchases(data, future_t=365)
            fitted["pymc"].expected_probability_alive(data)

        found["pymc-marketing, MAP"] = {
            "fit of purchases": map_fit,
            "P(alive), expected purchases": map_score,
        }
    return found


class Seconds(NamedTuple):
    """How long a task took by the clock, and of this process' processor."""

    clock: float
    processor: float


def measured(customers: int, rounds: int) -> dict[str, dict[str, Seconds]]:
    """Median seconds by library and task."""
    tasks = contenders(population(customers))
    seconds: dict[tuple[str, str], list[Seconds]] = {}
    for _ in range(rounds):
        for library, its in tasks.items():
            for task, run in its.items():
                begin = time.perf_counter(), time.process_time()
                run()
                took = Seconds(time.perf_counter() - begin[0], time.process_time() - begin[1])
                seconds.setdefault((library, task), []).append(took)
    result: dict[str, dict[str, Seconds]] = {}
    for (library, task), times in seconds.items():
        medians = map(statistics.median, zip(*times, strict=True))
        result.setdefault(library, {})[task] = Seconds(*medians)
    return result


def main(
    customers: Annotated[list[int] | None, typer.Option(help="How many; repeat.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Of which the median is told.")] = 3,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Time fits and scores."""
    found = {number: measured(number, rounds) for number in customers or [100_000, 1_000_000]}
    if as_json:
        print(json.dumps(found))
        return
    table = Table("customers", "library", "task", "seconds", "of a processor", "µs a customer")
    for number, libraries in found.items():
        for library, tasks in libraries.items():
            for task, seconds in tasks.items():
                each = f"{seconds.processor / number * 1e6:.2f}"
                times = (f"{value:.2f}" for value in seconds)
                table.add_row(f"{number:,}", library, task, *times, each)
    Console(width=110).print(table)


if __name__ == "__main__":
    typer.run(main)
