"""The simple formula by segment, by hand."""

import pytest

from models.formulas import margin_clv
from models.segment_formulas import segment_formula, sums_by_segment


def customer(segment, orders, gross, margin, acquisition, clv):
    return {
        "segments": {"lifecycle": segment, "tier": "gold"},
        "totals": {"orders": orders, "gross": gross},
        "realised": {"margin": margin, "acquisition_cost": acquisition},
        "clv": clv,
    }


def test_the_formula_is_that_of_the_mean_customer_of_each_segment():
    found = sums_by_segment(
        [
            customer("active", 2, 200.0, 50.0, 10.0, 80.0),
            customer("active", 4, 340.0, 58.0, 2.0, 40.0),
            customer("prospect", 0, 0.0, 0.0, 7.0, -7.0),
        ]
    )
    assert {name: set(those) for name, those in found.items()} == {
        "lifecycle": {"active", "prospect"},
        "tier": {"gold"},
    }
    active = segment_formula(found["lifecycle"]["active"])
    assert (active.customers, active.average_order_value, active.orders) == (2, 90.0, 3.0)
    assert (active.acquisition_cost, active.profit_margin) == (6.0, pytest.approx(0.2))
    # The published example, (90 x 3 - 6) x 0.20, and a tenth more of each.
    assert active.formula_value == pytest.approx(52.80)
    assert active.model_value == 60.0
    assert active.levers.orders == active.levers.order_value == pytest.approx(5.40)
    assert active.levers.acquisition_cost == pytest.approx(0.12)
    assert active.levers.profit_margin == pytest.approx(5.28)
    assert found["tier"]["gold"].customers == 3


def test_a_segment_without_orders_is_worth_nothing_by_the_formula():
    sums = sums_by_segment([customer("prospect", 0, 0.0, 0.0, 7.0, -7.0)])["lifecycle"]["prospect"]
    prospect = segment_formula(sums)
    assert prospect.formula_value == margin_clv(0, 0, 7.0, 0.0) == 0
    assert prospect.model_value == -7.0
