"""Customer value: realised plus expected, for many customers at once.

value    = realised + expected
realised = margin earned - cost to serve - acquisition cost
expected = discounted expected purchases x expected net margin per purchase
             - discounted expected contacts x cost of a contact

A purchase is a calendar day with an order, as in the models.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass, fields
from itertools import chain
from typing import Generic, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from models.aggregate.summary import Summary
from models.btyd import PurchaseModel
from models.btyd._beta_geometric import BetaGeometric
from models.btyd._counts import Counts
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


@dataclass(frozen=True, slots=True)
class Values:
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


class _Estimates(NamedTuple):
    """Expectations within the horizon, discounted but for low and high; 0 before an order.

    low, high: money spent, as a multiple of its mean.
    """

    p_alive: Floats
    p_purchase: Floats
    purchases: Floats
    purchases_low: Floats
    purchases_high: Floats
    purchase_value: Floats
    low: Floats
    high: Floats
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
    different = {id(each): each for each in parameters}
    if len(different) == 1:
        return valued(of, parameters[0], config, spread=spread)
    which = np.array([id(each) for each in parameters])
    result = {field.name: np.empty(which.size) for field in fields(Values)}
    for number, each in different.items():
        mine = which == number
        some = valued(Row(*(column[mine] for column in of)), each, config, spread=spread)
        for name, column in result.items():
            column[mine] = getattr(some, name)
    return Values(**result)


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

    spread: whether to compute percentiles, which takes half of the time; they are 0 if not.
    expectations: whether to compute expected purchases and contacts, which takes most of the rest;
    they are 0 if not.
    """
    bought = of.purchase_days > 0
    frequency = np.maximum(of.purchase_days - 1, 0)
    expect = _expect(of, parameters, config, spread=spread, ahead=expectations)
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
    ends = expected * expect.low, expected * expect.high
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
        purchases_low=expect.purchases_low,
        purchases_high=expect.purchases_high,
        purchase_value=expect.purchase_value,
        margin_per_purchase=margin_per_purchase,
        expected_contacts=expect.contacts,
        expected_support_cost=expected_support_cost,
        expected=expected,
        expected_low=np.minimum(*ends),
        expected_high=np.maximum(*ends),
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
    of: Row[Floats], parameters: Parameters, config: Economics, *, spread: bool, ahead: bool
) -> _Estimates:
    unit = parameters.unit_days
    horizon = config.horizon_days / unit
    discount = config.daily_discount * unit
    bought = of.purchase_days > 0
    seen = np.maximum(of.purchase_days - 1, 0), of.recency / unit, of.T / unit
    model, spend = purchase_model(of, parameters), parameters.order_value
    nothing = np.zeros(of.T.shape)
    purchases = nothing
    if ahead:
        purchases = model.expected_discounted_purchases(horizon, discount, *seen)
    if spread:
        number = model.purchase_counts(horizon, *seen)
    else:
        number = Counts(model.probability_of_any(horizon, *seen), *[nothing] * 4)
    p_purchase = number.any
    if config.horizon_days != YEAR:
        p_purchase = model.probability_of_at_least(1, YEAR / unit, *seen)
    kept_value = of.kept_gross / np.maximum(of.kept_days, 1)
    if spend is None:
        purchase_value = kept_value
        mean = np.maximum(number.mean, 1e-300)
        low, high = number.low / mean, number.high / mean
    else:
        purchase_value = spend.expected_order_value(of.kept_days, kept_value)
        low = high = nothing
        if spread:
            low, high = spend.relative_quantiles(number, of.kept_days, kept_value)
    return _Estimates(
        p_alive=np.where(bought, model.p_alive(*seen), np.nan),
        p_purchase=np.where(bought, p_purchase, np.nan),
        purchases=np.where(bought, purchases, 0.0),
        purchases_low=np.where(bought, number.low, 0.0),
        purchases_high=np.where(bought, number.high, 0.0),
        purchase_value=np.where(bought, purchase_value, 0.0),
        low=np.where(bought, low, 0.0),
        high=np.where(bought, high, 0.0),
        contacts=nothing
        if parameters.contacts is None or not ahead
        else np.where(bought, _contacts(of, parameters, horizon, discount, purchases), 0.0),
    )


def _contacts(
    of: Row[Floats], parameters: Parameters, horizon: float, discount: float, purchases: Floats
) -> Floats:
    """Return the expected contacts: by purchase, or by the time that a customer is alive."""
    prior = parameters.contacts
    assert prior is not None  # noqa: S101 - the caller has looked.
    if parameters.contacts_per == "purchase":
        return prior.contact_rate(of.contacts, np.maximum(of.purchase_days, 1)) * purchases
    unit, model = parameters.unit_days, purchase_model(of, parameters)
    seen = np.maximum(of.purchase_days - 1, 0), of.recency / unit, of.T / unit
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
