"""Calibration: the groups of held-out days against a count by hand, and against what is true."""

import numpy as np
import pytest

from models.calibration import GROUPS
from models.candidates import HELD_OUT_DAYS, judge

from .populations import FIRST, histories, of_days
from .test_candidates import DAYS, SHOP, TODAY, end_of, fit

CUT = DAYS - HELD_OUT_DAYS


@pytest.fixture(scope="module")
def bought():
    return histories(SHOP, 1_500, DAYS)


@pytest.fixture(scope="module")
def shop(bought):
    return of_days(bought)


def test_groups_hold_all_who_had_bought_and_what_each_of_them_bought(bought, shop):
    found = judge(fit(shop), None, shop, TODAY - 1).calibration
    known = [days for days in bought if days[0] <= CUT - 1]
    later = sum(day > CUT - 1 for days in known for day in days)
    assert sum(group.customers for group in found.groups) == len(known)
    assert sum(group.observed for group in found.groups) == later
    assert (found.first, found.last) == (end_of(FIRST + CUT).date(), end_of(TODAY - 1).date())


def test_each_group_is_expected_to_buy_as_much_and_those_who_buy_least_come_first(shop):
    groups = judge(fit(shop), None, shop, TODAY).calibration.groups
    assert len(groups) == GROUPS
    mean = sum(group.expected for group in groups) / GROUPS
    assert [group.expected for group in groups] == pytest.approx([mean] * GROUPS, rel=0.1)
    each = [group.expected / group.customers for group in groups]
    assert each == sorted(each)


def test_a_model_that_is_true_is_calibrated_and_one_that_is_not_is_not():
    bought = histories(SHOP, 6_000, DAYS, seed=5)
    steady = of_days(bought)
    groups = judge(fit(steady), None, steady, TODAY - 1).calibration.groups
    errors = [(group.observed - group.expected) / group.deviation for group in groups]
    # Chi-squared with ten degrees of freedom: .9999 lies below 35.6.
    assert sum(error**2 for error in errors) < 35.6
    stopped = of_days([[day for day in days if day < CUT] for days in bought])
    silent = judge(fit(stopped), None, stopped, TODAY - 1).calibration.groups
    assert sum(group.observed for group in silent) == 0
    expected = sum(group.expected for group in silent)
    assert expected > 10 * np.hypot.reduce([group.deviation for group in silent])


def test_of_a_day_that_has_just_begun_nothing_is_expected(shop):
    fitted = fit(shop)
    whole, begun = (
        sum(group.expected for group in judge(fitted, None, shop, TODAY, passed=passed)
            .calibration.groups)
        for passed in (1.0, 0.0)
    )  # fmt: skip
    share = begun / whole
    # A little more than 27 of 28 days: fewer are customers on the last one.
    assert 27 / 28 < share < 27.5 / 28


def test_without_customers_of_earlier_there_is_none():
    young = of_days([[DAYS - 3, DAYS - 1], [DAYS - 2]])
    assert judge(fit(young), None, young, TODAY).calibration is None
