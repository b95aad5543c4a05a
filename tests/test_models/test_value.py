"""Customer value: its parts add up, and nobody's value depends on who else is scored."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.btyd import BgNbd, GammaPoisson
from models.economics import Economics
from models.prior import prior
from models.value import Row, Values, values

from .parameters import PARAMETERS

CONFIG = Economics()


def row(
    days=(0, 30, 75), today=200, gross=400_000, contacts=2, acquisition=100_000, cost=None, lost=0
):
    """A customer with equal orders on these days. cost: of each; lost: to refunds, in units."""
    count = len(days)
    total = gross * count
    first, last = (days[0], days[-1]) if days else (0, 0)
    margin = total * 3 // 10 if cost is None else total - cost * count
    return Row(
        orders=count,
        purchase_days=count,
        kept_days=count,
        recency=last - first,
        T=today - first if days else 0,
        since_last_order=today - last if days else 0,
        contacts=contacts,
        complained=0,
        complained_first=0,
        complained_last=0,
        repeat_gross=gross * max(count - 1, 0),
        kept_gross=total,
        costed_gross=0 if cost is None else total,
        costed_margin=0 if cost is None else margin,
        refund_loss=lost,
        margin=margin - lost,
        support_cost=30_000 * contacts,
        acquisition_cost=acquisition,
    )


rows = st.builds(
    row,
    days=st.lists(st.integers(0, 4_000), unique=True, max_size=40).map(sorted).map(tuple),
    today=st.integers(4_000, 6_000),
    gross=st.integers(0, 10_000_000),
    contacts=st.integers(0, 50),
    acquisition=st.integers(0, 1_000_000),
    cost=st.none() | st.integers(0, 12_000_000),
    lost=st.integers(-1_000_000, 50_000_000),
)
MODELS = [PARAMETERS, prior("USD"), PARAMETERS.model_copy(update={"contacts_per": "purchase"})]


def column(result, name, at):
    return float(getattr(result, name)[at])


@given(st.lists(rows, min_size=1, max_size=30), st.sampled_from(MODELS))
@settings(max_examples=60, deadline=None)
def test_a_customers_value_is_the_same_to_the_last_digit_alone_and_in_company(several, parameters):
    together = values(several, parameters, CONFIG)
    for at, one in enumerate(several):
        alone = values([one], parameters, CONFIG)
        for name in Values.__slots__:
            np.testing.assert_array_equal(
                getattr(alone, name)[0], getattr(together, name)[at], err_msg=name
            )


@given(st.lists(rows, min_size=1, max_size=10), st.sampled_from(MODELS))
@settings(max_examples=60, deadline=None)
def test_the_parts_add_up(several, parameters):
    result = values(several, parameters, CONFIG)
    np.testing.assert_allclose(result.clv, result.realised + result.expected)
    np.testing.assert_allclose(
        result.expected,
        result.expected_purchases * result.margin_per_purchase - result.expected_support_cost,
    )
    assert np.isfinite(result.clv).all()
    assert (result.expected_low <= result.expected_high).all()
    assert (result.purchases_low <= result.purchases_high).all()


def test_expected_purchases_are_the_models_own_discounted_at_ten_percent_a_year():
    result = values([row()], PARAMETERS, CONFIG)
    fitted = PARAMETERS.purchases
    model = BgNbd(fitted.r, fitted.alpha, fitted.a, fitted.b)
    weekly = np.log(1.10) / 365 * 7
    expected = model.expected_discounted_purchases(365 / 7, weekly, 2, 75 / 7, 200 / 7)
    assert column(result, "expected_purchases", 0) == pytest.approx(float(expected), rel=1e-12)
    undiscounted = model.expected_purchases(365 / 7, 2, 75 / 7, 200 / 7)
    assert 0.9 * float(undiscounted) < float(expected) < float(undiscounted)


def test_a_prospect_is_worth_what_was_spent_on_them():
    result = values([row(days=(), contacts=1, acquisition=120_000)], PARAMETERS, CONFIG)
    assert column(result, "clv", 0) == -15.0
    assert np.isnan(result.p_alive[0])


def test_a_purchase_is_worth_what_all_purchases_say_the_first_one_too():
    """Gamma-Gamma with n = 3: p (v + n m) / (p n + q - 1)."""
    result = values([row()], PARAMETERS, CONFIG)
    assert column(result, "purchase_value", 0) == pytest.approx(
        6.25 * (15.44 + 3 * 40) / (6.25 * 3 + 3.74 - 1), rel=1e-12
    )
    once = values([row(days=(0,), gross=4_000_000)], PARAMETERS, CONFIG)
    assert column(once, "purchase_value", 0) > 6 * PARAMETERS.order_value.mean_order_value


def test_without_parameters_a_weak_prior_holds_and_a_purchase_is_worth_the_mean():
    result = values([row(), row(days=(0,))], prior("USD"), CONFIG)
    assert column(result, "purchase_value", 0) == 40.0
    assert 0.5 < column(result, "expected_purchases", 0) < 5
    assert column(result, "expected_purchases", 1) < column(result, "expected_purchases", 0)
    assert (result.p_purchase > 0).all()


def test_a_customers_margin_is_drawn_towards_the_shops_by_the_revenue_it_was_seen_in():
    """(36 of 120 + .2 of 20 mean purchases) / (120 + these), of orders that told their cost."""
    shop = PARAMETERS.model_copy(update={"margin_share": 0.2, "refund_rate": 0.0})
    of_shop = 20 * shop.order_value.mean_order_value
    result = values([row(cost=280_000), row()], shop, CONFIG)
    per_revenue = result.margin_per_purchase / result.purchase_value
    assert per_revenue[0] == pytest.approx((36 + 0.2 * of_shop) / (120 + of_shop), rel=1e-12)
    assert per_revenue[1] == pytest.approx(0.2, rel=1e-12)
    assert column(values([row()], prior("USD"), CONFIG), "margin_per_purchase", 0) == 12.0


def test_so_are_the_refunds():
    result = values([row(lost=300_000), row()], PARAMETERS, CONFIG)
    of_shop = 20 * PARAMETERS.order_value.mean_order_value
    lost = 0.30 - result.margin_per_purchase / result.purchase_value
    assert lost[0] == pytest.approx((30 + 0.05 * of_shop) / (120 + of_shop), rel=1e-12)
    assert lost[1] == pytest.approx(0.05 * of_shop / (120 + of_shop), rel=1e-12)


def test_contacts_come_with_purchases_or_with_the_time_alive():
    """By purchase: (shape + contacts) / (rate + purchase days) times the purchases to come."""
    contacts = GammaPoisson(shape=0.5, rate=2.0)
    by_purchase = PARAMETERS.model_copy(update={"contacts": contacts, "contacts_per": "purchase"})
    result = values([row()], by_purchase, CONFIG)
    assert column(result, "expected_contacts", 0) == pytest.approx(
        (0.5 + 2) / (2 + 3) * column(result, "expected_purchases", 0), rel=1e-12
    )
    assert column(result, "expected_support_cost", 0) == pytest.approx(
        3 * column(result, "expected_contacts", 0), rel=1e-12
    )
    by_time = values([row()], PARAMETERS, CONFIG)
    model = PARAMETERS.purchases
    seen = (2, 75 / 7, 200 / 7)
    alive = 75 / 7 + float(model.p_alive(*seen)) * 125 / 7
    ahead = model.expected_discounted_time(365 / 7, np.log(1.10) / 365 * 7, *seen)
    assert column(by_time, "expected_contacts", 0) == pytest.approx(
        2.5 / (20 + alive) * float(ahead), rel=1e-12
    )


def test_levers_price_what_can_still_be_changed():
    by_purchase = PARAMETERS.model_copy(update={"contacts_per": "purchase"})
    for parameters in (PARAMETERS, by_purchase):
        result = values([row()], parameters, CONFIG)
        earned = column(result, "expected_purchases", 0) * column(result, "margin_per_purchase", 0)
        assert column(result, "lever_value", 0) == pytest.approx(earned / 10)
        # More purchases bring more contacts, if these come with purchases.
        served = column(result, "expected_support_cost", 0) if parameters is by_purchase else 0.0
        assert column(result, "lever_purchases", 0) == pytest.approx((earned - served) / 10)
        assert column(result, "lever_margin", 0) == pytest.approx(
            column(result, "expected_purchases", 0) * column(result, "purchase_value", 0) * 0.03
        )


def test_a_customer_silent_for_years_has_hardly_a_lever():
    result = values([row(today=3_000)], PARAMETERS, CONFIG)
    assert column(result, "realised", 0) == pytest.approx(36 - 6 - 10)
    assert 0 < column(result, "lever_value", 0) < 0.01
    assert column(result, "p_purchase", 0) < 0.01


def test_what_is_expected_lies_between_its_percentiles():
    result = values([row(), row(days=(0,)), row(days=tuple(range(0, 210, 10)))], PARAMETERS, CONFIG)
    assert (result.expected_low <= result.expected).all()
    assert (result.expected <= result.expected_high).all()
    seen = (20, 200 / 7, 200 / 7)
    for share, name in ((0.1, "purchases_low"), (0.9, "purchases_high")):
        assert column(result, name, 2) == PARAMETERS.purchases.quantile(share, 365 / 7, *seen)
    assert column(result, "purchases_low", 2) > 0


def test_a_purchase_within_a_year_does_not_depend_on_the_horizon():
    far = values([row()], PARAMETERS, Economics(horizon_days=1_000))
    near = values([row()], PARAMETERS, CONFIG)
    assert column(far, "p_purchase", 0) == pytest.approx(column(near, "p_purchase", 0), rel=1e-12)
    assert column(far, "expected_purchases", 0) > column(near, "expected_purchases", 0)
