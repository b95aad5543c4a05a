"""Fitting all parameters on a population: orders, order value, contacts, refunds, tiers."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from hashlib import blake2b
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from models.aggregate.summary import Summary
from models.btyd import (
    Cells,
    FitError,
    SpendCells,
    fit_bg_nbd,
    fit_gamma_gamma,
    fit_gamma_poisson,
)
from models.contracts.parameters import (
    TIME_UNIT_DAYS,
    BgNbdParameters,
    ContactParameters,
    GammaGammaParameters,
    Parameters,
    TierThresholds,
)
from models.economics import MONEY_SCALE, Economics
from models.value import value_row, values

Floats = NDArray[np.float64]
TimeUnit = Literal["day", "week"]

LEAST_CUSTOMERS = 100
LEAST_REPEAT_BUYERS = 30
"""Fewer determine four parameters badly: between random samples of CDNOW, the orders expected of a
new customer vary by 25 % with 100 customers and by 35 % with 50, half of whose fits hit bounds."""

GOLD_QUANTILE, SILVER_QUANTILE = 0.9, 0.6
"""Gold is the best tenth of the population by value, silver the next three tenths."""


class TooFewCustomersError(FitError):
    """The population is too small to fit; the text says how many there are and are needed."""


@dataclass(frozen=True, slots=True)
class Fitted:
    """Parameters, and in words what could not be fitted or is badly determined."""

    parameters: Parameters
    notes: tuple[str, ...]


def fit_parameters(
    summaries: Iterable[Summary],
    *,
    until: datetime,
    time_unit: TimeUnit,
    economics: Economics,
    version: str | None = None,
) -> Parameters:
    """Return the parameters of `fit_population`, without its notes."""
    fitted = fit_population(
        summaries, until=until, time_unit=time_unit, economics=economics, version=version
    )
    return fitted.parameters


def fit_population(
    summaries: Iterable[Summary],
    *,
    until: datetime,
    time_unit: TimeUnit,
    economics: Economics,
    version: str | None = None,
) -> Fitted:
    """Fit BG/NBD, Gamma-Gamma and Gamma-Poisson, and the refund rate and tiers beside them.

    summaries: of all customers, of the events up to and including the day of `until` in the shop's
    time zone; the caller leaves later events out. Customers without an order count for the refund
    rate only. T is the number of days from the first purchase to the day of `until`. Order value
    and contacts that cannot be fitted are None, and a note says why. version: by default the
    model, the day and a hash of the content, the same for the same population in any order.

    Raises
    ------
    TooFewCustomersError
        when there are fewer customers or repeat buyers than a fit needs.
    FitError
        when the orders cannot be fitted.
    ValueError
        for an order after `until`, or `until` without an offset.
    """
    if until.tzinfo is None:
        raise ValueError(f"until is {until.isoformat()}; it needs an offset from UTC")
    everybody = list(summaries)
    today = economics.day(round(until.timestamp() * 1000))
    buyers = [summary for summary in everybody if summary.purchase_days > 0]
    _check_population(buyers, today)
    notes: list[str] = []
    table = np.array([_row(buyer, today) for buyer in buyers], dtype=np.float64).T
    frequency, recency, age, monetary_value, contacts = table
    unit = TIME_UNIT_DAYS[time_unit]
    orders = fit_bg_nbd(Cells.count(frequency, recency / unit, age / unit))
    _note_bounds("BG/NBD", orders.at_bounds, notes)
    model = orders.parameters
    unnamed = Parameters(
        version="unnamed",
        time_unit=time_unit,
        currency=economics.currency,
        fitted_until=until,
        customers=orders.customers,
        log_likelihood=orders.log_likelihood,
        purchases=BgNbdParameters(r=model.r, alpha=model.alpha, a=model.a, b=model.b),
        order_value=_order_value(frequency, monetary_value, notes),
        contacts=_contacts(contacts, age / unit, notes),
        refund_rate=_refund_rate(everybody),
    )
    tiers = _tiers(buyers, today, unnamed, economics)
    complete = unnamed.model_copy(update={"tiers": tiers})
    named = complete.model_copy(update={"version": version or _version(complete, until)})
    return Fitted(named, tuple(notes))


def _check_population(buyers: list[Summary], today: int) -> None:
    repeat_buyers = sum(buyer.frequency > 0 for buyer in buyers)
    if len(buyers) < LEAST_CUSTOMERS or repeat_buyers < LEAST_REPEAT_BUYERS:
        raise TooFewCustomersError(
            f"too few customers to fit: {len(buyers)} with an order, {repeat_buyers} of them with "
            f"orders on two days or more; {LEAST_CUSTOMERS} and {LEAST_REPEAT_BUYERS} are needed. "
            "Fit on more customers or a longer period; until then the simple average serves"
        )
    late = sum(buyer.last_day > today for buyer in buyers)
    if late:
        raise ValueError(f"{late} customers have an order after `until`; leave later events out")


def _row(buyer: Summary, today: int) -> tuple[float, ...]:
    """Frequency, recency and T in days, monetary value, contacts."""
    return (
        buyer.frequency,
        buyer.last_day - buyer.first_day,
        today - buyer.first_day,
        buyer.repeat_gross / MONEY_SCALE / max(buyer.frequency, 1),
        buyer.contacts,
    )


def _order_value(
    frequency: Floats, monetary_value: Floats, notes: list[str]
) -> GammaGammaParameters | None:
    spent = (frequency > 0) & (monetary_value > 0)
    count = int(np.count_nonzero(spent))
    if count < LEAST_REPEAT_BUYERS:
        notes.append(
            f"Gamma-Gamma is not fitted: {count} repeat buyers with a positive order value, "
            f"{LEAST_REPEAT_BUYERS} are needed; each customer's own mean order value is used"
        )
        return None
    try:
        fit = fit_gamma_gamma(SpendCells.count(frequency[spent], monetary_value[spent]))
    except FitError as error:
        notes.append(f"{error}; each customer's own mean order value is used")
        return None
    _note_bounds("Gamma-Gamma", fit.at_bounds, notes)
    found = fit.parameters
    return GammaGammaParameters(p=found.p, q=found.q, v=found.v)


def _contacts(contacts: Floats, age: Floats, notes: list[str]) -> ContactParameters | None:
    if not contacts.any():
        notes.append("Gamma-Poisson is not fitted: no customer has contacted support")
        return None
    # Who first bought on the last day has no exposure yet, and says nothing about a rate.
    exposed = age > 0
    rows = np.column_stack((contacts[exposed], age[exposed]))
    cells, number = np.unique(rows, axis=0, return_counts=True)
    try:
        fit = fit_gamma_poisson(cells[:, 0], cells[:, 1], number)
    except FitError as error:
        notes.append(f"{error}; no contacts are expected")
        return None
    _note_bounds("Gamma-Poisson", fit.at_bounds, notes)
    return ContactParameters(shape=fit.parameters.shape, rate=fit.parameters.rate)


def _note_bounds(name: str, edges: tuple[str, ...], notes: list[str]) -> None:
    if edges:
        notes.append(
            f"{name}: {', '.join(edges)} ran into the edge of what is searched: the data "
            "hardly determines it; fit on more customers or a longer period"
        )


def _refund_rate(summaries: list[Summary]) -> float:
    gross = sum(summary.gross for summary in summaries)
    refunded = sum(summary.refunded - summary.recovered for summary in summaries)
    return min(max(refunded / gross, 0.0), 1.0) if gross else 0.0


def _tiers(
    buyers: list[Summary], today: int, parameters: Parameters, economics: Economics
) -> TierThresholds:
    rows = [value_row(buyer, today, economics) for buyer in buyers]
    worth = values(rows, parameters, economics).clv
    gold, silver = np.quantile(worth, (GOLD_QUANTILE, SILVER_QUANTILE)).tolist()
    return TierThresholds(gold=gold, silver=silver)


def _version(parameters: Parameters, until: datetime) -> str:
    digest = blake2b(parameters.model_dump_json().encode(), digest_size=4).hexdigest()
    return f"{parameters.model}-{until.date().isoformat()}-{digest}"
