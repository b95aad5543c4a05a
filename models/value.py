"""Customer value: realised plus expected, for many customers at once.

value    = realised + expected
realised = margin earned - cost to serve - acquisition cost
expected = discounted expected orders x expected net margin per order
             - discounted expected contacts x cost of a contact
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.aggregate.summary import Summary
from models.btyd.bg_nbd import BgNbd
from models.btyd.gamma_gamma import GammaGamma
from models.contracts.parameters import Parameters
from models.economics import MONEY_SCALE, Economics

Floats = NDArray[np.float64]
Row = tuple[int, int, int, int, int, int, int, int, int, int, int, int]

LEVER = 0.10
"""Each lever is what this relative change would add to the value."""


def value_row(summary: Summary, today: int, config: Economics) -> Row:
    """What the value of one customer is computed from, as of a day's ordinal."""
    first, last = summary.first_day, summary.last_day
    today = max(today, last) if summary.orders else 0
    gross_margin = summary.gross_margin(config)
    return (
        summary.orders,
        summary.purchase_days,
        last - first,
        today - first,
        today - last,
        summary.gross - summary.first_day_gross,
        summary.gross,
        gross_margin,
        gross_margin - summary.refunded + summary.recovered,
        summary.support_cost,
        summary.contacts,
        summary.acquisition_cost,
    )


@dataclass(frozen=True, slots=True)
class Values:
    """Arrays of one entry per row; money in currency, times in days."""

    frequency: Floats
    recency: Floats
    T: Floats
    monetary_value: Floats
    orders: Floats
    purchase_days: Floats
    days_since_last_order: Floats
    mean_gap: Floats
    p_alive: Floats
    expected_orders: Floats
    order_value: Floats
    margin_per_order: Floats
    expected_contacts: Floats
    expected_support_cost: Floats
    expected: Floats
    realised: Floats
    clv: Floats
    lever_orders: Floats
    lever_acquisition: Floats
    lever_margin: Floats


def values(rows: Sequence[Row], parameters: Parameters | None, config: Economics) -> Values:
    """Value of each row; with the simple average formula while no parameters are fitted."""
    table = np.array(rows, dtype=np.float64).reshape(len(rows), 12).T
    orders, purchase_days, recency, T, since_last = table[:5]
    repeat_gross, gross, gross_margin, margin, support_cost = table[5:10] / MONEY_SCALE
    contacts = table[10]
    acquisition_cost = table[11] / MONEY_SCALE
    bought = purchase_days > 0
    frequency = np.maximum(purchase_days - 1, 0)
    monetary_value = repeat_gross / np.maximum(frequency, 1)
    mean_order_value = gross / np.maximum(purchase_days, 1)
    if parameters is None:
        estimates = _simple(purchase_days, T, mean_order_value, contacts, config)
    else:
        customers = (frequency, recency, T, monetary_value, mean_order_value, contacts)
        estimates = _predicted(parameters, config, bought, *customers)
    p_alive, expected_orders, order_value, expected_contacts = estimates
    share = np.where(gross > 0, gross_margin / np.where(gross > 0, gross, 1), config.margin)
    refund_rate = 0.0 if parameters is None else parameters.refund_rate
    margin_per_order = order_value * (share - refund_rate)
    unknown_contact = config.contact_units[-1] / MONEY_SCALE
    contact_cost = np.where(contacts > 0, support_cost / np.maximum(contacts, 1), unknown_contact)
    expected_support_cost = expected_contacts * contact_cost
    expected_margin = expected_orders * margin_per_order
    expected = expected_margin - expected_support_cost
    realised = margin - support_cost - acquisition_cost
    return Values(
        frequency=frequency,
        recency=recency,
        T=T,
        monetary_value=monetary_value,
        orders=orders,
        purchase_days=purchase_days,
        days_since_last_order=np.where(bought, since_last, np.nan),
        mean_gap=np.where(frequency > 0, recency / np.maximum(frequency, 1), np.nan),
        p_alive=p_alive,
        expected_orders=expected_orders,
        order_value=order_value,
        margin_per_order=margin_per_order,
        expected_contacts=expected_contacts,
        expected_support_cost=expected_support_cost,
        expected=expected,
        realised=realised,
        clv=realised + expected,
        lever_orders=LEVER * (margin + expected_margin),
        lever_acquisition=LEVER * acquisition_cost,
        lever_margin=LEVER * (gross_margin + expected_orders * order_value * share),
    )


def _simple(
    purchase_days: Floats, T: Floats, order_value: Floats, contacts: Floats, config: Economics
) -> tuple[Floats, Floats, Floats, Floats]:
    """Average order value x purchase frequency x lifespan, the lifespan being the horizon.

    A customer of less than a year is taken to have been observed for a year, so that two orders in
    a week do not make a hundred a year.
    """
    observed = np.maximum(T, 365.0)
    p_alive = np.full(T.shape, np.nan)
    expected_orders = purchase_days / observed * config.horizon_days
    expected_contacts = contacts / observed * config.horizon_days
    return p_alive, expected_orders, order_value, expected_contacts


def _predicted(
    parameters: Parameters, config: Economics, bought: NDArray[np.bool_], *customers: Floats
) -> tuple[Floats, Floats, Floats, Floats]:
    """BG/NBD orders, Gamma-Gamma order value, Gamma-Poisson contacts; nothing before an order.

    customers: frequency, recency, T, monetary value, mean order value and contacts.
    """
    frequency, recency, T, monetary_value, mean_order_value, contacts = customers
    unit = parameters.unit_days
    horizon = config.horizon_days / unit
    discount = config.daily_discount * unit
    fitted = parameters.purchases
    model = BgNbd(fitted.r, fitted.alpha, fitted.a, fitted.b)
    t_x, observed = recency / unit, T / unit
    alive = model.p_alive(frequency, t_x, observed)
    orders = model.expected_discounted_purchases(horizon, discount, frequency, t_x, observed)
    order_value = mean_order_value
    if parameters.order_value is not None:
        spend = parameters.order_value
        order_value = GammaGamma(spend.p, spend.q, spend.v).expected_order_value(
            frequency, monetary_value
        )
    expected_contacts = np.zeros(T.shape)
    if parameters.contacts is not None:
        prior = parameters.contacts
        rate = (prior.shape + contacts) / (prior.rate + observed)
        discounted_horizon = -np.expm1(-discount * horizon) / discount if discount else horizon
        expected_contacts = alive * rate * discounted_horizon
    return (
        np.where(bought, alive, np.nan),
        np.where(bought, orders, 0.0),
        np.where(bought, order_value, 0.0),
        np.where(bought, expected_contacts, 0.0),
    )
