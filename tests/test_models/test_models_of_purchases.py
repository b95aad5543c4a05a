"""What every registered model of purchases must hold, whatever its formulas are."""

import dataclasses
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import approx_fprime

from models.btyd import (
    MODELS,
    BgNbd,
    Cells,
    FitError,
    MbgNbd,
    ParetoNbd,
    PurchaseModel,
    model_of,
    registered,
)
from models.btyd.prior import LogNormal
from models.contracts.outputs import ModelName
from models.contracts.parameters import Parameters
from models.fitting import fit_population
from models.value import values

from .parameters import PARAMETERS
from .simulated import no_dropout, simulated
from .test_bg_nbd import customers, positive
from .test_fitting import ECONOMICS, END, cdnow
from .test_value import row

EXAMPLES = {
    "bg-nbd": BgNbd(r=0.2425945, alpha=4.4136019, a=0.7929199, b=2.4258881),
    "mbg-nbd": MbgNbd(r=0.525, alpha=6.183, a=0.891, b=1.614),
    "pareto-nbd": ParetoNbd(r=0.553, alpha=10.578, s=0.606, beta=11.669),
}
"""One model of each kind, in weeks."""

TRUTHS = (
    BgNbd(r=0.8, alpha=6.0, a=0.9, b=2.5),
    MbgNbd(r=0.8, alpha=6.0, a=0.9, b=2.5),
    ParetoNbd(r=0.8, alpha=6.0, s=0.7, beta=12.0),
)
"""Models whose parameters a thousand customers determine."""

X = np.array([0.0, 0.0, 1.0, 2.0, 5.0, 30.0, 300.0])
T_X = np.array([0.0, 0.0, 10.0, 30.43, 38.0, 20.0, 200.0])
T = np.array([0.0, 39.0, 39.0, 38.86, 38.0, 39.0, 210.0])
CUSTOMERS = (X, T_X, T)


def test_every_model_is_tried():
    assert EXAMPLES.keys() == MODELS.keys()
    assert {truth.name for truth in TRUTHS} == MODELS.keys()


@pytest.fixture(params=[0.0, 0.2], ids=["steady", "unsteady"])
def unsteadiness(request) -> float:
    return request.param


@pytest.fixture(params=EXAMPLES)
def model(request, unsteadiness) -> PurchaseModel:
    return EXAMPLES[request.param].with_unsteadiness(unsteadiness)


def test_a_model_is_published_and_read_by_its_name(model):
    published = PARAMETERS.model_copy(update={"model": model.name, "purchases": model})
    assert Parameters.model_validate_json(published.model_dump_json()).purchases == model
    assert model_of(model.name, model.document()) == model


def test_outputs_may_name_a_model(model):
    assert ModelName(name=model.name, version="v").name == model.name


def test_the_gradient_is_that_of_the_likelihood(model):
    cells = Cells.count(*CUSTOMERS)
    values = np.array(list(model.as_dict().values()))
    mean, gradient = model.mean_log_likelihood(cells)
    each = model.log_likelihood(cells.x, cells.t_x, cells.T)
    assert mean == pytest.approx(float(cells.number @ each) / cells.customers, rel=1e-12)
    numeric = approx_fprime(values, lambda v: type(model)(*v).mean_log_likelihood(cells)[0], 1e-7)
    np.testing.assert_allclose(gradient, numeric, rtol=2e-4, atol=1e-6)


def test_silence_makes_nobody_more_alive(model):
    later = [model.p_alive(X, T_X, T + silence) for silence in (0.0, 1.0, 10.0, 100.0, 1_000.0)]
    for before, after in pairwise(later):
        assert np.all(after <= before)
    assert np.all((later[0] >= 0) & (later[0] <= 1))


@pytest.mark.parametrize("bound", [0.01, 0.5, 0.8, 0.99])
def test_p_alive_falls_to_a_bound_at_the_age_that_is_told(model, bound):
    age = model.age_at_p_alive(bound, X, T_X)
    falls = np.isfinite(age)
    at_last = model.p_alive(X, T_X, T_X)
    np.testing.assert_array_equal(age[falls & (at_last <= bound)], T_X[falls & (at_last <= bound)])
    crosses = falls & (at_last > bound)
    assert crosses.any()
    np.testing.assert_allclose(
        model.p_alive(X[crosses], T_X[crosses], age[crosses]), bound, rtol=1e-9
    )
    never = ~falls
    assert np.all(model.p_alive(X[never], T_X[never], T_X[never] + 1e9) > bound)


@pytest.mark.parametrize("bound", [0.01, 0.25, 0.5, 0.9])
@pytest.mark.parametrize("h", [0.5, 52.0])
def test_the_chance_of_a_purchase_falls_to_a_bound_at_the_age_that_is_told(model, bound, h):
    age = model.age_at_p_purchase(bound, h, X, T_X)
    at_last = model.probability_of_at_least(1, h, X, T_X, T_X)
    assert np.all(np.isfinite(age))
    np.testing.assert_array_equal(age == T_X, at_last <= bound)
    crosses = at_last > bound
    assert crosses.any() or bound == 0.9 or h == 0.5
    customer = X[crosses], T_X[crosses], age[crosses]
    np.testing.assert_allclose(model.probability_of_at_least(1, h, *customer), bound, rtol=1e-12)


@given(positive, customers(most=200), st.data())
@settings(max_examples=50, deadline=None)
def test_silence_makes_a_purchase_less_likely_from_the_first_moment_on(h, who, data):
    """So that there is one age at which the chance falls to a bound: by a dense scan."""
    kind = MODELS[data.draw(st.sampled_from(sorted(MODELS)))]
    model = kind(*(data.draw(positive) for _ in kind.parameter_names()))
    x, t_x, _ = who
    silence = np.concatenate(([0.0], np.geomspace(1e-6, 1e6, 600)))
    chance = model.probability_of_at_least(1, h, x, t_x, t_x + silence)
    assert np.all(np.diff(chance) <= 1e-12 * chance[:-1])
    bound = data.draw(st.floats(0.001, 0.999))
    age = model.age_at_p_purchase(bound, h, x, t_x)
    assert np.all(chance[t_x + silence < age * (1 - 1e-9)] >= bound * (1 - 1e-9))
    assert np.all(chance[t_x + silence > age * (1 + 1e-9)] <= bound * (1 + 1e-9))


def test_an_age_that_is_never_reached_is_infinite(model):
    slow = dataclasses.replace(model, r=1e-4, alpha=1.0)
    assert slow.probability_of_at_least(1, 1e12, 0, 0, 1e12) > 1e-12
    assert slow.age_at_p_purchase(1e-12, 1e12, 0, 0) == np.inf


def test_nobody_buys_in_no_time(model):
    np.testing.assert_array_equal(model.age_at_p_purchase(1e-300, 0.0, X, T_X), T_X)


@pytest.mark.parametrize("t", [0.0, 0.5, 13.0, 52.0])
def test_the_probabilities_of_purchases_sum_to_what_is_expected(model, t):
    """E[X] is the sum over n >= 1 of P(X >= n)."""
    customers = [column[:6] for column in CUSTOMERS]
    total = np.zeros(6)
    for n in range(1, 3_000):
        tail = model.probability_of_at_least(n, t, *customers)
        total += tail
        if tail.max() < 1e-13:
            break
    np.testing.assert_allclose(
        total, model.expected_purchases(t, *customers), rtol=1e-8, atol=1e-10
    )


def test_the_probability_of_more_is_less(model):
    tails = [model.probability_of_at_least(n, 52.0, *CUSTOMERS) for n in range(20)]
    assert np.all(tails[0] == 1)
    for fewer, more in pairwise(tails):
        assert np.all(more <= fewer)


@given(share=st.floats(0.01, 0.999), t=st.floats(0.0, 200.0))
@settings(max_examples=50, deadline=None)
def test_a_quantile_is_the_least_number_that_is_enough(share, t):
    for model in EXAMPLES.values():
        n = model.quantile(share, t, *CUSTOMERS)
        at_most_n = 1 - model.probability_of_at_least(n + 1, t, *CUSTOMERS)
        assert np.all(at_most_n >= share - 1e-12)
        some = n > 0
        if some.any():
            customers = [column[some] for column in CUSTOMERS]
            fewer = 1 - model.probability_of_at_least(n[some], t, *customers)
            assert np.all(fewer < share + 1e-12)


def test_the_counts_that_are_published_are_those_of_the_probabilities(model):
    got = model.purchase_counts(52.0, *CUSTOMERS)
    at_least = [model.probability_of_at_least(n, 52.0, *CUSTOMERS) for n in range(1, 400)]
    np.testing.assert_allclose(got.any, at_least[0], rtol=1e-10)
    np.testing.assert_array_equal(got.low, model.quantile(0.1, 52.0, *CUSTOMERS))
    np.testing.assert_array_equal(got.high, model.quantile(0.9, 52.0, *CUSTOMERS))
    np.testing.assert_allclose(got.mean, np.sum(at_least, axis=0), rtol=2e-2)
    alone = [model.purchase_counts(52.0, *customer) for customer in zip(*CUSTOMERS, strict=True)]
    for together, each in zip(got, zip(*alone, strict=True), strict=True):
        np.testing.assert_array_equal(together, np.ravel(each))


def test_the_time_alive_is_at_most_the_time_there_is(model):
    lived = model.expected_time_alive(X, T_X, T)
    assert np.all((lived >= T_X) & (lived <= T))
    ahead = model.expected_discounted_time(52.0, 0.0, X, T_X, T)
    assert np.all(ahead <= 52.0 * model.p_alive(X, T_X, T))
    assert np.all(model.expected_discounted_time(52.0, 0.01, X, T_X, T) < ahead)
    # Of a short time ahead, all is lived by whoever is alive.
    soon = model.expected_discounted_time(1e-6, 0.01, X, T_X, T)
    np.testing.assert_allclose(soon, 1e-6 * model.p_alive(X, T_X, T), rtol=1e-5)


def test_discounting_makes_less_and_a_horizon_without_end_is_their_limit(model):
    undiscounted = model.expected_purchases(52.0, *CUSTOMERS)
    discounted = model.expected_discounted_purchases(52.0, 0.002, *CUSTOMERS)
    assert np.all(discounted <= undiscounted)
    np.testing.assert_allclose(
        model.discounted_residual_purchases(0.01, *CUSTOMERS),
        model.expected_discounted_purchases(3_000.0, 0.01, *CUSTOMERS),
        rtol=1e-8,  # Two quadratures of one integral, over ranges of different lengths.
    )


def test_a_customers_figures_do_not_depend_on_who_else_is_there(model):
    together = model.expected_discounted_purchases(52.0, 0.002, *CUSTOMERS)
    for at, customer in enumerate(zip(*CUSTOMERS, strict=True)):
        assert model.expected_discounted_purchases(52.0, 0.002, *customer) == together[at]


def test_scalars_and_arrays_broadcast(model):
    assert np.shape(model.p_alive(2, 3, 9)) == ()
    assert model.p_alive([2, 3], 3, [[9], [10], [11]]).shape == (3, 2)
    assert np.shape(model.log_likelihood(2, 3, 9)) == ()
    assert np.shape(model.expected_purchases(52, 2, 3, 9)) == ()
    assert model.expected_purchases(52, [2, 3], 3, [[9], [10], [11]]).shape == (3, 2)
    assert model.expected_purchases([[1], [2]], [2, 3], 3, 9).shape == (2, 2)
    assert model.expected_purchases(52, [], [], []).shape == (0,)
    assert model.probability_of_at_least([[1], [2]], 52, [2, 3], 3, 9).shape == (2, 2)
    assert model.quantile(0.5, [[1], [2]], [2, 3], 3, 9).shape == (2, 2)
    assert np.shape(model.age_at_p_alive(0.5, 2, 3)) == ()
    assert model.age_at_p_purchase([[0.1], [0.2]], 52, [2, 3], 3).shape == (2, 2)
    assert model.age_at_p_purchase([], 52, 2, 3).shape == (0,)


@pytest.mark.heavy
@given(customers(), positive, st.integers(0, 100), st.data())
@settings(max_examples=300, deadline=None)
def test_scores_are_finite_without_warnings(who, t, n, data):
    kind = MODELS[data.draw(st.sampled_from(sorted(MODELS)))]
    model = kind(*(data.draw(positive) for _ in kind.parameter_names()))
    x, t_x, _ = who
    assert 0 <= model.p_alive(*who) <= 1
    assert np.isfinite(model.log_likelihood(*who))
    value, gradient = model.mean_log_likelihood(Cells.count(*who))
    assert np.isfinite([value, *gradient]).all()
    purchases = model.expected_purchases(t, *who)
    discounted = model.expected_discounted_purchases(t, 1e-3, *who)
    residual = model.discounted_residual_purchases(1e-3, *who)
    assert np.isfinite([purchases, discounted, residual]).all()
    assert min(purchases, discounted, residual) >= 0
    assert discounted <= purchases * (1 + 1e-9)
    assert discounted <= residual * (1 + 1e-9)
    assert model.expected_purchases(t / 2, *who) <= purchases * (1 + 1e-9)
    assert 0 <= model.probability_of_at_least(n, t, *who) <= 1
    assert model.age_at_p_alive(0.3, x, t_x) >= t_x
    assert model.age_at_p_purchase(0.3, t, x, t_x) >= t_x


@given(customers(most=500), st.floats(1, 500))
@settings(max_examples=50, deadline=None)
def test_the_time_unit_does_not_matter(who, t):
    x, t_x, T = who
    for model in EXAMPLES.values():
        times = {name: 7 * getattr(model, name) for name in type(model).times}
        days = dataclasses.replace(model, **times)
        alive, in_days = model.p_alive(*who), days.p_alive(x, t_x * 7, T * 7)
        assert in_days == pytest.approx(float(alive), rel=1e-9)
        purchases = model.expected_discounted_purchases(t, 0.007, *who)
        in_days = days.expected_discounted_purchases(t * 7, 0.001, x, t_x * 7, T * 7)
        assert in_days == pytest.approx(float(purchases), rel=1e-9)


@pytest.mark.heavy
def test_a_fit_is_where_the_likelihood_is_greatest_in_any_unit_of_time(model):
    rng = np.random.default_rng(7)
    age = rng.uniform(20, 60, 4_000)
    rate = rng.gamma(0.6, 0.1, 4_000)
    x = rng.poisson(rate * age * rng.uniform(0.2, 1.0, 4_000)).astype(float)
    t_x = np.where(x > 0, age * rng.uniform(0.3, 1.0, 4_000), 0.0)
    cells = Cells.count(x, t_x, age)
    fit = type(model).fit(cells)
    best, gradient = fit.parameters.mean_log_likelihood(cells)
    scale = np.array(list(fit.parameters.as_dict().values()))
    names = list(fit.parameters.as_dict())
    free = [name not in fit.at_bounds for name in names]
    np.testing.assert_allclose((gradient * scale)[free], 0, atol=1e-4)
    in_days = type(model).fit(Cells.count(x, 7 * t_x, 7 * age)).parameters.as_dict()
    for name, value in fit.parameters.as_dict().items():
        if name not in fit.at_bounds:
            factor = 7 if name in type(model).times else 1
            assert in_days[name] == pytest.approx(factor * value, rel=1e-3)
    again = type(model).fit(cells, start=fit.parameters)
    assert again.parameters.mean_log_likelihood(cells)[0] == pytest.approx(best, abs=1e-9)
    assert again.iterations <= fit.iterations


@pytest.mark.heavy
@pytest.mark.parametrize("truth", TRUTHS, ids=lambda truth: truth.name)
def test_parameters_are_recovered_as_closely_as_their_covariance_says(truth):
    """Of 40 fits to a thousand customers, four in five are within the 80 % intervals."""
    rng = np.random.default_rng([7, 1])
    age = np.repeat([20.0, 30.0, 40.0, 50.0, 60.0], 200)
    true = np.log(list(truth.as_dict().values()))
    scores = []
    for _ in range(40):
        fit = type(truth).fit(Cells.count(*simulated(truth, age, rng)))
        assert fit.covariance is not None
        np.testing.assert_array_equal(fit.covariance, fit.covariance.T)
        distance = np.log(list(fit.parameters.as_dict().values())) - true
        scores.append(distance / np.sqrt(np.diag(fit.covariance)))
    # 160 scores, as informative as some 80 independent ones: .80 ± 2.3 standard deviations.
    assert 0.70 <= np.mean(np.abs(scores) < 1.2816) <= 0.90
    assert np.all(np.abs(np.mean(scores, axis=0)) < 3.5 / np.sqrt(40))


def test_the_covariance_is_that_of_the_curvature_of_the_likelihood(model):
    cells = Cells.count(*simulated(model, np.full(2_000, 39.0), np.random.default_rng(3)))
    fit = type(model).fit(cells)
    at = np.log(list(fit.parameters.as_dict().values()))
    step = 1e-3 * np.eye(4)

    def total(logs):
        each = type(model)(*np.exp(logs)).log_likelihood(cells.x, cells.t_x, cells.T)
        return float(cells.number @ each)

    curvature = [
        [
            (total(at + i + j) - total(at + i - j) - total(at - i + j) + total(at - i - j)) / 4e-6
            for i in step
        ]
        for j in step
    ]
    np.testing.assert_allclose(fit.covariance, np.linalg.inv(-np.array(curvature)), rtol=2e-3)


def test_no_covariance_is_given_at_a_bound(model):
    fit = type(model).fit(no_dropout())
    assert fit.at_bounds
    assert fit.covariance is None


ONE_TIME_BUYERS = Cells.count(np.zeros(10), np.zeros(10), np.arange(1.0, 11.0))
"""Ten customers of the last ten weeks, none of whom has bought again."""


def test_with_a_prior_ten_one_time_buyers_are_enough(model):
    prior = type(model).weak_prior()
    fit = type(model).fit(ONE_TIME_BUYERS, prior=prior)
    assert fit.at_bounds == ()
    for name, value in fit.parameters.as_dict().items():
        assert abs(np.log(value / prior[name].median)) < 2 * prior[name].deviation
    before = type(model)(**{name: each.median for name, each in prior.items()})
    # Who has seen nobody come back expects less than before, but not nothing.
    expected = fit.parameters.expected_purchases_of_new_customer(52)
    assert 0.1 < expected < before.expected_purchases_of_new_customer(52)
    assert fit.covariance is not None
    assert np.all(np.diag(fit.covariance) < [1.2 * each.deviation**2 for each in prior.values()])


def test_with_a_prior_one_customer_of_today_leaves_the_prior_as_it_was(model):
    prior = type(model).weak_prior()
    fit = type(model).fit(Cells.count(0, 0, 0), prior=prior)
    medians = {name: each.median for name, each in prior.items()}
    if model.name == "mbg-nbd":  # That this customer may have gone at once says a little.
        medians = pytest.approx(medians, rel=0.2)
    else:
        medians = pytest.approx(medians, rel=1e-4)
    assert fit.parameters.as_dict() == medians


def test_a_weak_prior_is_forgotten_with_many_customers(model):
    cells = Cells.count(*simulated(model, np.full(20_000, 60.0), np.random.default_rng(2)))
    free = type(model).fit(cells).parameters
    held = type(model).fit(cells, prior=type(model).weak_prior()).parameters
    ahead = held.expected_purchases(52, *CUSTOMERS)
    np.testing.assert_allclose(ahead, free.expected_purchases(52, *CUSTOMERS), rtol=0.02)


def test_a_prior_is_the_same_in_days_and_in_weeks(model):
    kind = type(model)
    weeks = kind.fit(ONE_TIME_BUYERS, prior=kind.weak_prior()).parameters.as_dict()
    days = Cells.count(ONE_TIME_BUYERS.x, 0, 7 * ONE_TIME_BUYERS.T)
    for name, value in kind.fit(days, prior=kind.weak_prior(week=7)).parameters.as_dict().items():
        assert value == pytest.approx(weeks[name] * (7 if name in kind.times else 1), rel=1e-6)


def test_a_prior_and_the_likelihood_are_maximised_together(model):
    """The gradient of the likelihood is the pull of the prior."""
    cells = Cells.count(*simulated(model, np.full(50, 39.0), np.random.default_rng(3)))
    prior = type(model).weak_prior()
    found = type(model).fit(cells, prior=prior).parameters
    values = np.array(list(found.as_dict().values()))
    _, gradient = found.mean_log_likelihood(cells)
    median, deviation = np.array([prior[name] for name in found.as_dict()]).T
    pull = np.log(values / median) / deviation**2
    np.testing.assert_allclose(cells.customers * gradient * values, pull, atol=1e-4)


def test_a_prior_of_other_parameters_is_refused(model):
    prior = {name: LogNormal(1.0, 1.0) for name in ("r", "alpha", "p", "q")}
    with pytest.raises(ValueError, match=f"{model.title}: a prior must be of the parameters r, al"):
        type(model).fit(ONE_TIME_BUYERS, prior=prior)


def test_what_cannot_be_fitted_is_refused_in_words(model):
    for prior in (None, type(model).weak_prior()):
        with pytest.raises(FitError, match=f"{model.title}: no customers"):
            type(model).fit(Cells.count([], [], []), prior=prior)
    with pytest.raises(FitError, match="none of 3 customers has a repeat purchase"):
        type(model).fit(Cells.count([0, 0, 0], [0, 0, 0], [5, 6, 7]))


def test_parameters_that_cannot_be_are_refused(model):
    for name, value in model.as_dict().items():
        for wrong in (0.0, -value, float("nan"), float("inf")):
            with pytest.raises(ValueError, match=f"{model.title}: parameter {name} is"):
                dataclasses.replace(model, **{name: wrong})
        short = {other: v for other, v in model.as_dict().items() if other != name}
        with pytest.raises(ValueError, match=f"{model.title} has the parameters"):
            model_of(model.name, short)
    for wrong in (0.0, 1.0, float("nan")):
        with pytest.raises(ValueError, match="a bound must lie between 0 and 1"):
            model.age_at_p_alive(wrong, 2, 30.0)
        with pytest.raises(ValueError, match="share is"):
            model.quantile(wrong, 1.0, 2, 30.0, 39.0)


def test_an_unknown_model_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="no model is called 'nbd'; there are bg-nbd"):
        model_of("nbd", {})


def test_a_new_model_is_one_entry(monkeypatch):
    """Fitted, published, read and used for values under its own name, and nothing else changes."""
    monkeypatch.setitem(MODELS, "toy", BgNbd)  # Taken away again after the test.

    @registered
    @dataclass(frozen=True, slots=True)
    class Toy(BgNbd):
        name: ClassVar[str] = "toy"
        title: ClassVar[str] = "Toy"

        def p_alive(self, x, t_x, T):
            return np.full(np.shape(x), 0.25)

    fitted = fit_population(
        cdnow(), until=END, time_unit="week", economics=ECONOMICS, model="toy"
    ).parameters
    assert fitted.version.startswith("toy-1997-09-30-")
    read = Parameters.model_validate_json(fitted.model_dump_json())
    assert isinstance(read.purchases, Toy)
    alive = values([row(), row(days=())], read, ECONOMICS).p_alive
    np.testing.assert_array_equal(alive, [0.25, np.nan])
