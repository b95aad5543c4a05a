"""Customer value: its parts add up, and nobody's value depends on who else is scored."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.btyd import BgNbd
from models.economics import Economics
from models.value import Values, values

from .parameters import PARAMETERS

CONFIG = Economics()


def row(days=(0, 30, 75), today=200, gross=400_000, contacts=2, acquisition=100_000):
    """A customer with equal orders on these days."""
    count = len(days)
    total = gross * count
    first, last = (days[0], days[-1]) if days else (0, 0)
    return (
        count,
        count,
        last - first,
        today - first if days else 0,
        today - last if days else 0,
        gross * max(count - 1, 0),
        total,
        total * 3 // 10,
        total * 3 // 10,
        30_000 * contacts,
        contacts,
        acquisition,
    )


rows = st.builds(
    row,
    days=st.lists(st.integers(0, 4_000), unique=True, max_size=40).map(sorted).map(tuple),
    today=st.integers(4_000, 6_000),
    gross=st.integers(0, 10_000_000),
    contacts=st.integers(0, 50),
    acquisition=st.integers(0, 1_000_000),
)


def column(result, name, at):
    return float(getattr(result, name)[at])


@given(st.lists(rows, min_size=1, max_size=30), st.sampled_from([PARAMETERS, None]))
@settings(max_examples=60, deadline=None)
def test_a_customers_value_is_the_same_to_the_last_digit_alone_and_in_company(several, parameters):
    together = values(several, parameters, CONFIG)
    for at, one in enumerate(several):
        alone = values([one], parameters, CONFIG)
        for name in Values.__slots__:
            np.testing.assert_array_equal(
                getattr(alone, name)[0], getattr(together, name)[at], err_msg=name
            )


@given(st.lists(rows, min_size=1, max_size=10), st.sampled_from([PARAMETERS, None]))
@settings(max_examples=60, deadline=None)
def test_the_parts_add_up(several, parameters):
    result = values(several, parameters, CONFIG)
    np.testing.assert_allclose(result.clv, result.realised + result.expected)
    np.testing.assert_allclose(
        result.expected,
        result.expected_orders * result.margin_per_order - result.expected_support_cost,
    )
    assert np.isfinite(result.clv).all()


def test_expected_orders_are_the_models_own_discounted_at_ten_percent_a_year():
    result = values([row()], PARAMETERS, CONFIG)
    fitted = PARAMETERS.purchases
    model = BgNbd(fitted.r, fitted.alpha, fitted.a, fitted.b)
    weekly = np.log(1.10) / 365 * 7
    expected = model.expected_discounted_purchases(365 / 7, weekly, 2, 75 / 7, 200 / 7)
    assert column(result, "expected_orders", 0) == pytest.approx(float(expected), rel=1e-12)
    undiscounted = model.expected_purchases(365 / 7, 2, 75 / 7, 200 / 7)
    assert 0.9 * float(undiscounted) < float(expected) < float(undiscounted)


def test_a_prospect_is_worth_what_was_spent_on_them():
    result = values([row(days=(), contacts=1, acquisition=120_000)], PARAMETERS, CONFIG)
    assert column(result, "clv", 0) == -15.0
    assert np.isnan(result.p_alive[0])


def test_without_parameters_the_simple_average_holds():
    # Three orders of 40.00 within a year: three a year, at a margin of 30 %, two contacts of 3.00.
    result = values([row(acquisition=0)], None, CONFIG)
    assert column(result, "expected_orders", 0) == pytest.approx(3.0)
    assert column(result, "margin_per_order", 0) == pytest.approx(12.0)
    assert column(result, "expected", 0) == pytest.approx(3 * 12.0 - 2 * 3.0)
    assert column(result, "realised", 0) == pytest.approx(36.0 - 6.0)


def test_the_refund_rate_of_the_population_lowers_the_margin_expected_of_an_order():
    without = PARAMETERS.model_copy(update={"refund_rate": 0.0})
    order_value = column(values([row()], PARAMETERS, CONFIG), "order_value", 0)
    margins = [
        column(values([row()], p, CONFIG), "margin_per_order", 0) for p in (without, PARAMETERS)
    ]
    assert margins == [pytest.approx(order_value * 0.30), pytest.approx(order_value * 0.25)]


def test_the_levers_say_what_ten_percent_would_add():
    result = values([row()], PARAMETERS, CONFIG)
    orders, margin_per_order = (
        column(result, "expected_orders", 0),
        column(result, "margin_per_order", 0),
    )
    assert column(result, "lever_orders", 0) == pytest.approx(
        0.1 * (36 + orders * margin_per_order)
    )
    assert column(result, "lever_acquisition", 0) == pytest.approx(1.0)
