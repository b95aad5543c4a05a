"""Customer value: realised plus expected, for many customers at once.

value    = realised + expected
realised = margin earned - cost to serve - acquisition cost
expected = discounted expected purchases x expected net margin per purchase
             - discounted expected contacts x cost of a contact

A purchase is a calendar day with an order, as in the models.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from itertools import chain
from typing import Any, Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.aggregate.summary import Summary
from models.btyd import PurchaseModel
from models.btyd._beta_geometric import BetaGeometric
from models.btyd.complaints import Complaining, Complaints
from models.contracts.parameters import Parameters
from models.economics import MONEY_SCALE, Economics

Floats = NDArray[np.float64]
Number = TypeVar("Number")

LEVER = 0.10
"""Relative change of an input by which a lever is computed."""

YEAR = 365
"""Days within which `p_purchase` expects a purchase."""

SHOP_WEIGHT = 20
"""Purchases of the mean value that the shop's margin and refunds count for in a customer's own.
A customer's own share alone is a poor guide where little was seen of them."""


class Row(NamedTuple, Generic[Number]):
    """The inputs of the value: whole numbers of one customer, or columns of many.

    Times are in days, and 0 without an order; money is in units. kept: of orders that were not
    returned. costed: of kept orders that told their cost. margin: net of refunds. complained: how
    many purchase days but the last a complaint followed; first, last: whether it followed these.
    """

    orders: Number
    purchase_days: Number
    kept_days: Number
    recency: Number
    T: Number
    since_last_order: Number
    contacts: Number
    complained: Number
    complained_first: Number
    complained_last: Number
    repeat_gross: Number
    kept_gross: Number
    costed_gross: Number
    costed_margin: Number
    refund_loss: Number
    margin: Number
    support_cost: Number
    acquisition_cost: Number


_FIRST_MONEY = Row._fields.index("repeat_gross")


def value_row(summary: Summary, today: int, config: Economics) -> Row[int]:
    """Return the inputs of one customer's value, as of a day's ordinal."""
    first, last = summary.first_day, summary.last_day
    today = max(today, last) if summary.orders else 0
    earned = summary.gross_margin(config)
    kept_days, kept_gross = summary.purchase_days, summary.gross
    costed, costed_margin, loss = kept_gross - summary.uncosted, 0, 0
    costed_margin = costed - summary.cost
    if summary.refunds:
        returned = summary.returned
        kept_days, kept_gross = summary.kept_days, summary.kept_gross
        costed -= returned.gross - returned.uncosted
        costed_margin = costed - (summary.cost - returned.cost)
        loss = summary.refund_loss(config)
    return Row(
        summary.orders,
        summary.purchase_days,
        kept_days,
        last - first,
        today - first,
        today - last,
        summary.contacts,
        *summary.complained,
        summary.gross - summary.first_day_gross,
        kept_gross,
        costed,
        costed_margin,
        loss,
        earned - summary.refunded + summary.recovered,
        summary.support_cost,
        summary.acquisition_cost,
    )


def columns(rows: Sequence[Row[int]]) -> Row[Floats]:
    """Return the rows as columns, money in currency."""
    size = len(rows) * len(Row._fields)
    flat = np.fromiter(chain.from_iterable(rows), dtype=np.int64, count=size)
    return columns_of(flat.reshape(len(rows), len(Row._fields)).T)


def columns_of(table: NDArray[np.int64]) -> Row[Floats]:
    """Return a table, of which each line is a field of all rows, as columns."""
    floats = table.astype(np.float64)
    floats[_FIRST_MONEY:] /= MONEY_SCALE
    return Row(*floats)


class Values(NamedTuple):
    """Arrays of one entry per row; money in currency, times in days.

    spent: on orders that were not returned. p_purchase: probability of a purchase within a year.
    low, high: 10th and 90th percentile.
    """

    frequency: Floats
    recency: Floats
    T: Floats
    monetary_value: Floats
    orders: Floats
    purchase_days: Floats
    days_since_last_order: Floats
    mean_gap: Floats
    spent: Floats
    p_alive: Floats
    p_purchase: Floats
    expected_purchases: Floats
    purchases_low: Floats
    purchases_high: Floats
    purchase_value: Floats
    margin_per_purchase: Floats
    expected_contacts: Floats
    expected_support_cost: Floats
    expected: Floats
    expected_low: Floats
    expected_high: Floats
    realised: Floats
    clv: Floats
    lever_value: Floats
    lever_purchases: Floats
    lever_margin: Floats


class Percentiles(NamedTuple):
    """The 10th and the 90th percentile of purchases, and of the expected value; as in `Values`."""

    purchases_low: Floats
    purchases_high: Floats
    expected_low: Floats
    expected_high: Floats


class _Estimates(NamedTuple):
    """Expectations within the horizon, discounted; 0 before an order."""

    p_alive: Floats
    p_purchase: Floats
    purchases: Floats
    purchase_value: Floats
    contacts: Floats


def values(
    rows: Sequence[Row[int]], parameters: Parameters | Sequence[Parameters], config: Economics
) -> Values:
    """Return the value of each row; the same for a row whatever the others are.

    parameters: of all rows, or of each.
    """
    if isinstance(parameters, Parameters):
        return valued(columns(rows), parameters, config)
    return valued_each(columns(rows), parameters, config)


def valued_each(
    of: Row[Floats], parameters: Sequence[Parameters], config: Economics, *, spread: bool = True
) -> Values:
    """Return the value of each row of columns under its own parameters; spread: see `valued`."""
    if not parameters:
        return Values(*[np.empty(0)] * len(Values._fields))
    return Values(
        *_each(of, parameters, lambda some, own, _: valued(some, own, config, spread=spread))
    )


def percentiles_each(
    of: Row[Floats], expected: Floats, parameters: Sequence[Parameters], config: Economics
) -> Percentiles:
    """Return the percentiles of each row of columns under its own parameters; see `percentiles`."""
    return Percentiles(
        *_each(
            of,
            parameters,
            lambda some, own, mine: percentiles(some, expected[mine], own, config),
        )
    )


def _each(
    of: Row[Floats],
    parameters: Sequence[Parameters],
    compute: Callable[[Row[Floats], Parameters, Any], Sequence[Floats]],
) -> Sequence[Floats]:
    """Return the columns that are computed of the rows of each parameters, put together again.

    compute: of some rows, their parameters, and which rows these are.
    """
    groups = list(grouped(map(id, parameters)))
    if len(groups) == 1:
        return compute(of, parameters[0], slice(None))
    result: list[Floats] = []
    for group in groups:
        mine = np.array(group, np.intp)
        some = compute(Row(*(column[mine] for column in of)), parameters[group[0]], mine)
        result = result or [np.empty(len(parameters)) for _ in some]
        for column, part in zip(result, some, strict=True):
            column[mine] = part
    return result


def grouped(kinds: Iterable[Hashable]) -> Iterable[list[int]]:
    """Return the numbers of those of one kind, for each kind."""
    groups: dict[Hashable, list[int]] = {}
    for number, kind in enumerate(kinds):
        groups.setdefault(kind, []).append(number)
    return groups.values()


def moved(of: Row[Floats], days: Floats) -> Row[Floats]:
    """Return the rows so many days later, if nothing happens meanwhile."""
    after = np.where(of.purchase_days > 0, days, 0.0)
    return of._replace(T=of.T + after, since_last_order=of.since_last_order + after)


def valued(
    of: Row[Floats],
    parameters: Parameters,
    config: Economics,
    *,
    spread: bool = True,
    expectations: bool = True,
) -> Values:
    """Return the value of each row of columns.

    spread: whether to compute percentiles, which takes half of the time; they are 0 if not, and
    `percentiles` computes them later. expectations: whether to compute expected purchases and
    contacts, which takes most of the rest; they are 0 if not.
    """
    bought = of.purchase_days > 0
    frequency = np.maximum(of.purchase_days - 1, 0)
    expect = _expect(of, parameters, config, ahead=expectations)
    share, refunded = _shares(of, expect.purchase_value, parameters, config)
    margin_per_purchase = expect.purchase_value * (share - refunded)
    unknown_contact = config.contact_units[-1] / MONEY_SCALE
    contact_cost = np.where(
        of.contacts > 0, of.support_cost / np.maximum(of.contacts, 1), unknown_contact
    )
    expected_support_cost = expect.contacts * contact_cost
    expected_margin = expect.purchases * margin_per_purchase
    expected = expected_margin - expected_support_cost
    of_purchases = expected if parameters.contacts_per == "purchase" else expected_margin
    spreads = [np.zeros(of.T.shape)] * len(Percentiles._fields)
    if spread:
        spreads = [*percentiles(of, expected, parameters, config)]
    low, high, expected_low, expected_high = spreads
    realised = of.margin - of.support_cost - of.acquisition_cost
    return Values(
        frequency=frequency,
        recency=of.recency,
        T=of.T,
        monetary_value=of.repeat_gross / np.maximum(frequency, 1),
        orders=of.orders,
        purchase_days=of.purchase_days,
        days_since_last_order=np.where(bought, of.since_last_order, np.nan),
        mean_gap=np.where(frequency > 0, of.recency / np.maximum(frequency, 1), np.nan),
        spent=of.kept_gross,
        p_alive=expect.p_alive,
        p_purchase=expect.p_purchase,
        expected_purchases=expect.purchases,
        purchases_low=low,
        purchases_high=high,
        purchase_value=expect.purchase_value,
        margin_per_purchase=margin_per_purchase,
        expected_contacts=expect.contacts,
        expected_support_cost=expected_support_cost,
        expected=expected,
        expected_low=expected_low,
        expected_high=expected_high,
        realised=realised,
        clv=realised + expected,
        lever_value=LEVER * expected_margin,
        lever_purchases=LEVER * of_purchases,
        lever_margin=LEVER * expect.purchases * expect.purchase_value * share,
    )


def _shares(
    of: Row[Floats], purchase_value: Floats, parameters: Parameters, config: Economics
) -> tuple[Floats, Floats]:
    """Return which shares of revenue are margin and are lost to refunds.

    A customer's own, drawn towards the shop's; each weighs as much as the revenue it was seen in.
    """
    spend = parameters.order_value
    mean = np.maximum(purchase_value, 1e-9) if spend is None else spend.mean_order_value
    weight = SHOP_WEIGHT * mean
    margin = config.margin if parameters.margin_share is None else parameters.margin_share
    share = (of.costed_margin + weight * margin) / (of.costed_gross + weight)
    lost = (of.refund_loss + weight * parameters.refund_rate) / (of.kept_gross + weight)
    return share, np.clip(lost, 0.0, 1.0)


def _expect(
    of: Row[Floats], parameters: Parameters, config: Economics, *, ahead: bool
) -> _Estimates:
    unit = parameters.unit_days
    horizon = config.horizon_days / unit
    discount = config.daily_discount * unit
    bought, seen = of.purchase_days > 0, _seen(of, unit)
    model, spend = purchase_model(of, parameters), parameters.order_value
    purchases = contacts = np.zeros(of.T.shape)
    if ahead:
        purchases = model.expected_discounted_purchases(horizon, discount, *seen)
    if config.horizon_days == YEAR:
        p_purchase = model.probability_of_any(horizon, *seen)
    else:
        p_purchase = model.probability_of_at_least(1, YEAR / unit, *seen)
    purchase_value = kept_value = _kept_value(of)
    if spend is not None:
        purchase_value = spend.expected_order_value(of.kept_days, kept_value)
    if ahead and parameters.contacts is not None:
        contacts = _contacts(of, parameters, horizon, discount, purchases)
    return _Estimates(
        p_alive=np.where(bought, model.p_alive(*seen), np.nan),
        p_purchase=np.where(bought, p_purchase, np.nan),
        purchases=np.where(bought, purchases, 0.0),
        purchase_value=np.where(bought, purchase_value, 0.0),
        contacts=np.where(bought, contacts, 0.0),
    )


def percentiles(
    of: Row[Floats], expected: Floats, parameters: Parameters, config: Economics
) -> Percentiles:
    """Return the percentiles of each row of columns, of whom so much is expected."""
    unit, spend = parameters.unit_days, parameters.order_value
    number = purchase_model(of, parameters).purchase_counts(
        config.horizon_days / unit, *_seen(of, unit)
    )
    if spend is None:
        mean = np.maximum(number.mean, 1e-300)
        low, high = number.low / mean, number.high / mean
    else:
        low, high = spend.relative_quantiles(number, of.kept_days, _kept_value(of))
    bought = of.purchase_days > 0
    ends = expected * np.where(bought, low, 0.0), expected * np.where(bought, high, 0.0)
    return Percentiles(
        np.where(bought, number.low, 0.0),
        np.where(bought, number.high, 0.0),
        np.minimum(*ends),
        np.maximum(*ends),
    )


def _seen(of: Row[Floats], unit: float) -> tuple[Floats, Floats, Floats]:
    """Return x, t_x and T, as the models need them."""
    return np.maximum(of.purchase_days - 1, 0), of.recency / unit, of.T / unit


def _kept_value(of: Row[Floats]) -> Floats:
    """Return the mean value of purchases that were not returned."""
    value: Floats = of.kept_gross / np.maximum(of.kept_days, 1)
    return value


def _contacts(
    of: Row[Floats], parameters: Parameters, horizon: float, discount: float, purchases: Floats
) -> Floats:
    """Return the expected contacts: by purchase, or by the time that a customer is alive."""
    prior = parameters.contacts
    assert prior is not None  # noqa: S101 - the caller has looked.
    if parameters.contacts_per == "purchase":
        return prior.contact_rate(of.contacts, np.maximum(of.purchase_days, 1)) * purchases
    unit, model = parameters.unit_days, purchase_model(of, parameters)
    seen = _seen(of, unit)
    rate = prior.contact_rate(of.contacts, model.expected_time_alive(*seen))
    return rate * model.expected_discounted_time(horizon, discount, *seen)


def complaints_of(of: Row[Floats], model: PurchaseModel) -> Complaints:
    """Return what a model needs to know of complaints: only its own occasions to drop out."""
    told = of.complained, of.complained_first, of.complained_last
    return occasions_complained(model, of.purchase_days - 1, *told)


def occasions_complained(
    model: PurchaseModel, x: Floats, complained: Floats, first: Floats, last: Floats
) -> Complaints:
    """Return the complaints of customers with x repeat purchases at a model's occasions.

    complained, first, last: as in a `Row`.
    """
    if not isinstance(model, BetaGeometric) or model.occasions_before:
        return Complaints(complained, last)
    return Complaints(complained - first, np.where(x > 0, last, 0.0))


def purchase_model(of: Row[Floats], parameters: Parameters) -> PurchaseModel:
    """Return the model of purchases of these rows, in which complaints may have a weight."""
    return with_complaints(of, parameters.purchases, parameters.complaint_weight)


def with_complaints(of: Row[Floats], model: PurchaseModel, weight: float) -> PurchaseModel:
    """Return a model of these rows, in which complaints have this weight."""
    if weight == 1.0 or not isinstance(model, BetaGeometric):
        return model
    return Complaining.of(model, weight, complaints_of(of, model))
