"""Gamma-Poisson: negative binomial with exposure, recovery, refusals."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime
from scipy.stats import nbinom

from models.btyd import FitError, GammaPoisson, fit_gamma_poisson
from models.btyd.contacts import _mean_log_likelihood

model = st.builds(GammaPoisson, shape=st.floats(0.01, 1000), rate=st.floats(0.01, 1e4))


@given(model, st.integers(0, 500), st.floats(0.1, 20_000))
def test_likelihood_is_the_negative_binomial(model, n, T):
    expected = nbinom.logpmf(n, model.shape, model.rate / (model.rate + T))
    assert model.log_likelihood(n, T) == pytest.approx(expected, rel=1e-6, abs=1e-6)


def test_contact_rate_is_the_posterior_mean():
    model = GammaPoisson(shape=0.5, rate=100)
    assert model.contact_rate([0, 3], [0, 100]) == pytest.approx([0.005, 0.0175])


@given(model, st.integers(0, 10_000), st.floats(0.1, 20_000))
def test_contact_rate_lies_between_the_population_and_the_customer(model, n, T):
    low, high = sorted([n / T, model.shape / model.rate])
    assert low * (1 - 1e-9) <= model.contact_rate(n, T) <= high * (1 + 1e-9)


def test_parameters_are_recovered_from_simulated_customers():
    rng = np.random.default_rng(2)
    T = rng.uniform(10, 700, 20_000)
    n = rng.poisson(rng.gamma(0.6, 1 / 120, T.size) * T)
    fit = fit_gamma_poisson(n, T)
    assert fit.customers == 20_000
    assert fit.parameters.shape == pytest.approx(0.6, rel=0.05)
    assert fit.parameters.rate == pytest.approx(120, rel=0.05)


def test_the_fit_is_the_maximum():
    n, T = np.array([0, 1, 0, 7, 2]), np.array([5.0, 40, 90, 300, 12])
    best = fit_gamma_poisson(n, T)
    model = best.parameters
    for factor in (0.99, 1.01):
        for other in (
            GammaPoisson(model.shape * factor, model.rate),
            GammaPoisson(model.shape, model.rate * factor),
        ):
            assert other.log_likelihood(n, T).sum() < best.log_likelihood


def test_counted_rows_fit_as_single_ones():
    n, T, number = np.array([0, 3, 1]), np.array([50, 60, 70]), np.array([5, 2, 4])
    counted = fit_gamma_poisson(n, T, number)
    single = fit_gamma_poisson(np.repeat(n, number), np.repeat(T, number))
    assert counted.parameters.shape == pytest.approx(single.parameters.shape, rel=1e-6)
    assert counted.parameters.rate == pytest.approx(single.parameters.rate, rel=1e-6)
    assert counted.customers == single.customers == 11


@given(st.floats(0.05, 50), st.floats(0.05, 50))
@settings(max_examples=25, deadline=None)
def test_gradient_is_the_slope_of_the_likelihood(shape, rate):
    n, T = np.array([0.0, 0, 2, 30]), np.array([0.0, 1, 1.5, 2])
    share, point = np.full(4, 0.25), np.array([shape, rate])
    _, gradient = _mean_log_likelihood(point, n, T, share)
    slope = approx_fprime(
        np.log(point), lambda logs: _mean_log_likelihood(np.exp(logs), n, T, share)[0], 1e-7
    )
    assert gradient * point == pytest.approx(slope, rel=1e-4, abs=1e-5)


def test_equal_rates_end_at_the_bound_and_say_so():
    fit = fit_gamma_poisson([5, 5, 5, 5], 10)
    assert "shape" in fit.at_bounds
    assert fit.parameters.contact_rate(5, 10) == pytest.approx(0.5, rel=1e-3)


def test_customers_of_today_without_contacts_take_part():
    assert fit_gamma_poisson([0, 1, 4], [0, 10, 20]).customers == 3


def test_inputs_are_left_alone():
    n, T = np.array([0.0, 1, 4]), np.array([0.0, 10, 20])
    before = n.copy(), T.copy()
    fit_gamma_poisson(n, T)
    assert np.array_equal(n, before[0])
    assert np.array_equal(T, before[1])


def test_no_contacts_is_an_error_that_says_what_to_do():
    with pytest.raises(FitError, match=r"none of 2 customers has contacted.*until there are"):
        fit_gamma_poisson([0, 0], [10, 20])


def test_nobody_to_fit_on_is_an_error():
    with pytest.raises(FitError, match="no customers"):
        fit_gamma_poisson([], [])


@pytest.mark.parametrize(
    ("n", "T", "problem"),
    [(-1, 5, "whole number"), (0.5, 5, "whole number"), (1, -5, "T must be"), (1, 0, "exposure")],
)
def test_impossible_statistics_are_named_by_row(n, T, problem):
    with pytest.raises(ValueError, match=f"row 1.*{problem}"):
        fit_gamma_poisson([1, n], [5, T])


@pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf")])
def test_parameters_must_be_positive(bad):
    with pytest.raises(ValueError, match="parameter rate"):
        GammaPoisson(shape=1, rate=bad)
