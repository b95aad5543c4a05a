"""Refits: fitting a candidate on a population, judging it, and whether a refit is due by drift.

A candidate takes the place of the parameters in force only if it passes `judge`: a fit that went
wrong must not change every customer's value.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from datetime import datetime
from typing import Final, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from models import choosing
from models.btyd import Cells, FitError, PurchaseModel
from models.btyd._beta_geometric import BetaGeometric
from models.btyd.cells import counted
from models.btyd.complaints import WEAK_PRIOR, Complaining, ComplaintCells, fit_complaints
from models.calendar import milliseconds
from models.calibration import Calibration, calibration
from models.contracts.parameters import Parameters
from models.economics import Economics
from models.fitting import DEFAULT_MODEL, Fitted, TimeUnit, fit_columns, version_of
from models.population import Followed, Population, Seen
from models.totals import demand_deviation
from models.value import YEAR, Row, occasions_complained

Floats = NDArray[np.float64]

HELD_OUT_DAYS: Final = 28
"""Days at the end that a candidate is tried on, and over which drift is measured: whole weeks."""

MOST_TIMES: Final = 4.0
"""How many times as much, or as little, a candidate may expect as the parameters in force."""

MOST_ERRORS_WORSE: Final = 2.0
"""Standard errors by which a candidate may predict the held-out days worse."""

DRIFT_SHARE: Final = 0.15
DRIFT_ERRORS: Final = 3.0
"""Purchases drift where they differ by more than this share, and by more standard errors."""

EARLIER: Final = 5
"""Times 28 days before the last, over which it is seen how far the demand of all strays."""

DIGITS: Final = 6
"""Significant digits of a candidate's parameters."""

SAME: Final = 1e-5
"""Relative difference below which parameters are the same: searches from other starts differ in
the last of their digits."""

_RAREST: Final = 1e-9
"""Least probability in a log score: a single customer must not decide."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a candidate passes; reasons: why not, in words; notes: what it was judged by.

    calibration: None where it is implausible, or hardly anybody had bought 28 days ago.
    """

    reasons: tuple[str, ...]
    notes: tuple[str, ...] = ()
    calibration: Calibration | None = None

    @property
    def passes(self) -> bool:
        """Whether nothing speaks against the candidate."""
        return not self.reasons


class Drift(NamedTuple):
    """Purchases of the last days by customers who were known before, and what was expected."""

    observed: float
    expected: float
    error: float
    """Standard error of the expectation, by the model itself and by how wrong it was before."""

    @property
    def found(self) -> bool:
        """Whether the difference is too large for chance, and large enough to matter."""
        apart = abs(self.observed - self.expected)
        return apart > DRIFT_SHARE * self.expected and apart > DRIFT_ERRORS * self.error

    @property
    def text(self) -> str:
        """The figures in words."""
        return (
            f"{self.observed:,.0f} purchases in {HELD_OUT_DAYS} days, and {self.expected:,.0f} "
            f"± {self.error:,.0f} were expected"
        )


def fit_candidate(
    population: Population,
    *,
    until: datetime,
    economics: Economics,
    in_force: Parameters | None = None,
    model: str = DEFAULT_MODEL,
    time_unit: TimeUnit = "day",
) -> Fitted:
    """Fit parameters, rounded to 6 significant digits, as of the day of `until`.

    model: of purchases, or `choosing.AUTO`. The search starts at the parameters in force if they
    are of the same model and time unit.

    Raises
    ------
    FitError
        if nobody has bought, or the search does not converge.
    """
    today = economics.day(milliseconds(until))
    chosen: tuple[str, ...] = ()
    if model == choosing.AUTO:
        choice = choosing.choose(population, today, DEFAULT_MODEL)
        model, chosen = choice.model, (choice.why,)
    start = None
    if in_force is not None and (in_force.model, in_force.time_unit) == (model, time_unit):
        start = in_force.purchases
    fitted = fit_columns(
        population.columns(today),
        until=until,
        time_unit=time_unit,
        economics=economics,
        model=model,
        start=start,
        past=population.past(today),
        halves=population.halves(today),
    )
    return Fitted(rounded(fitted.parameters), (*chosen, *fitted.notes))


def rounded(parameters: Parameters) -> Parameters:
    """Return the parameters with 6 significant digits, and a version that fits them."""
    document = parameters.model_dump(mode="json")
    numbers = {name: _rounded(each) for name, each in document.items() if name != "customers"}
    found = Parameters.model_validate(document | numbers)
    return found.model_copy(update={"version": version_of(found, found.fitted_until)})


def same(one: Parameters, other: Parameters) -> bool:
    """Return whether both give the same values, whatever they are called and when they hold."""
    return all(
        _alike(mine, theirs) for mine, theirs in zip(*map(_content, (one, other)), strict=True)
    )


def judge(
    candidate: Parameters,
    in_force: Parameters | None,
    population: Population,
    today: int,
    *,
    passed: float = 1.0,
) -> Verdict:
    """Judge a candidate that was fitted on this population on a day.

    in_force: None before the first; then the candidate only has to be plausible by itself.
    passed: the share of the day that was over; purchases are expected for no more than that.
    """
    reasons = _implausible(candidate, population.columns(today))
    if reasons:
        return Verdict(tuple(reasons))
    held_out = _HeldOut.of(candidate, in_force, population, today - HELD_OUT_DAYS)
    if in_force is None:
        return Verdict((), (), held_out.calibration(passed))
    worse, note = held_out.compared(in_force)
    reasons += [*_far_from(candidate, in_force), *worse]
    return Verdict(tuple(reasons), (note,) if note else (), held_out.calibration(passed))


def drift(population: Population, in_force: Parameters, today: int) -> Drift:
    """Compare the purchases of the last 28 days with what the parameters expected of them.

    How far the demand of all strays is taken from the four weeks before, and those before them.
    """
    observed, expected, variance = _since(population, in_force, today - HELD_OUT_DAYS)
    strayed = []
    for number in range(1, EARLIER + 1):
        until = today - number * HELD_OUT_DAYS
        came, foreseen, _ = _since(population, in_force, until - HELD_OUT_DAYS, until)
        if came > 0 and foreseen > 0:
            strayed.append(math.log(came / foreseen))
    demand = demand_deviation(strayed) * expected
    return Drift(observed, expected, math.sqrt(variance + demand**2))


def _since(
    population: Population, in_force: Parameters, day: int, until: int | None = None
) -> tuple[float, float, float]:
    """Return the purchases after a day of those known on it, how many were expected in 28 days, and
    the variance of that by the model. until: the day 28 days later, if it is not the last one."""
    seen = population.at(day)
    observed = float(seen.after.sum())
    if until is not None:
        _, _, age, after = population.at(until)
        observed -= float(after[age >= until - day].sum())
    if not seen.x.size:
        return 0.0, 0.0, 0.0
    unit = in_force.unit_days
    told = seen._replace(after=np.zeros(seen.x.shape))
    alike, complained, number = _alike_customers(
        told, population, day, complaints=in_force.complaint_weight != 1.0
    )
    model = _with_complaints(in_force.purchases, in_force.complaint_weight, alike.x, complained)
    ahead = model.purchase_counts(HELD_OUT_DAYS / unit, alike.x, alike.t_x / unit, alike.T / unit)
    variance = float(number @ np.maximum(ahead.square - ahead.mean**2, 0.0))
    return observed, float(number @ ahead.mean), variance


def _alike_customers(
    seen: Seen, population: Population, day: int, *, complaints: bool
) -> tuple[Seen, Followed | None, Floats]:
    """Return the distinct customers of a day, what complaints followed, and how many have each."""
    if not (complaints and population.complained):
        *distinct, number = counted(1, *seen)
        return Seen(*distinct), None, number
    *distinct, number = counted(1, *seen, *population.followed(day, seen))
    return Seen(*distinct[:4]), Followed(*distinct[4:]), number


def _with_complaints(
    model: PurchaseModel, weight: float, x: Floats, complained: Followed | None
) -> PurchaseModel:
    """Return the model of these customers, in which their complaints have this weight."""
    if complained is None or weight == 1.0 or not isinstance(model, BetaGeometric):
        return model
    return Complaining.of(model, weight, occasions_complained(model, x, *complained))


def log_scores(model: PurchaseModel, unit_days: int, seen: Seen) -> Floats:
    """Return each customer's log-probability of as many purchases as followed in 28 days."""
    of = Seen(seen.x, seen.t_x / unit_days, seen.T / unit_days, seen.after)
    scores: Floats = np.maximum(
        choosing.log_scores(model, of, HELD_OUT_DAYS / unit_days), math.log(_RAREST)
    )
    return scores


def _implausible(candidate: Parameters, everybody: Row[Floats]) -> list[str]:
    """Return what is wrong with a candidate whatever else is in force."""
    title, unit, model = candidate.purchases.title, candidate.unit_days, candidate.purchases
    a_year = float(model.expected_purchases_of_new_customer(YEAR / unit))
    bought = everybody.purchase_days > 0
    cells = Cells.count(
        everybody.purchase_days[bought] - 1,
        everybody.recency[bought] / unit,
        everybody.T[bought] / unit,
    )
    alive = model.p_alive(cells.x, cells.t_x, cells.T)
    reasons = []
    if not math.isfinite(a_year):
        reasons.append(f"{title}: a new customer is expected to buy {a_year} times in a year")
    if not np.isfinite(alive).all():
        reasons.append(f"{title}: P(alive) of {_count(~np.isfinite(alive), cells)} is no number")
    elif ((alive < 0) | (alive > 1)).any():
        outside = _count((alive < 0) | (alive > 1), cells)
        reasons.append(f"{title}: P(alive) of {outside} is not between 0 and 1")
    spend = candidate.order_value
    if spend is not None and not math.isfinite(spend.mean_order_value):
        reasons.append("Gamma-Gamma: the mean value of a purchase is not finite")
    return reasons


def _far_from(candidate: Parameters, in_force: Parameters) -> list[str]:
    reasons = []
    new, old = (
        float(each.purchases.expected_purchases_of_new_customer(YEAR / each.unit_days))
        for each in (candidate, in_force)
    )
    if not _near(new, old):
        reasons.append(
            f"a new customer is expected to buy {new:.3g} times in a year, and {old:.3g} times by "
            f"{in_force.version}: more than a factor of {MOST_TIMES:g}"
        )
    if in_force.order_value is None:
        return reasons
    if candidate.order_value is None:
        reasons.append(
            f"the value of a purchase could not be fitted, and {in_force.version} has a model of it"
        )
        return reasons
    mine, theirs = candidate.order_value.mean_order_value, in_force.order_value.mean_order_value
    if not _near(mine, theirs):
        reasons.append(
            f"a purchase is worth {mine:,.2f} {candidate.currency} in the mean, and {theirs:,.2f} "
            f"by {in_force.version}: more than a factor of {MOST_TIMES:g}"
        )
    return reasons


@dataclass(frozen=True, slots=True)
class _HeldOut:
    """The last 28 days, and what a candidate of the same kind expects that has not seen them."""

    seen: Seen
    complained: Followed | None
    number: Floats
    cut: int
    unit: int
    trial: PurchaseModel | None
    """None where the fit on what was known before failed, or hardly anybody had bought."""
    failure: str = ""

    @classmethod
    def of(
        cls, candidate: Parameters, in_force: Parameters | None, population: Population, cut: int
    ) -> Self:
        seen, unit = population.at(cut), candidate.unit_days
        weights = [each.complaint_weight for each in (candidate, in_force) if each is not None]
        alike, complained, number = _alike_customers(
            seen, population, cut, complaints=any(weight != 1.0 for weight in weights)
        )
        if len(seen.x) < 2:
            return cls(alike, complained, number, cut, unit, None)
        try:
            trial, weight = _trial(candidate, alike, complained, number)
        except FitError as failed:
            return cls(alike, complained, number, cut, unit, None, str(failed))
        trial = trial.with_unsteadiness(candidate.purchases.unsteadiness)
        trial = _with_complaints(trial, weight, alike.x, complained)
        return cls(alike, complained, number, cut, unit, trial)

    def calibration(self, passed: float) -> Calibration | None:
        """Return what was expected of these days, and what came."""
        if self.trial is None:
            return None
        ahead = HELD_OUT_DAYS - 1 + passed
        return calibration(self.trial, self.unit, self.seen, self.number, day=self.cut, ahead=ahead)

    def compared(self, in_force: Parameters) -> tuple[list[str], str]:
        """Return what speaks against the candidate's kind of fit on these days, and a note."""
        if self.failure:
            return [f"the trial fit on what was known {HELD_OUT_DAYS} days ago: {self.failure}"], ""
        if self.trial is None:
            return [], f"nothing is held out: hardly anybody had bought {HELD_OUT_DAYS} days ago"
        theirs = _with_complaints(
            in_force.purchases, in_force.complaint_weight, self.seen.x, self.complained
        )
        better = log_scores(self.trial, self.unit, self.seen) - log_scores(
            theirs, in_force.unit_days, self.seen
        )
        customers = float(self.number.sum())
        total = float(self.number @ better)
        variance = float(self.number @ (better - total / customers) ** 2) / (customers - 1)
        error = math.sqrt(variance * customers)
        note = (
            f"log score of the last {HELD_OUT_DAYS} days, in comparison to {in_force.version}: "
            f"{total:+.3g} ± {error:.2g} over {customers:,.0f} customers"
        )
        # What is in force may have seen these days: to the log score that is worth about one for
        # each of its parameters (Akaike 1974), also where all customers do the same and the error
        # is small.
        seen_already = len(in_force.purchases.as_dict())
        if total < -MOST_ERRORS_WORSE * error - seen_already:
            return [f"{note}: worse by more than {MOST_ERRORS_WORSE:g} standard errors"], note
        return [], note


def _trial(
    candidate: Parameters, seen: Seen, complained: Followed | None, number: Floats
) -> tuple[PurchaseModel, float]:
    """Fit what the candidate is to customers of earlier, with complaints if they count in it."""
    unit, kind = candidate.unit_days, type(candidate.purchases)
    prior = kind.weak_prior(week=7 / unit)
    x, t_x, age = seen.x, seen.t_x / unit, seen.T / unit
    model = kind.fit(Cells.count(x, t_x, age, number), candidate.purchases, prior).parameters
    if complained is None or candidate.complaint_weight == 1.0:
        return model, 1.0
    assert isinstance(model, BetaGeometric)  # noqa: S101 - no other has a weight.
    counts = counted(number, x, t_x, age, *occasions_complained(model, x, *complained))
    fit, weight = fit_complaints(model, ComplaintCells(*counts), {**prior, "weight": WEAK_PRIOR})
    return fit.parameters, weight


def _near(one: float, other: float) -> bool:
    return other / MOST_TIMES <= one <= other * MOST_TIMES


def _count(which: NDArray[np.bool_], cells: Cells) -> str:
    return f"{int(cells.number[which].sum()):,} customers"


_NOT_CONTENT = frozenset(
    {
        "version", "fitted_until", "holds_from", "customers", "log_likelihood", "covariance",
        "quantiles",
    }
)  # fmt: skip
"""What no value depends on. Quantiles move with the population while the models stay the same."""


def _content(parameters: Parameters) -> list[object]:
    """Return all that values depend on, in a fixed order."""
    flat: list[object] = []
    for name, each in parameters.model_dump(mode="json").items():
        if name not in _NOT_CONTENT:
            flat += sorted(each.items()) if isinstance(each, dict) else [(name, each)]
    return flat


def _alike(mine: object, theirs: object) -> bool:
    if isinstance(mine, tuple) and isinstance(theirs, tuple):
        return len(mine) == len(theirs) and all(map(_alike, mine, theirs))
    if isinstance(mine, float) and isinstance(theirs, float):
        return math.isclose(mine, theirs, rel_tol=SAME, abs_tol=0.0)
    return mine == theirs


def _rounded(value: object) -> object:
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    return float(f"{value:.{DIGITS}g}") if isinstance(value, float) else value
