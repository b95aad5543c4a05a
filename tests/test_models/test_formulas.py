"""The simple formulas and their levers."""

import doctest

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import formulas
from models.formulas import average_clv, customer_value, margin_clv, margin_clv_levers

amount = st.floats(0, 1e6)


def test_the_examples_in_the_documentation_hold():
    results = doctest.testmod(formulas)
    assert results.attempted >= 5
    assert results.failed == 0


def test_the_published_example_of_margin_clv():
    assert margin_clv(90, 3, 6, 0.20) == pytest.approx(52.80)


def test_average_clv_multiplies():
    assert average_clv(50, 4, 3) == 600


def test_customer_value_may_be_negative():
    assert customer_value(benefits=10, costs=25) == -15


@given(amount, amount, amount, st.floats(0, 1), st.floats(0, 1))
def test_a_lever_is_the_difference_it_makes_to_margin_clv(value, orders, cost, margin, share):
    levers = margin_clv_levers(value, orders, cost, margin, share)
    base = margin_clv(value, orders, cost, margin)
    more, less = 1 + share, 1 - share
    slack = 1e-9 * (1 + value * orders + cost)
    assert levers.order_value == pytest.approx(
        margin_clv(value * more, orders, cost, margin) - base, abs=slack
    )
    assert levers.orders == pytest.approx(
        margin_clv(value, orders * more, cost, margin) - base, abs=slack
    )
    assert levers.acquisition_cost == pytest.approx(
        margin_clv(value, orders, cost * less, margin) - base, abs=slack
    )
    assert levers.profit_margin == pytest.approx(
        margin_clv(value, orders, cost, margin * more) - base, abs=slack
    )
