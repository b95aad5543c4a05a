"""Shops that no model was made for: each gets parameters, or a clear answer why not."""

import json

import numpy as np
import pytest
from pydantic import ValidationError

from models.btyd import MbgNbd
from models.candidates import drift, fit_candidate, judge
from models.contracts.parameters import Parameters
from models.value import valued

from .parameters import PARAMETERS
from .populations import CONFIG, FIRST, histories, of_days
from .test_candidates import end_of

SHOP = MbgNbd(r=0.8, alpha=30.0, a=0.5, b=2.5)
DAYS = 240

SHOPS = {
    "ten customers": [[n * 9, n * 9 + 30] for n in range(10)],
    "all one-time buyers": [[n % DAYS] for n in range(200)],
    "one customer": [[3]],
    "one customer of 10,000 orders": [list(range(DAYS - 10_000, DAYS))],
    "all on one day": [[DAYS]] * 50,
    "a customer of 10,000 orders among others": [
        *histories(SHOP, 200, DAYS), list(range(DAYS - 10_000, DAYS)),
    ],
}  # fmt: skip


@pytest.mark.parametrize("name", SHOPS)
def test_every_shop_gets_parameters_and_values(name):
    shop, today = of_days(SHOPS[name]), FIRST + DAYS
    fitted = fit_candidate(shop, until=end_of(today), economics=CONFIG)
    parameters = fitted.parameters
    few = f"{parameters.customers} customers are few: what is assumed of any shop decides with them"
    assert any(few in note for note in fitted.notes)
    assert judge(parameters, None, shop, today).passes
    worth = valued(shop.columns(today), parameters, CONFIG)
    for column in (worth.clv, worth.expected, worth.p_alive, worth.expected_purchases):
        assert np.isfinite(column).all()
    assert (worth.expected_low <= worth.expected_high).all()
    assert (worth.expected_purchases <= CONFIG.horizon_days).all()
    if name == "one customer of 10,000 orders":
        assert worth.expected_purchases[0] > 300
    if name == "all one-time buyers":
        assert worth.expected_purchases.max() < 1


def test_after_a_year_of_silence_customers_are_gone_and_the_fitter_notices():
    people = histories(SHOP, 300, DAYS)
    shop, before, later = of_days(people), FIRST + DAYS, FIRST + DAYS + 365
    old = fit_candidate(shop, until=end_of(before), economics=CONFIG).parameters
    soon = FIRST + DAYS + 60
    assert drift(shop, old, soon).found
    new = fit_candidate(shop, until=end_of(later), economics=CONFIG, in_force=old).parameters
    verdict = judge(new, old, shop, later)
    assert verdict.passes, verdict.reasons
    then, now = (
        valued(shop.columns(day), parameters, CONFIG).expected_purchases.sum()
        for day, parameters in ((before, old), (later, new))
    )
    assert now < 0.2 * then


def test_an_order_of_100_000_among_40s_is_the_worth_of_one_customer():
    people, today = histories(SHOP, 400, DAYS), FIRST + DAYS
    usual, dear = of_days(people), of_days(people, totals={7: "100000.00"})
    values = []
    for shop in (usual, dear):
        fitted = fit_candidate(shop, until=end_of(today), economics=CONFIG).parameters
        values.append(valued(shop.columns(today), fitted, CONFIG).purchase_value)
    others = np.arange(len(people)) != 7
    plain, beside = (each[others] for each in values)
    assert beside == pytest.approx(plain, rel=0.5)
    assert values[1][7] > 100 * values[0][7]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"model": "cnbd"}, "no model is called 'cnbd'; there are "),
        ({"purchases": {"r": 0.5}}, "has the parameters a, alpha, b, r, not r"),
        ({"purchases": {"r": -0.5, "alpha": 4, "a": 1, "b": 2}}, "r is -0.5; it must be finite"),
        ({"purchases": {"r": 0.5, "alpha": 4, "a": 0, "b": 2}}, "a is 0.0; it must be finite"),
        ({"purchases": {"r": "much", "alpha": 4, "a": 1, "b": 2}}, "could not convert"),
        (
            {"purchases": {"r": 0.5, "alpha": 4, "a": 1, "b": 2, "unsteadiness": -1}},
            "unsteadiness is -1.0; it must be finite and >= 0",
        ),
        ({"purchases": [1, 2]}, "an object with the model's parameters by name is needed"),
        ({"order_value": {"p": 6, "q": 0.9, "v": 15}}, "exists only for q > 1"),
        ({"refund_rate": 1.5}, "less than or equal to 1"),
        ({"complaint_weight": 0}, "greater than 0"),
        ({"fitted_until": "2026-01-01T00:00:00"}, "timezone"),
        ({"customers": -1}, "greater than or equal to 0"),
        ({"surprise": 1}, "Extra inputs are not permitted"),
    ],
)
def test_bad_parameters_say_what_is_wrong(changes, reason):
    document = {**json.loads(PARAMETERS.model_dump_json()), **changes}
    with pytest.raises(ValidationError) as refused:
        Parameters.model_validate(document)
    assert reason in str(refused.value)
