"""Fitting all parameters on a population: orders, order value, contacts, refunds, tiers."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.aggregate.summary import Summary
from models.btyd import (
    MODELS,
    Cells,
    Fit,
    FitError,
    GammaGamma,
    GammaPoisson,
    PurchaseModel,
    SpendCells,
    fit_gamma_gamma,
    fit_gamma_poisson,
)
from models.btyd._beta_geometric import BetaGeometric
from models.btyd.complaints import EARNED, ComplaintCells, fit_complaints
from models.btyd.complaints import WEAK_PRIOR as WEIGHT_PRIOR
from models.btyd.gamma_gamma import WEAK_PRIOR
from models.calendar import milliseconds
from models.contracts.parameters import TIME_UNIT_DAYS, Parameters, TierThresholds
from models.economics import Economics
from models.features import FEATURES
from models.population import Halves, Past
from models.quantiles import quantiles_of
from models.steadiness import measured, measured_value
from models.value import Row, Values, columns, complaints_of, value_row, valued

Floats = NDArray[np.float64]
TimeUnit = Literal["day", "week"]

DEFAULT_MODEL = "mbg-nbd"
"""The model of purchases, if none is named."""

FEW = 500
"""Customers below which what is assumed of any shop decides with them; docs/models.md has how good
fits to fewer are."""

MOST_SPEND_CELLS = 50_000
SPEND_DIGITS = 3
"""With more distinct means of a customer's order values, means are rounded to so many significant
digits: the estimates move by less than one part in a thousand, and the fit takes seconds."""

MOST_MEDIANS = 20
"""Median customers that one customer counts for, at most, in the shop's margin and refunds."""

GOLD_QUANTILE, SILVER_QUANTILE = 0.9, 0.6
"""Gold is the best tenth of the population by value, silver the next three tenths."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Parameters, and notes on what could not be fitted or is badly determined."""

    parameters: Parameters
    notes: tuple[str, ...]


def fit_population(
    summaries: Iterable[Summary],
    *,
    until: datetime,
    time_unit: TimeUnit,
    economics: Economics,
    model: str = DEFAULT_MODEL,
    prior: bool = True,
    version: str | None = None,
    past: Past | None = None,
    halves: Halves | None = None,
) -> Fitted:
    """Fit all parameters on these customers; see `fit_columns`.

    summaries: of all customers, of the events up to and including the day of `until` in the shop's
    time zone; the caller leaves later events out.
    """
    if until.tzinfo is None:
        raise ValueError(f"until is {until.isoformat()}; it needs an offset from UTC")
    today = economics.day(milliseconds(until))
    return fit_columns(
        columns(list(_rows(summaries, today, economics))),
        until=until,
        time_unit=time_unit,
        economics=economics,
        model=model,
        prior=prior,
        version=version,
        past=past,
        halves=halves,
    )


def fit_columns(
    everybody: Row[Floats],
    *,
    until: datetime,
    time_unit: TimeUnit,
    economics: Economics,
    model: str = DEFAULT_MODEL,
    prior: bool = True,
    start: PurchaseModel | None = None,
    version: str | None = None,
    past: Past | None = None,
    halves: Halves | None = None,
) -> Fitted:
    """Fit purchases, Gamma-Gamma, Gamma-Poisson, margin, refund rate and tiers.

    everybody: the customers as of the day of `until`. Those without an order count for nothing.
    What cannot be fitted is None, and a note says why. model: of the purchases, a key of
    `models.btyd.MODELS`. prior: start from weak assumptions that the shop's own customers outweigh,
    so that a few customers suffice; else the estimates are those of maximum likelihood. start: a
    model of purchases to search from. version: by default the model, the day and a hash of the
    content, the same for the same population in any order. past: of the same customers, to measure
    how steady they are, and halves, how steady the values are; without them that is assumed.

    Raises
    ------
    FitError
        if the purchases cannot be fitted: nobody has bought, or, without a prior, not again.
    """
    of, bought_any = everybody, everybody.purchase_days > 0
    if not bought_any.all():
        of = Row(*(column[bought_any] for column in everybody))
    unit_days = TIME_UNIT_DAYS[time_unit]
    frequency = of.purchase_days - 1
    recency, age = of.recency / unit_days, of.T / unit_days
    purchases, weight, notes = fit_purchases(of, model, unit_days, prior=prior, start=start)
    bought = purchases.parameters
    bought = bought.with_unsteadiness(measured(bought, past, unit_days, prior=prior))
    alive = bought.expected_time_alive(frequency, recency, age)
    contacts, contacts_per = _contacts(of, alive, notes)
    spend = _order_value(of, notes, prior=prior)
    unnamed = Parameters(
        version="unnamed",
        model=model,
        time_unit=time_unit,
        currency=economics.currency,
        fitted_until=until,
        customers=purchases.customers,
        log_likelihood=purchases.log_likelihood,
        purchases=bought,
        covariance=_rounded(purchases.covariance),
        complaint_weight=weight,
        order_value=spend and spend.with_unsteadiness(measured_value(spend, halves, prior=prior)),
        margin_share=_ratio(of.costed_margin, of.costed_gross),
        contacts=contacts,
        contacts_per=contacts_per,
        refund_rate=_refund_rate(of),
    )
    scored = valued(of, unnamed, economics)
    quantiles = quantiles_of({each.name: each.of(scored) for each in FEATURES.values() if each.of})
    complete = unnamed.model_copy(update={"tiers": _tiers(scored), "quantiles": quantiles})
    named = complete.model_copy(update={"version": version or version_of(complete, until)})
    return Fitted(named, tuple(notes))


def fit_purchases(
    of: Row[Floats],
    model: str,
    unit_days: int,
    *,
    prior: bool = True,
    start: PurchaseModel | None = None,
) -> tuple[Fit[Any], float, list[str]]:
    """Fit a model of purchases; return it, the weight of complaints, and notes.

    of: customers who have bought. The other arguments, and the error, are those of `fit_columns`.
    """
    notes: list[str] = []
    family = MODELS[model]
    found: Fit[Any] = family.fit(
        Cells.count(of.purchase_days - 1, of.recency / unit_days, of.T / unit_days),
        start,
        family.weak_prior(week=7 / unit_days) if prior else None,
    )
    _note_bounds(found.parameters.title, found.at_bounds, notes)
    if found.customers < FEW:
        notes.append(
            f"{found.parameters.title}: {found.customers} customers are few: "
            + ("what is assumed of any shop decides with them" if prior else "start from a prior")
            + f" until there are about {FEW}"
        )
    weight = 1.0
    if isinstance(found.parameters, BetaGeometric) and (of.complained + of.complained_last).any():
        found, weight = _complaints(found, of, unit_days, notes, prior=prior)
    return found, weight, notes


def _rows(summaries: Iterable[Summary], today: int, economics: Economics) -> Iterator[Row[int]]:
    for summary in summaries:
        if summary.orders and summary.last_day > today:
            raise ValueError("there are orders after `until`; leave later events out")
        yield value_row(summary, today, economics)


def _complaints(
    without: Fit[PurchaseModel],
    of: Row[Floats],
    unit_days: int,
    notes: list[str],
    *,
    prior: bool,
) -> tuple[Fit[Any], float]:
    """Fit the weight of complaints too, and return what the data likes clearly better."""
    model = without.parameters
    assert isinstance(model, BetaGeometric)  # noqa: S101 - the caller has looked.
    cells = ComplaintCells.of(
        of.purchase_days - 1, of.recency / unit_days, of.T / unit_days, complaints_of(of, model)
    )
    believed = {**model.weak_prior(week=7 / unit_days), "weight": WEIGHT_PRIOR} if prior else None
    try:
        fit, weight = fit_complaints(model, cells, believed)
    except FitError as error:
        notes.append(f"{error}; complaints do not count")
        return without, 1.0
    gain = fit.log_likelihood - without.log_likelihood
    if gain <= EARNED:
        notes.append(
            f"complaints do not count: a weight of {weight:.2f} would bring {gain:.1f} nats, and "
            f"{EARNED:.1f} are needed"
        )
        return without, 1.0
    notes.append(
        f"complaints count: a purchase that one followed weighs as much as {weight:.2f} others in "
        f"whether the customer stays ({gain:.1f} nats)"
    )
    return fit, weight


def _order_value(of: Row[Floats], notes: list[str], *, prior: bool) -> GammaGamma | None:
    spent = (of.kept_days > 0) & (of.kept_gross > 0)
    if not spent.any():
        notes.append("Gamma-Gamma is not fitted: nobody has paid for a purchase")
        return None
    days = of.kept_days[spent]
    cells = SpendCells.count(days, of.kept_gross[spent] / days)
    if len(cells.m) > MOST_SPEND_CELLS:
        cells = SpendCells.count(cells.x, _to_digits(cells.m, SPEND_DIGITS), cells.number)
    try:
        fit = fit_gamma_gamma(cells, prior=WEAK_PRIOR if prior else None)
    except FitError as error:
        notes.append(f"{error}; each customer's own mean order value is used")
        return None
    _note_bounds("Gamma-Gamma", fit.at_bounds, notes)
    return fit.parameters


def _to_digits(values: Floats, digits: int) -> Floats:
    """Round positive values to significant digits."""
    scale = 10.0 ** (digits - 1 - np.floor(np.log10(values)))
    rounded: Floats = np.round(values * scale) / scale
    return rounded


def _contacts(
    of: Row[Floats], alive: Floats, notes: list[str]
) -> tuple[GammaPoisson | None, Literal["purchase", "time"]]:
    """Fit contacts by purchase and by time alive, and return what the data likes better."""
    if not of.contacts.any():
        notes.append("Gamma-Poisson is not fitted: no customer has contacted support")
        return None, "purchase"
    # A customer who has been seen for no time has no rate.
    seen = alive > 0
    contacts = of.contacts[seen]
    if not contacts.any():
        seen, contacts = np.ones(alive.shape, dtype=np.bool_), of.contacts
    fits: dict[Literal["purchase", "time"], Fit[GammaPoisson]] = {}
    exposures: dict[Literal["purchase", "time"], Floats] = {
        "purchase": of.purchase_days[seen],
        "time": alive[seen],
    }
    for per, exposure in exposures.items():
        cells, number = np.unique(np.column_stack((contacts, exposure)), axis=0, return_counts=True)
        try:
            fits[per] = fit_gamma_poisson(cells[:, 0], cells[:, 1], number)
        except (FitError, ValueError) as error:
            notes.append(f"contacts by {per}: {error}")
    if not fits:
        notes.append("no contacts are expected")
        return None, "purchase"
    best = max(fits, key=lambda per: fits[per].log_likelihood)
    _note_bounds("Gamma-Poisson", fits[best].at_bounds, notes)
    return fits[best].parameters, best


def _note_bounds(name: str, edges: tuple[str, ...], notes: list[str]) -> None:
    if edges:
        notes.append(
            f"{name}: {', '.join(edges)} at the edge of what is searched, or near zero: the data "
            "hardly determines it; fit on more customers or a longer period"
        )


def _rounded(covariance: Floats | None) -> tuple[tuple[float, ...], ...] | None:
    """Return a covariance to six digits: it is known to fewer."""
    if covariance is None:
        return None
    return tuple(tuple(float(f"{each:.6g}") for each in row) for row in covariance)


def _ratio(part: Floats, whole: Floats) -> float | None:
    """Return the ratio of the sums, weighted so that no giant decides for all; None of nothing."""
    seen = whole > 0
    if not seen.any():
        return None
    part, whole = part[seen], whole[seen]
    weight = np.minimum(1.0, MOST_MEDIANS * np.median(whole) / whole)
    # Exact sums: the same population in another order gives the same to the last digit.
    return math.fsum(weight * part) / math.fsum(weight * whole)


def _refund_rate(of: Row[Floats]) -> float:
    lost = np.clip(of.refund_loss, 0.0, of.kept_gross)
    return _ratio(lost, of.kept_gross) or 0.0


def _tiers(scored: Values) -> TierThresholds:
    gold, silver = np.quantile(scored.clv, (GOLD_QUANTILE, SILVER_QUANTILE)).tolist()
    return TierThresholds(gold=gold, silver=silver)


def version_of(parameters: Parameters, until: datetime) -> str:
    """Return a name made of the model, the day and a hash of all but the version itself."""
    unnamed = parameters.model_copy(update={"version": "unnamed"})
    digest = blake2b(unnamed.model_dump_json().encode(), digest_size=4).hexdigest()
    return f"{parameters.model}-{until.date().isoformat()}-{digest}"
