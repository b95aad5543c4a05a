"""The weight of complaints: neutral at 1, and recovered from shops in which it is another."""

from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest

from models.aggregate.fold import Effect, fold
from models.aggregate.state import Aggregate
from models.aggregate.summary import Summary
from models.btyd import BgNbd, MbgNbd
from models.btyd.complaints import (
    EARNED,
    WEAK_PRIOR,
    Complaining,
    ComplaintCells,
    Complaints,
    _likelihood,
    fit_complaints,
)
from models.economics import Economics
from models.fitting import fit_columns
from models.value import Row, valued

from .events import opened, placed

CONFIG = Economics()

MODELS = (BgNbd(0.6, 8.0, 0.8, 3.0), MbgNbd(0.6, 8.0, 0.8, 3.0))
X = np.array([0, 1, 2, 7, 20.0])
T_X = np.array([0, 3, 30, 50, 51.0])
T = np.array([60, 4, 39, 52, 90.0])
SOME = Complaints(np.array([0, 0, 1, 3, 0.0]), np.array([1, 0, 1, 0, 1.0]))


def shop(model, weight, customers, seed):
    """Customers who complain after a third of their purchases, before they decide to stay."""
    rng = np.random.default_rng(seed)
    ages = rng.uniform(20, 80, customers)
    rate = rng.gamma(model.r, 1 / model.alpha, customers)
    dropout = rng.beta(model.a, model.b, customers)
    x, t_x, survived, last, time = (np.zeros(customers) for _ in range(5))
    alive = np.ones(customers, dtype=bool)
    first = True
    while True:
        complains = rng.random(customers) < 1 / 3
        last = np.where(alive, complains, last)
        stays = rng.random(customers) < (1 - dropout) ** np.where(complains, weight, 1.0)
        if first and model.occasions_before == 0:
            # In BG/NBD the first purchase is no occasion; nor is there a complaint about it.
            stays, last, complains = np.ones(customers, dtype=bool), last * 0, complains & False
        first = False
        alive = alive & stays
        time = time + rng.exponential(1 / rate)
        alive = alive & (time < ages)
        if not alive.any():
            return x, t_x, ages, Complaints(survived, last)
        survived = np.where(alive, survived + complains, survived)
        x, t_x = np.where(alive, x + 1, x), np.where(alive, time, t_x)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_without_weight_it_is_the_model_itself(model):
    same = Complaining.of(model, 1.0, SOME)
    for name, more in (
        ("p_alive", ()), ("log_likelihood", ()), ("expected_purchases", (52.0,)),
        ("probability_of_at_least", (2, 52.0)), ("expected_time_alive", ()),
    ):  # fmt: skip
        mine, its = (getattr(each, name)(*more, X, T_X, T) for each in (same, model))
        np.testing.assert_allclose(mine, its, rtol=1e-9, err_msg=name)
    for mine, its in zip(
        same.purchase_counts(52.0, X, T_X, T), model.purchase_counts(52.0, X, T_X, T), strict=True
    ):
        np.testing.assert_allclose(mine, its, rtol=1e-9)


def test_a_complaint_that_was_survived_speaks_for_a_customer_and_a_last_one_against():
    """By hand: odds of death (B(a, b+K-w)/B(a, b+K) - 1) ((α+T)/(α+t_x))^(r+x)."""
    model = MbgNbd(0.6, 8.0, 1.0, 3.0)
    calm = Complaining.of(model, 4.0, Complaints(np.zeros(1), np.zeros(1)))
    angry = Complaining.of(model, 4.0, Complaints(np.zeros(1), np.ones(1)))
    forgiving = Complaining.of(model, 4.0, Complaints(np.ones(1), np.zeros(1)))
    seen = np.array([1.0]), np.array([10.0]), np.array([30.0])
    alive = [float(each.p_alive(*seen)[0]) for each in (calm, angry, forgiving)]
    assert alive[1] < alive[0] < alive[2]
    # With a = 1 is B(1, y) = 1/y: calm K = 2, y = 5 after y = 4; angry K = 1 + 4, y = 8 after 4.
    silence = (38 / 18) ** 1.6
    assert alive[0] == pytest.approx(1 / (1 + (5 / 4 - 1) * silence), rel=1e-12)
    assert alive[1] == pytest.approx(1 / (1 + (8 / 4 - 1) * silence), rel=1e-12)
    assert alive[2] == pytest.approx(1 / (1 + (8 / 7 - 1) * silence), rel=1e-12)


@pytest.mark.parametrize("occasions", [0, 1])
def test_the_gradient_is_that_of_the_likelihood(occasions):
    values = np.array([0.6, 8.0, 0.8, 3.0, 2.5])
    survived = np.minimum(SOME.survived, np.maximum(X + occasions - 1, 0))
    last = np.where(X + occasions > 0, SOME.last, 0)
    cells = ComplaintCells(X, T_X, T, survived, last, np.ones(5))
    likelihood, gradient = _likelihood(values, cells, occasions)
    for number in range(5):
        ends = []
        for step in (-1e-6, 1e-6):
            moved = values.copy()
            moved[number] += step
            ends.append(_likelihood(moved, cells, occasions)[0])
        np.testing.assert_allclose(
            gradient[number], (ends[1] - ends[0]) / 2e-6, rtol=2e-5, atol=1e-7
        )
    model = (BgNbd, MbgNbd)[occasions](*values[:4].tolist())
    bound = Complaining.of(model, 2.5, Complaints(survived, last))
    np.testing.assert_allclose(likelihood, bound.log_likelihood(X, T_X, T), rtol=1e-10)


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_the_weight_is_recovered_from_a_simulated_shop(model, weight):
    x, t_x, ages, complaints = shop(model, weight, 20_000, seed=5)
    cells = ComplaintCells.of(x, t_x, ages, complaints)
    fit, found = fit_complaints(model, cells)
    assert found == pytest.approx(weight, rel=0.2)
    expected = [float(each.expected_purchases(52.0, 0, 0, 0)) for each in (fit.parameters, model)]
    assert expected[0] == pytest.approx(expected[1], rel=0.05)
    without = ComplaintCells.of(x, t_x, ages, Complaints(0 * x, 0 * x))
    gain = fit.log_likelihood - fit_complaints(model, without)[0].log_likelihood
    assert (gain > EARNED) == (weight > 1)


def test_a_prior_says_that_complaints_need_not_matter():
    model = MODELS[1]
    x, t_x, ages, complaints = shop(model, 3.0, 30, seed=2)
    prior = {**MbgNbd.weak_prior(), "weight": WEAK_PRIOR}
    _, found = fit_complaints(model, ComplaintCells.of(x, t_x, ages, complaints), prior)
    assert 0.2 < found < 10


def columns_of_shop(weight, customers=20_000):
    model = MbgNbd(0.6, 56.0, 0.8, 3.0)
    x, t_x, ages, complaints = shop(replace(model, alpha=8.0), weight, customers, seed=9)
    zero = np.zeros(customers)
    of = dict.fromkeys(Row._fields, zero) | {
        "orders": x + 1, "purchase_days": x + 1, "kept_days": x + 1, "recency": 7 * t_x,
        "T": 7 * ages, "kept_gross": 40 * (x + 1), "margin": 12 * (x + 1),
        "complained": complaints.survived, "complained_last": complaints.last,
    }  # fmt: skip
    return Row(**of)


@pytest.mark.parametrize("weight", [1.0, 3.0])
def test_a_fit_has_complaints_count_where_they_do_and_says_so(weight):
    of = columns_of_shop(weight)
    until = datetime(2026, 1, 1, tzinfo=UTC)
    fitted = fit_columns(of, until=until, time_unit="day", economics=Economics())
    told = [note for note in fitted.notes if note.startswith("complaints")]
    if weight == 1.0:
        assert fitted.parameters.complaint_weight == 1.0
        assert "do not count" in told[0]
        return
    assert fitted.parameters.complaint_weight == pytest.approx(weight, rel=0.25)
    assert "complaints count" in told[0]
    # Among those who look the same otherwise, one whom a complaint has followed is worth less.
    scored = valued(of, fitted.parameters, Economics())
    once = of.purchase_days == 1
    angry = once & (of.complained_last == 1)
    calm = once & (of.complained_last == 0)
    assert scored.p_alive[angry].mean() < scored.p_alive[calm].mean() - 0.1
    assert scored.expected[angry].mean() < scored.expected[calm].mean()


def test_what_a_complaint_follows_is_read_from_the_state():
    """Purchases on the days 0, 10, 20, 30; complaints before, on and after some of them."""

    def complained(*days, orders=(0, 10, 20, 30)):
        state = Aggregate()
        for number, day in enumerate(orders):
            fold(state, placed(f"o{number}", day), CONFIG)
        for number, day in enumerate(days):
            fold(state, opened(f"t{number}", day, complaint=True), CONFIG)
        fold(state, opened("question", 12), CONFIG)
        return Summary(state, CONFIG).complained

    assert complained() == (0, 0, 0)
    assert complained(10, 11, 25) == (2, 0, 0)
    assert complained(5, 30) == (1, 1, 1)
    assert complained(99) == (0, 0, 1)
    assert complained(-1) == (0, 0, 0)
    assert complained(3, orders=(0,)) == (0, 0, 1)
    assert complained(3, orders=()) == (0, 0, 0)


def test_a_later_purchase_after_a_complaint_is_counted_event_by_event():
    state = Aggregate()
    summary = Summary(state, CONFIG)
    for event in (placed("a", 0), opened("t", 1, complaint=True), placed("b", 2)):
        effect = fold(state, event, CONFIG)
        latest = effect is Effect.APPENDED and next(reversed(state.orders.values()))
        if not latest or not summary.add_order(latest, CONFIG):
            summary = Summary(state, CONFIG)
        assert summary.complained == Summary(state, CONFIG).complained
    assert summary.complained == (1, 1, 0)
