"""All measures of one split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.btyd import MODELS, Cells, FitError, PurchaseModel
from models.contracts.parameters import Parameters
from models.economics import Economics
from models.evaluation.counting import (
    BINS,
    log_probability,
    nominal_coverage,
    pit_shares,
    placed,
)
from models.evaluation.groups import FREQUENCIES, SILENCES, Group, by_group
from models.evaluation.histories import Outcomes
from models.evaluation.predictions import (
    WEEK,
    Predictions,
    Statistics,
    predict,
    statistics,
    week_ends,
)
from models.evaluation.ranking import auc, gini, lift
from models.formulas import average_clv
from models.value import YEAR, Row, purchase_model

Floats = NDArray[np.float64]
Flags = NDArray[np.bool_]

QUARTER = 90
"""Days of the shorter window within which a customer may buy again."""

_LEAST = 1e-300
"""In place of no purchases at all, which no spend goes with."""

HEAVY = 4
"""Repeat purchases from which on the coverage is given apart."""


class Holdout(NamedTuple):
    """The days after a split: the last day that is known, and the last that counts, as ordinals."""

    split: int
    until: int

    @property
    def days(self) -> int:
        """The number of days that are predicted."""
        return self.until - self.split


class Known(NamedTuple):
    """What was known at a split of the customers with an order.

    of: columns of rows by `models.value.value_row` with `in_revenue(economics)`. spent and
    spent_last_year: revenue net of refunds, in currency.
    """

    of: Row[Floats]
    spent: Floats
    spent_last_year: Floats


class Rival(NamedTuple):
    """Another prediction for the same customers: purchases, and revenue in currency.

    purchases: None where it predicts none. is_amount: whether spend is a forecast of the amount, or
    only ranks.
    """

    purchases: Floats | None
    spend: Floats
    is_amount: bool = True


@dataclass(frozen=True, slots=True)
class Week:
    """Purchases until the end of a week of the holdout, cumulative; day: its last day."""

    day: int
    expected: float
    actual: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """How right a prediction is in all; None where it says nothing.

    purchases_error, spend_error: expected over actual, less 1. one_time: purchases a head of those
    with one purchase day. value_error: of the spend that would be expected if the purchases were
    known. spend_mae: mean absolute error by customer. gini: of later revenue.
    """

    name: str
    purchases: float | None
    purchases_error: float | None
    one_time: float | None
    spend: float | None
    spend_error: float | None
    value_error: float | None
    spend_mae: float | None
    gini: float | None


@dataclass(frozen=True, slots=True)
class Actual:
    """What happened in all."""

    purchases: float
    one_time: float | None
    spend: float


@dataclass(frozen=True, slots=True)
class LogScore:
    """Log score of the numbers of purchases in the holdout; higher is better.

    behind_best: nats per 1,000 customers behind the best model.
    """

    model: str
    nats: float
    per_thousand: float
    behind_best: float


@dataclass(frozen=True, slots=True)
class Decile:
    """A tenth of the customers, best predicted first: mean spend, and share of all revenue."""

    expected: float
    actual: float
    share: float


@dataclass(frozen=True, slots=True)
class Coverage:
    """Share of outcomes between the 10th and the 90th percentile.

    nominal: what the model says of its own interval. pit: the randomised share, .8 if right. Both
    are None for money.
    """

    what: str
    customers: int
    inside: float
    nominal: float | None
    pit: float | None


@dataclass(frozen=True, slots=True)
class Auc:
    """Ranking by who buys again within some days."""

    days: int
    bought: int
    p_purchase: float | None
    p_alive: float | None


@dataclass(frozen=True, slots=True)
class SplitReport:
    """All measures of one split; split and until: the last days that were known, and that count.

    pit: share of outcomes in each tenth of their predicted distribution.
    """

    split: str
    until: str
    days: int
    customers: int
    model: str
    actual: Actual
    comparisons: tuple[Comparison, ...]
    weeks: tuple[Week, ...]
    by_frequency: tuple[Group, ...]
    by_silence: tuple[Group, ...]
    log_scores: tuple[LogScore, ...]
    lift: tuple[Decile, ...]
    coverage: tuple[Coverage, ...]
    pit: tuple[float, ...]
    auc: tuple[Auc, ...]


def evaluate_split(
    holdout: Holdout,
    known: Known,
    parameters: Parameters,
    economics: Economics,
    *,
    outcomes: Outcomes,
    rivals: Mapping[str, Rival],
) -> SplitReport:
    """Return all measures of a split, for customers with an order at it.

    parameters: fitted on what was known. outcomes: of the same customers in the holdout. rivals:
    other predictions, by name, which are measured as ours are.
    """
    days = holdout.days
    of = known.of
    frequency = of.purchase_days - 1
    windows = _windows(days)
    ours = predict(of, parameters, economics, days, windows)
    bought = outcomes.purchases
    one_time = frequency == 0
    everything = {
        parameters.model: Rival(ours.purchases, ours.spend),
        **rivals,
        "average formula": Rival(None, _average(of, days)),
        "spend so far": Rival(None, known.spent, is_amount=False),
        "spend of last year": Rival(None, known.spent_last_year, is_amount=False),
    }
    stats = statistics(of, parameters.unit_days)
    t, model = days / parameters.unit_days, purchase_model(of, parameters)
    return SplitReport(
        split=date.fromordinal(holdout.split).isoformat(),
        until=date.fromordinal(holdout.until).isoformat(),
        days=days,
        customers=len(frequency),
        model=parameters.model,
        actual=Actual(float(bought.sum()), _mean(bought[one_time]), float(outcomes.revenue.sum())),
        comparisons=tuple(
            _compare(name, each, outcomes, one_time) for name, each in everything.items()
        ),
        weeks=_weeks(days, ours.by_week, outcomes.by_day),
        by_frequency=by_group(frequency, FREQUENCIES, ours.purchases, bought),
        by_silence=by_group(of.since_last_order, SILENCES, ours.purchases, bought),
        log_scores=_log_scores(parameters, model, bought, t, stats),
        lift=_deciles(ours.spend, outcomes.revenue),
        coverage=_coverage(model, ours, outcomes, t, stats),
        pit=tuple(
            pit_shares(placed(model, bought, t, stats), np.linspace(0.0, 1.0, BINS + 1)).tolist()
        ),
        auc=tuple(_auc(window, ours, outcomes) for window in windows),
    )


def _windows(days: int) -> list[int]:
    """Return a quarter and a year as far as the holdout reaches; it all if that is shorter."""
    return sorted({window for window in (QUARTER, YEAR) if window <= days} | {min(days, YEAR)})


def _average(of: Row[Floats], days: int) -> Floats:
    """Return what the average formula says is spent within the holdout."""
    orders = np.maximum(of.orders, 1)
    spend = average_clv(of.kept_gross / orders, orders / (of.T + 1.0), days)  # type: ignore[arg-type]
    return np.asarray(spend)


def _compare(name: str, rival: Rival, outcomes: Outcomes, one_time: Flags) -> Comparison:
    purchases, amount = rival.purchases, rival.is_amount
    total = None if purchases is None else float(purchases.sum())
    spend = float(rival.spend.sum()) if amount else None
    paid = outcomes.revenue
    return Comparison(
        name=name,
        purchases=total,
        purchases_error=_error(total, outcomes.purchases),
        one_time=None if purchases is None else _mean(purchases[one_time]),
        spend=spend,
        spend_error=_error(spend, paid),
        value_error=None if purchases is None else _error(_spend_if_known(rival, outcomes), paid),
        spend_mae=float(np.abs(rival.spend - paid).mean()) if amount else None,
        gini=_known(gini(rival.spend, paid)),
    )


def _spend_if_known(rival: Rival, outcomes: Outcomes) -> float:
    """Return the expected spend if each customer made as many purchases as they did."""
    assert rival.purchases is not None  # noqa: S101 - the caller has looked.
    value = rival.spend / np.maximum(rival.purchases, _LEAST)
    return float(value @ outcomes.purchases)


def _error(expected: float | None, actual: Floats) -> float | None:
    total = float(actual.sum())
    return None if expected is None or not total > 0 else expected / total - 1.0


def _mean(values: Floats) -> float | None:
    return float(values.mean()) if values.size else None


def _known(value: float) -> float | None:
    return None if np.isnan(value) else value


def _weeks(days: int, expected: Floats, by_day: Floats) -> tuple[Week, ...]:
    so_far = np.cumsum(by_day)
    return tuple(
        Week(end, float(total), float(so_far[end - 1]))
        for end, total in zip(week_ends(days), expected, strict=True)
    )


def _log_scores(
    parameters: Parameters, ours: PurchaseModel, bought: Floats, t: float, of: Statistics
) -> tuple[LogScore, ...]:
    """Fit every model to the same customers, and score those that can be fitted.

    Ours a second time without complaints, if they count.
    """
    cells, week = Cells.count(*of), WEEK / parameters.unit_days
    found = {parameters.model: ours}
    others = {name: family for name, family in MODELS.items() if name != parameters.model}
    if parameters.complaint_weight != 1.0:
        others[f"{parameters.model} without complaints"] = MODELS[parameters.model]
    for name, family in others.items():
        try:
            fitted = family.fit(cells, prior=family.weak_prior(week)).parameters
        except FitError:
            continue
        found[name] = fitted
        if family is MODELS[parameters.model]:
            found[name] = fitted.with_unsteadiness(ours.unsteadiness)
    nats = {
        name: float(log_probability(model, bought, t, of).sum()) for name, model in found.items()
    }
    best, thousands = max(nats.values()), len(bought) / 1_000
    return tuple(
        LogScore(name, score, score / thousands, (best - score) / thousands)
        for name, score in nats.items()
    )


def _deciles(expected: Floats, actual: Floats) -> tuple[Decile, ...]:
    if not (expected.sum() > 0 and actual.sum() > 0):
        return ()
    ahead, after = lift(expected, expected), lift(expected, actual)
    head = len(expected) / len(after)
    return tuple(
        Decile(
            float(theirs * expected.sum() / head),
            float(share * actual.sum() / head),
            float(share),
        )
        for theirs, share in zip(ahead, after, strict=True)
    )


def _coverage(
    model: PurchaseModel, ours: Predictions, outcomes: Outcomes, t: float, of: Statistics
) -> tuple[Coverage, ...]:
    low, high = ours.purchases_low, ours.purchases_high
    inside = (outcomes.purchases >= low) & (outcomes.purchases <= high)
    nominal = nominal_coverage(model, low, high, t, of)
    where = placed(model, outcomes.purchases, t, of)
    paid = outcomes.revenue
    within = (paid >= ours.spend_low) & (paid <= ours.spend_high)
    everybody = np.ones(paid.shape, dtype=np.bool_)
    found = []
    for name, whom in (("all", everybody), (f"x >= {HEAVY}", of[0] >= HEAVY)):
        if not whom.any():
            continue
        count = int(np.count_nonzero(whom))
        theirs = type(where)(where.below[whom], where.up_to[whom])
        found += [
            Coverage(
                f"purchases, {name}",
                count,
                float(inside[whom].mean()),
                float(nominal[whom].mean()),
                float(pit_shares(theirs, np.array([0.1, 0.9]))[0]),
            ),
            Coverage(f"money, {name}", count, float(within[whom].mean()), None, None),
        ]
    return tuple(found)


def _auc(window: int, ours: Predictions, outcomes: Outcomes) -> Auc:
    happened = outcomes.days_to_next <= window
    return Auc(
        window,
        int(np.count_nonzero(happened)),
        _known(auc(ours.p_purchase[window], happened)),
        _known(auc(ours.p_alive, happened)),
    )
