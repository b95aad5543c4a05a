"""Gamma-Gamma: published numbers, recovery, refusals."""

import csv
import datetime as dt
import gzip
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.optimize import approx_fprime

from models.btyd import FitError, GammaGamma, SpendCells, fit_gamma_gamma
from models.btyd.gamma_gamma import _mean_log_likelihood

CDNOW = Path(__file__).parents[2] / "examples" / "data" / "cdnow_orders.csv.gz"
PUBLISHED = GammaGamma(p=6.25, q=3.74, v=15.44)

model = st.builds(
    GammaGamma, p=st.floats(0.01, 1000), q=st.floats(1.01, 1000), v=st.floats(0.01, 1e6)
)


def cdnow_repeat_spend() -> tuple[list[int], list[float]]:
    """x and mean value of the repeat purchase days of the sample's repeaters, in 39 weeks."""
    spend: dict[str, dict[str, float]] = defaultdict(lambda: defaultdict(float))
    with gzip.open(CDNOW, "rt", newline="") as file:
        for row in csv.DictReader(file):
            if row["in_sample"] == "1" and row["date"] <= dt.date(1997, 9, 30).isoformat():
                spend[row["customer_id"]][row["date"]] += float(row["amount"])
    repeats = [[d[day] for day in sorted(d)[1:]] for d in spend.values() if len(d) > 1]
    return [len(r) for r in repeats], [sum(r) / len(r) for r in repeats]


def test_fit_to_cdnow_repeaters_is_the_published_one():
    fit = fit_gamma_gamma(SpendCells.count(*cdnow_repeat_spend()))
    got = fit.parameters
    assert fit.customers == 946
    assert fit.log_likelihood == pytest.approx(-4055.9177, abs=5e-4)
    assert (got.p, got.q, got.v) == pytest.approx((6.25, 3.74, 15.44), abs=0.006)
    assert fit.at_bounds == ()


def test_conditional_means_are_the_published_ones():
    x, m = [2, 1, 0, 7, 2], [22.35, 11.77, 0, 73.74, 25.55]
    assert PUBLISHED.expected_order_value(x, m) == pytest.approx(
        [24.6637, 18.9169, 35.2190, 71.4697, 27.2884], abs=5.1e-5
    )
    assert PUBLISHED.mean_order_value == pytest.approx(35.2190, abs=5e-5)


@pytest.mark.heavy
def test_parameters_are_recovered_from_simulated_customers():
    rng = np.random.default_rng(11)
    truth = GammaGamma(p=4.0, q=3.5, v=20.0)
    x = rng.geometric(0.4, 20_000)
    rates = rng.gamma(truth.q, 1 / truth.v, x.size)
    m = rng.gamma(truth.p * x, 1 / (rates * x))
    got = fit_gamma_gamma(SpendCells.count(x, m)).parameters
    assert (got.p, got.q, got.v) == pytest.approx((truth.p, truth.q, truth.v), rel=0.06)


def test_the_density_integrates_to_one():
    total = quad(lambda m: np.exp(PUBLISHED.log_likelihood(3, m)), 0, np.inf)[0]
    assert total == pytest.approx(1, abs=1e-7)


@given(model, st.integers(1, 50), st.floats(0.01, 1e5))
def test_expectation_lies_between_the_population_and_the_customer(model, x, m):
    low, high = sorted([m, model.mean_order_value])
    assert low * (1 - 1e-9) <= model.expected_order_value(x, m) <= high * (1 + 1e-9)


@given(model, st.integers(1, 10_000), st.floats(1e-4, 1e9))
def test_scores_are_finite_without_warnings(model, x, m):
    assert np.isfinite(model.log_likelihood(x, m))
    assert np.isfinite(model.expected_order_value(x, m))


@given(st.floats(0.1, 20), st.floats(0.5, 20), st.floats(0.1, 100))
@settings(max_examples=25, deadline=None)
def test_gradient_is_the_slope_of_the_likelihood(p, q, v):
    x, m = np.array([1.0, 3, 20]), np.array([5.0, 80, 33])
    share = np.array([0.5, 0.25, 0.25])
    point = np.array([p, q, v])
    _, gradient = _mean_log_likelihood(point, x, m, share)
    slope = approx_fprime(
        np.log(point), lambda logs: _mean_log_likelihood(np.exp(logs), x, m, share)[0], 1e-7
    )
    assert gradient * point == pytest.approx(slope, rel=1e-4, abs=1e-5)


def test_the_currency_unit_does_not_matter():
    x, m = cdnow_repeat_spend()
    dollars = fit_gamma_gamma(SpendCells.count(x, m)).parameters
    cents = fit_gamma_gamma(SpendCells.count(x, np.array(m) * 100)).parameters
    assert (cents.p, cents.q, cents.v / 100) == pytest.approx(
        (dollars.p, dollars.q, dollars.v), rel=1e-5
    )


def test_inputs_are_left_alone():
    x, m = np.array([1.0, 2, 3, 3]), np.array([4.0, 9, 5, 6])
    before = x.copy(), m.copy()
    fit_gamma_gamma(SpendCells.count(x, m))
    PUBLISHED.expected_order_value(x, m)
    assert np.array_equal(x, before[0])
    assert np.array_equal(m, before[1])


@pytest.mark.parametrize("q", [1.0, 0.5])
def test_a_model_without_a_mean_is_refused(q):
    with pytest.raises(ValueError, match="q > 1"):
        GammaGamma(p=6, q=q, v=15)


def test_a_fit_without_a_mean_is_refused_with_what_to_do():
    rng = np.random.default_rng(5)
    m = 10 / rng.gamma(0.4, 1.0, 3000)
    with pytest.raises(FitError, match="cap the largest order values"):
        fit_gamma_gamma(SpendCells.count(5, m))


def test_nobody_to_fit_on_is_an_error():
    with pytest.raises(FitError, match="nobody with a positive"):
        fit_gamma_gamma(SpendCells.count([], []))


def test_impossible_statistics_are_named_by_row():
    with pytest.raises(ValueError, match=r"row 1.*finite and >= 0"):
        PUBLISHED.expected_order_value([1, 2], [3, -1])
    with pytest.raises(ValueError, match=r"row 0.*needs a repeat buyer"):
        PUBLISHED.log_likelihood([0, 2], [3, 4])
