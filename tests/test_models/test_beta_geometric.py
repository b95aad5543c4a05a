"""What BG/NBD and MBG/NBD share: independent integration, and fits that start again."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy.special import betaln, gammainc, gammaln, log_expit

from models.btyd import BgNbd, Cells, FitError, MbgNbd
from models.btyd._beta_geometric import BetaGeometric
from models.btyd._optimise import Maximum, maximise

from .simulated import no_dropout
from .test_bg_nbd import customers

KINDS = (BgNbd, MbgNbd)

wide = st.builds(
    lambda kind, *parameters: kind(*parameters),
    st.sampled_from(KINDS),
    st.floats(0.05, 60),
    st.floats(0.1, 300),
    st.floats(0.1, 60),
    st.floats(0.02, 100),
)


@pytest.fixture(params=KINDS, ids=lambda kind: kind.name)
def kind(request) -> type[BetaGeometric]:
    return request.param


def mean_over_dropout(
    a: float, b: float, value: Callable[[np.ndarray, np.ndarray], np.ndarray]
) -> float:
    """The mean of value(p, 1 - p) over p ~ Beta(a, b), b >= 1, by Gauss-Legendre over logit p."""
    nodes, weights = np.polynomial.legendre.leggauss(16)
    peak = np.log(a / b)
    edges = np.linspace(peak - 40 / a - 40, peak + 60, 2_001)
    half = np.diff(edges)[:, None] / 2
    v = edges[:-1, None] + half * (nodes + 1)
    density = np.exp(a * log_expit(v) + b * log_expit(-v) - betaln(a, b))
    return float(
        np.sum(half * weights * density * value(np.exp(log_expit(v)), np.exp(log_expit(-v))))
    )


def survived(model: BetaGeometric, x: float) -> float:
    """How many occasions to drop out a customer has survived who is alive."""
    return x + 1 if isinstance(model, MbgNbd) else x


@given(wide, customers(most=300))
@settings(max_examples=100, deadline=None)
def test_the_likelihood_is_the_mean_over_the_chances_to_drop_out(model, who):
    """Those alive survived all occasions; the dead survived all but the last, and stopped there."""
    x, t_x, T = who
    k = survived(model, x)
    assume(model.b + k - 1 >= 1)
    r, alpha, a, b = model.r, model.alpha, model.a, model.b
    rates = gammaln(r + x) - gammaln(r) - r * np.log1p(t_x / alpha) - x * np.log(alpha + t_x)
    silent = ((alpha + t_x) / (alpha + T)) ** (r + x)
    all_of_them = betaln(a, b + k) - betaln(a, b)
    dead = (lambda p, rest: p / rest) if k else (lambda p, rest: 0 * p)
    likelihood = mean_over_dropout(a, b + k, lambda p, rest: silent + dead(p, rest))
    assert model.log_likelihood(*who) == pytest.approx(
        rates + all_of_them + np.log(likelihood), rel=1e-9, abs=1e-9
    )
    if silent > 1e-250:
        assert model.p_alive(*who) == pytest.approx(silent / likelihood, rel=1e-9, abs=0)


@pytest.mark.heavy
@given(wide, customers(most=300), st.floats(1, 1000), st.floats(0, 0.01))
@settings(max_examples=100, deadline=None)
def test_expected_purchases_agree_with_the_mean_over_dropout_probabilities(model, who, t, delta):
    x, _, T = who
    k = survived(model, x)
    assume(model.b + k >= 1)
    shape, scale = model.r + x, model.alpha + T
    mean = mean_over_dropout(
        model.a, model.b + k, lambda p, _: -np.expm1(-shape * np.log1p(p * t / scale)) / p
    )
    alive = float(model.p_alive(*who))
    assert model.expected_purchases(t, *who) == pytest.approx(alive * mean, rel=1e-9, abs=1e-290)
    # Discounted, by parts: δ times what is expected until s, over s.
    nodes, weights = np.polynomial.legendre.leggauss(24)
    edges = t * np.concatenate(([0.0], 3.0 ** -np.arange(12, -1, -1)))
    half = np.diff(edges)[:, None] / 2
    s = edges[:-1, None] + half * (nodes + 1)
    until = model.expected_purchases(s, *who)
    discounted = float(np.sum(half * weights * delta * np.exp(-delta * s) * until))
    discounted += np.exp(-delta * t) * float(model.expected_purchases(t, *who))
    got = model.expected_discounted_purchases(t, delta, *who)
    assert got == pytest.approx(discounted, rel=1e-8, abs=1e-290)


@pytest.mark.heavy
@given(wide, customers(most=300), st.floats(1, 1000), st.integers(1, 20))
@settings(max_examples=50, deadline=None)
def test_the_probability_of_n_purchases_agrees_with_integration(model, who, t, n):
    """They survive n - 1 purchases, and n arrive at a rate λ ~ Gamma(r + x, α + T)."""
    x, _, T = who
    k = survived(model, x)
    assume(model.b + k >= 1)
    survive = mean_over_dropout(model.a, model.b + k, lambda _, rest: rest ** (n - 1))
    shape, scale = model.r + x, model.alpha + T
    nodes, weights = np.polynomial.legendre.leggauss(16)
    edges = np.linspace(np.log(shape) - 40 / shape - 10, np.log(shape) + 10, 2_001)
    half = np.diff(edges)[:, None] / 2
    v = edges[:-1, None] + half * (nodes + 1)
    density = np.exp(shape * v - np.exp(v) - gammaln(shape))
    enough = np.sum(half * weights * density * gammainc(n, np.exp(v) / scale * t))
    exact = float(model.p_alive(*who)) * survive * float(enough)
    got = model.probability_of_at_least(n, t, *who)
    assert got == pytest.approx(exact, rel=1e-9, abs=1e-290)


@pytest.mark.parametrize(
    ("kind", "parameters", "t", "who", "exact"),
    [
        (BgNbd, (517, 3.86e-5, 0.652, 0.000122), 320, (0, 0, 291), 1.0040471415390661),
        (BgNbd, (227, 0.0234, 1.04e-5, 0.00198), 7270, (0, 0, 49.2), 33347.893562752849),
        (BgNbd, (8490, 10.2, 0.123, 0.000315), 2.77, (0, 0, 43.1), 1.571240018313352),
        (BgNbd, (600, 0.3, 0.0013, 6.2), 500, (0, 0, 39), 7572.2652516079959),
        (MbgNbd, (4400, 20, 0.0006, 2), 300, (1, 40, 40), 21898.613244874434),
        (BgNbd, (1100, 0.5, 3e-5, 1), 60, (1, 38, 39), 3.0549413470089486e-5),
    ],
)
def test_few_who_leave_at_once_among_many_who_stay(kind, parameters, t, who, exact):
    """Of the closed form by Gauss's hypergeometric function, with 50 digits."""
    got = kind(*parameters).expected_purchases(t, *who)
    assert got == pytest.approx(exact, rel=2e-10)


def test_a_fit_that_runs_into_a_bound_starts_again_and_keeps_the_better_end(kind, monkeypatch):
    cells = no_dropout()
    fit = kind.fit(cells)
    monkeypatch.setattr(kind, "second_guess", lambda self: None)
    first = kind.fit(cells)
    assert first.at_bounds
    assert fit.iterations > first.iterations
    assert fit.log_likelihood > first.log_likelihood + 0.1


def test_a_second_search_that_does_not_converge_leaves_the_end_of_the_first(kind, monkeypatch):
    cells = no_dropout()
    with monkeypatch.context() as patched:
        patched.setattr(kind, "second_guess", lambda self: None)
        first = kind.fit(cells)
    searches = iter([maximise])

    def only_once(*arguments):
        for search in searches:
            return search(*arguments)
        raise FitError("did not converge")

    monkeypatch.setattr("models.btyd.model.maximise", only_once)
    assert kind.fit(cells).parameters == first.parameters


@pytest.mark.parametrize("name", ["a", "b"])
def test_parameters_as_good_as_zero_are_reported_as_those_at_bounds(kind, name, monkeypatch):
    cells = Cells.count([0, 1, 2], [0, 10, 20], [30, 30, 30])
    tiny = {"r": 0.5, "alpha": 5.0, "a": 0.5, "b": 2.0, name: 0.0099}

    def ends_there(*_):
        return Maximum(tiny, 1, ())

    monkeypatch.setattr("models.btyd.model.maximise", ends_there)
    fit = kind.fit(cells)
    assert fit.at_bounds == (name,)
    assert fit.covariance is None
