"""Candidates: fitted, judged by what is in force and by held-out weeks; and drift."""

import math
from datetime import UTC, date, datetime, time
from time import process_time

import msgspec
import numpy as np
import pytest

from models.aggregate.past import known_before
from models.aggregate.summary import Summary
from models.btyd import FitError, GammaGamma, MbgNbd, SpendCells, fit_gamma_gamma
from models.btyd.gamma_gamma import WEAK_PRIOR
from models.candidates import (
    HELD_OUT_DAYS,
    Drift,
    drift,
    fit_candidate,
    judge,
    log_scores,
    rounded,
    same,
)
from models.fitting import MOST_SPEND_CELLS, SPEND_DIGITS, _to_digits
from models.population import Population
from models.value import columns, purchase_model, value_row

from .events import milliseconds
from .populations import (
    CONFIG,
    FIRST,
    complaining,
    histories,
    of_days,
    of_states,
    synthetic,
)

SHOP = MbgNbd(r=0.8, alpha=30.0, a=0.5, b=2.5)
DAYS = 240
TODAY = FIRST + DAYS


def end_of(day):
    return datetime.combine(date.fromordinal(day), time(23, 59, 59), tzinfo=UTC)


def fit(population, in_force=None, today=TODAY):
    return fit_candidate(
        population, until=end_of(today), economics=CONFIG, in_force=in_force
    ).parameters


@pytest.fixture(scope="module")
def shop():
    return of_days(histories(SHOP, 400, DAYS))


@pytest.fixture(scope="module")
def fitted(shop):
    return fit(shop)


def with_purchases(parameters, **changes):
    model = type(parameters.purchases)(**{**parameters.purchases.as_dict(), **changes})
    return parameters.model_copy(update={"purchases": model, "version": "changed"})


def test_a_candidate_of_the_same_shop_passes(shop, fitted):
    assert judge(fitted, None, shop, TODAY).passes
    before = fit(of_days(histories(SHOP, 400, DAYS - 7)), today=TODAY - 7)
    verdict = judge(fitted, before, shop, TODAY)
    assert verdict.passes, verdict.reasons
    assert "log score of the last 28 days" in verdict.notes[0]


def test_the_verdict_on_parameters_that_are_in_force_already_is_good(shop, fitted):
    assert judge(fitted, fitted, shop, TODAY).passes


def test_what_predicts_the_held_out_weeks_worse_is_refused(fitted):
    """The shop closed for eight weeks, and opened again: its past says too little."""
    kept = [
        [day for day in days if day < DAYS - 120 or day > DAYS - HELD_OUT_DAYS]
        for days in histories(SHOP, 600, DAYS, seed=3)
    ]
    shop = of_days([days for days in kept if days])
    # As near as a factor of four allows, and never mistaken about the reopening.
    knows = with_purchases(fitted, a=0.2)
    verdict = judge(fit(shop), knows, shop, TODAY)
    assert not verdict.passes
    [reason] = verdict.reasons
    assert "worse by more than 2 standard errors" in reason


def test_a_shop_whose_rates_change_keeps_what_was_measured_of_that():
    """All change their pace in the held-out days, as both parameters know they may."""
    rng = np.random.default_rng(2)
    rate, change = rng.gamma(8, 1 / 40, 300), rng.gamma(3, 1 / 3, 300)
    pace = np.repeat(rate[:, None], DAYS + 1, axis=1)
    pace[:, DAYS - HELD_OUT_DAYS + 1 :] *= change[:, None]
    bought = rng.random(pace.shape) < pace
    bought[:, 0] = True
    shop = of_days([np.flatnonzero(days).tolist() for days in bought])
    fitted = fit(shop)
    known = fitted.model_copy(
        update={"purchases": fitted.purchases.with_unsteadiness(0.3), "version": "known"}
    )
    assert judge(known, known, shop, TODAY).passes
    refused = judge(known.model_copy(update={"purchases": fitted.purchases}), known, shop, TODAY)
    assert "worse by more than 2 standard errors" in refused.reasons[0]


def test_an_implausible_frequency_is_refused(shop, fitted):
    verdict = judge(with_purchases(fitted, alpha=fitted.purchases.alpha / 20), fitted, shop, TODAY)
    assert any("a new customer is expected to buy" in each for each in verdict.reasons)
    assert fitted.version in verdict.reasons[0]


def test_an_implausible_order_value_is_refused(shop, fitted):
    rich = fitted.model_copy(update={"order_value": GammaGamma(p=4.0, q=3.0, v=1_000.0)})
    verdict = judge(rich, fitted, shop, TODAY)
    assert any("a purchase is worth 2,000.00 USD in the mean" in each for each in verdict.reasons)


def test_a_candidate_without_order_value_is_refused_where_there_was_one(shop, fitted):
    verdict = judge(fitted.model_copy(update={"order_value": None}), fitted, shop, TODAY)
    assert ["could not be fitted" in each for each in verdict.reasons] == [True]
    assert judge(fitted, fitted.model_copy(update={"order_value": None}), shop, TODAY).passes


class NoNumbers(MbgNbd):
    """A model that computes no number where it should."""

    def p_alive(self, x, t_x, T):
        return np.full(np.shape(x), math.nan)


class TooSure(MbgNbd):
    def p_alive(self, x, t_x, T):
        return np.full(np.shape(x), 1.5)


class Endless(MbgNbd):
    def expected_purchases_of_new_customer(self, t):
        return np.float64(math.inf)


@pytest.mark.parametrize(
    ("model", "reason"),
    [(NoNumbers, "is no number"), (TooSure, "is not between 0 and 1"), (Endless, "buy inf times")],
)
def test_what_is_not_finite_or_no_probability_is_refused_at_once(shop, fitted, model, reason):
    broken = fitted.model_copy(update={"purchases": model(**fitted.purchases.as_dict())})
    for in_force in (None, fitted):
        verdict = judge(broken, in_force, shop, TODAY)
        assert [reason in each for each in verdict.reasons] == [True]


def test_a_young_shop_has_no_held_out_weeks():
    young = of_days([[0, 5], [3], [9, 11]])
    today = FIRST + 12
    verdict = judge(fit(young, today=today), fit(young, today=today), young, today)
    assert verdict.passes
    assert "hardly anybody had bought" in verdict.notes[0]


@pytest.fixture(scope="module")
def complainers():
    states = complaining(6.0, 1_500, DAYS)
    shop = of_states(states)
    return states, shop, fit(shop)


def test_drift_expects_less_of_those_who_have_complained(complainers):
    states, shop, fitted = complainers
    assert fitted.complaint_weight > 2
    rows = [
        value_row(Summary(then, CONFIG), TODAY - HELD_OUT_DAYS, CONFIG)
        for state in states
        if (then := known_before(state, milliseconds(DAYS - HELD_OUT_DAYS + 0.5))).orders
    ]
    of = columns(rows)
    each = purchase_model(of, fitted).expected_purchases(
        HELD_OUT_DAYS, of.purchase_days - 1, of.recency, of.T
    )
    found = drift(shop, fitted, TODAY)
    assert found.expected == pytest.approx(each.sum(), rel=1e-3)
    deaf = fitted.model_copy(update={"complaint_weight": 1.0})
    assert drift(shop, deaf, TODAY).expected > 1.05 * found.expected


def test_the_verdict_counts_complaints_where_the_parameters_do(complainers):
    states, shop, fitted = complainers
    verdict = judge(fitted, fitted, shop, TODAY)
    assert verdict.passes, verdict.reasons
    deaf = fit(of_states([msgspec.structs.replace(state, tickets={}) for state in states]))
    assert deaf.complaint_weight == 1.0
    better, worse = (
        float(judge(one, other, shop, TODAY).notes[0].split(": ")[1].split(" ±")[0])
        for one, other in ((fitted, deaf), (deaf, fitted))
    )
    assert better > 0 > worse


def test_no_drift_where_people_buy_as_expected(shop, fitted):
    found = drift(shop, fitted, TODAY)
    assert not found.found, found.text
    assert found.observed == pytest.approx(found.expected, rel=0.3)


def test_drift_where_people_stop_buying(fitted):
    silent = of_days(histories(SHOP, 400, DAYS, last_day=DAYS - HELD_OUT_DAYS))
    found = drift(silent, fitted, TODAY)
    assert found.found
    assert found.text.startswith("0 purchases in 28 days, and ")


@pytest.mark.parametrize(("wave", "is_drift"), [(0.0, True), (0.3, False)])
def test_a_fall_is_drift_only_where_demand_was_steady(wave, is_drift):
    """Both shops sell a third less in the last four weeks; in one it was up and down before."""
    rng = np.random.default_rng(3)
    pace = np.repeat(rng.gamma(2, 0.03, 300)[:, None], DAYS + 1, axis=1)
    for back in range(1, 8):
        window = slice(max(DAYS - 28 * (back + 1) + 1, 0), DAYS - 28 * back + 1)
        pace[:, window] *= 1 + wave * (-1) ** back
    pace[:, DAYS - HELD_OUT_DAYS + 1 :] *= 2 / 3
    bought = rng.random(pace.shape) < pace
    bought[:, 0] = True
    before = of_days([np.flatnonzero(days[: DAYS - 27]).tolist() for days in bought])
    in_force = fit(before, today=TODAY - HELD_OUT_DAYS)
    found = drift(of_days([np.flatnonzero(days).tolist() for days in bought]), in_force, TODAY)
    assert found.observed == pytest.approx(2 / 3 * found.expected, rel=0.15)
    assert found.found is is_drift


@pytest.mark.parametrize(
    ("observed", "expected", "error", "is_drift"),
    [
        (114, 100, 1, False),  # significant, and too small to matter
        (116, 100, 1, True),
        (84, 100, 1, True),
        (120, 100, 7, False),  # large, and chance
        (0, 0, 0, False),
    ],
)
def test_drift_is_large_and_significant(observed, expected, error, is_drift):
    assert Drift(observed, expected, error).found is is_drift


def test_nobody_drifts_in_an_empty_shop(fitted):
    assert not drift(Population(CONFIG), fitted, TODAY).found


def test_log_scores_are_of_a_distribution(shop, fitted):
    seen = shop.at(TODAY - HELD_OUT_DAYS)
    total = sum(
        np.exp(log_scores(fitted.purchases, 1, seen._replace(after=np.full_like(seen.after, n))))
        for n in range(HELD_OUT_DAYS + 40)
    )
    assert total == pytest.approx(1.0, abs=1e-6)


def test_a_refit_from_where_the_last_one_ended_is_the_same(shop, fitted):
    again = fit(shop, in_force=fitted)
    assert same(again, fitted)
    assert same(fitted, fitted.model_copy(update={"version": "x", "customers": 7}))
    assert not same(fitted, with_purchases(fitted, r=fitted.purchases.r * 1.001))
    assert not same(fitted, fitted.model_copy(update={"contacts_per": "time"}))
    assert not same(fitted, fitted.model_copy(update={"order_value": None}))


def test_parameters_have_six_digits_and_a_version_that_says_so(fitted):
    assert rounded(fitted) == fitted
    for value in fitted.purchases.as_dict().values():
        assert value == float(f"{value:.6g}")
    assert fitted.version.startswith(f"mbg-nbd-{date.fromordinal(TODAY)}-")


def test_ten_customers_and_one_time_buyers_get_plausible_parameters():
    for days in ([[n * 9, n * 9 + 30] for n in range(10)], [[n % DAYS] for n in range(200)]):
        shop = of_days(days)
        found = fit(shop)
        assert judge(found, None, shop, TODAY).passes
        assert judge(fit(shop, in_force=found), found, shop, TODAY).passes
        assert found.order_value is not None
        assert found.order_value.mean_order_value == pytest.approx(40, rel=0.5)


def test_nobody_has_bought_yet():
    with pytest.raises(FitError, match="no customers to fit on"):
        fit(Population(CONFIG))


def test_one_giant_does_not_decide(shop, fitted):
    """A customer of a purchase every day for 27 years, and an order of 100,000 among 40s."""
    people = histories(SHOP, 400, DAYS)
    giant = of_days([*people, list(range(-9_760, DAYS))])
    assert judge(fit(giant), fitted, giant, TODAY).passes
    dear = of_days(people, totals={7: "100000.00"})
    verdict = judge(fit(dear), fitted, dear, TODAY)
    assert verdict.passes, verdict.reasons


def test_customers_who_bought_after_the_day_are_left_out(fitted):
    people = [[0, 30], [5], [DAYS + 1]]
    assert fit(of_days(people)) == fit(of_days(people[:2]))


def test_rounded_means_move_the_estimates_by_less_than_a_thousandth():
    rng = np.random.default_rng(5)
    number = 2 * MOST_SPEND_CELLS
    x = 1.0 + rng.poisson(1.5, number)
    m = rng.gamma(14 * x, 1 / (14 * x * rng.gamma(3.1, 1 / 26.6, number)))
    exact, coarse = SpendCells.count(x, m), SpendCells.count(x, _to_digits(m, SPEND_DIGITS))
    assert len(exact.m) > MOST_SPEND_CELLS > len(coarse.m)
    one, other = (fit_gamma_gamma(each, prior=WEAK_PRIOR).parameters for each in (exact, coarse))
    for name in ("p", "q", "v"):
        assert getattr(other, name) == pytest.approx(getattr(one, name), rel=1e-3)


@pytest.mark.slow
def test_a_million_customers_are_refitted_and_judged_in_seconds(capsys):
    today = FIRST + 400
    million = synthetic(MbgNbd(r=0.5, alpha=70.0, a=0.7, b=2.5), 1_000_000, today)
    before = fit(million, today=today)
    began = process_time()
    again = fit(million, in_force=before, today=today)
    fitted_at = process_time()
    verdict = judge(again, before, million, today)
    judged_at = process_time()
    found = drift(million, before, today)
    ended = process_time()
    with capsys.disabled():
        print(
            f"\nfit {fitted_at - began:.1f} s, judged {judged_at - fitted_at:.1f} s, "
            f"drift {ended - judged_at:.1f} s of a processor; {found.text}"
        )
    assert same(again, before)
    assert verdict.passes or "worse" in verdict.reasons[0]
    assert before.purchases.r == pytest.approx(0.5, rel=0.05)
