"""Fitting a population: published estimates, honest gaps, and names that follow from content."""

import csv
import gzip
import random
from collections import defaultdict
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from models.aggregate.state import Aggregate
from models.aggregate.summary import Summary
from models.btyd import BgNbd, FitError, MbgNbd
from models.currencies import HOME
from models.economics import MONEY_SCALE, Economics
from models.events.orders import Order
from models.events.tickets import Opened, Ticket
from models.fitting import (
    fit_population,
)
from models.value import columns, value_row, values

CDNOW = Path(__file__).parents[2] / "examples" / "data" / "cdnow_orders.csv.gz"
END = datetime(1997, 9, 30, 23, 59, tzinfo=UTC)
ECONOMICS = Economics()


def fit_parameters(*given, **options):
    return fit_population(*given, **options).parameters


@cache
def cdnow_orders() -> dict[str, list[tuple[date, float, bool]]]:
    orders: dict[str, list[tuple[date, float, bool]]] = defaultdict(list)
    with gzip.open(CDNOW, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            day = date.fromisoformat(row["date"])
            orders[row["customer_id"]].append((day, float(row["amount"]), row["in_sample"] == "1"))
    return orders


def summary_of(orders: list[tuple[date, float]]) -> Summary:
    """A customer of these orders."""
    state = Aggregate()
    for number, (day, amount) in enumerate(sorted(orders)):
        time = round(datetime(day.year, day.month, day.day, 12, tzinfo=UTC).timestamp() * 1000)
        units = round(amount * MONEY_SCALE)
        state.orders[number] = Order(0, time, 0, units, HOME, -1)
    return Summary(state, ECONOMICS)


def cdnow(until: datetime = END, *, sample: bool = True) -> list[Summary]:
    last = until.date()
    return [
        summary_of([(day, amount) for day, amount, _ in orders if day <= last])
        for orders in cdnow_orders().values()
        if orders[0][2] or not sample
    ]


@pytest.mark.heavy
def test_cdnow_gives_the_published_estimates():
    """BG/NBD: Fader, Hardie & Lee (2005), table 2."""
    fitted = fit_parameters(
        cdnow(), until=END, time_unit="week", economics=ECONOMICS, model="bg-nbd", prior=False
    )
    assert fitted.customers == 2_357
    assert fitted.log_likelihood == pytest.approx(-9582.429, abs=0.001)
    assert fitted.purchases.r == pytest.approx(0.2425945, abs=1e-4)
    assert fitted.purchases.alpha == pytest.approx(4.4136019, abs=1e-3)
    assert fitted.purchases.a == pytest.approx(0.7929199, abs=1e-3)
    assert fitted.purchases.b == pytest.approx(2.4258881, abs=1e-3)


@pytest.mark.heavy
def test_all_of_cdnow_is_fitted_at_a_maximum_of_its_likelihood():
    everybody = cdnow(sample=False)
    fitted = fit_parameters(
        everybody, until=END, time_unit="week", economics=ECONOMICS, model="bg-nbd", prior=False
    )
    assert fitted.customers == 23_570
    today = END.date().toordinal()
    x = np.array([each.frequency for each in everybody], dtype=float)
    t_x = np.array([each.last_day - each.first_day for each in everybody]) / 7
    T = np.array([today - each.first_day for each in everybody]) / 7
    best = fitted.purchases.as_dict()
    assert BgNbd(**best).log_likelihood(x, t_x, T).sum() == pytest.approx(fitted.log_likelihood)
    for name in best:
        for factor in (0.98, 1.02):
            moved = BgNbd(**{**best, name: best[name] * factor})
            assert moved.log_likelihood(x, t_x, T).sum() < fitted.log_likelihood


@pytest.mark.heavy
def test_days_and_weeks_are_one_fit_in_two_units():
    population = cdnow()
    days = fit_parameters(population, until=END, time_unit="day", economics=ECONOMICS)
    weeks = fit_parameters(population, until=END, time_unit="week", economics=ECONOMICS)
    assert days.purchases.r == pytest.approx(weeks.purchases.r, rel=1e-3)
    assert days.purchases.alpha == pytest.approx(7 * weeks.purchases.alpha, rel=1e-3)
    assert days.tiers is not None
    assert weeks.tiers is not None
    assert days.tiers.gold == pytest.approx(weeks.tiers.gold, rel=1e-3)


def test_a_few_customers_move_the_prior_and_many_outweigh_it():
    """Ten, all of whom bought once: finite, plausible, and less loyal than was assumed."""
    few = [summary_of([(date(1997, 1, 1 + day), 10.0)]) for day in range(10)]
    fitted = fit_parameters(few, until=END, time_unit="week", economics=ECONOMICS)
    assert fitted.customers == 10
    year = [52.0, 0, 0, 39]
    before = float(MbgNbd(r=0.5, alpha=10.0, a=0.7, b=2.5).expected_purchases(*year))
    assert 0 < float(fitted.purchases.expected_purchases(*year)) < 0.9 * before
    assert fitted.order_value.mean_order_value == pytest.approx(10, rel=0.5)
    weak, none = (
        fit_parameters(cdnow(), until=END, time_unit="week", economics=ECONOMICS, prior=prior)
        for prior in (True, False)
    )
    assert weak.log_likelihood < none.log_likelihood < weak.log_likelihood + 0.5
    expected = [each.purchases.expected_purchases(52.0, 2, 30, 39) for each in (weak, none)]
    assert float(expected[0]) == pytest.approx(float(expected[1]), rel=0.01)


def test_nobody_who_bought_cannot_be_fitted():
    ticket = Ticket(opened=Opened(0, 0, 0, False, 0))
    with pytest.raises(FitError, match="no customers to fit on"):
        fit_population(
            [Summary(Aggregate(tickets={1: ticket}), ECONOMICS)],
            until=END, time_unit="day", economics=ECONOMICS,
        )  # fmt: skip


def test_an_order_after_the_end_is_an_error_of_the_caller():
    population = cdnow(datetime(1997, 12, 31, tzinfo=UTC))
    with pytest.raises(ValueError, match="after `until`"):
        fit_population(population, until=END, time_unit="day", economics=ECONOMICS)


def test_an_end_without_an_offset_is_refused():
    with pytest.raises(ValueError, match="offset"):
        fit_population(
            cdnow(), until=END.replace(tzinfo=None), time_unit="day", economics=ECONOMICS
        )


def test_what_cannot_be_fitted_is_none_and_said():
    free = [
        summary_of([(day, 0.0) for day, _, _ in orders if day <= END.date()])
        for orders in cdnow_orders().values()
        if orders[0][2]
    ]
    fitted = fit_population(free, until=END, time_unit="day", economics=ECONOMICS)
    assert fitted.parameters.order_value is None
    assert fitted.parameters.contacts is None
    assert any("Gamma-Gamma is not fitted: nobody has paid" in note for note in fitted.notes)
    assert any("no customer has contacted support" in note for note in fitted.notes)


def test_contacts_are_fitted_by_what_brings_them():
    """Drawn by the time alive, or by purchase: the likelihood tells which, and finds the rate."""
    shape, rate = 0.5, 200.0
    generator = np.random.default_rng(7)
    population = cdnow(sample=False)[:8_000]
    today = END.date().toordinal()
    model = fit_parameters(population, until=END, time_unit="day", economics=ECONOMICS).purchases
    of = columns([value_row(each, today, ECONOMICS) for each in population])
    alive = model.expected_time_alive(of.purchase_days - 1, of.recency, of.T)
    for per, exposure, scale in (("time", alive, 1.0), ("purchase", of.purchase_days, 0.01)):
        mean = exposure * generator.gamma(shape, 1 / (rate * scale), exposure.shape)
        for each, drawn in zip(population, generator.poisson(mean).tolist(), strict=True):
            each.contacts = drawn
        fitted = fit_parameters(population, until=END, time_unit="day", economics=ECONOMICS)
        assert fitted.contacts_per == per
        assert fitted.contacts is not None
        assert fitted.contacts.shape == pytest.approx(shape, rel=0.1)
        ratio = fitted.contacts.shape / fitted.contacts.rate
        assert ratio == pytest.approx(shape / (rate * scale), rel=0.05)


def test_refunds_and_margin_are_those_of_the_shop_whatever_one_giant_does():
    """Each order of 5 % less, with a cost of 60 %; a giant who sold at a loss and sent it back."""
    population = cdnow()
    for each in population:
        each.cost, each.uncosted = each.gross * 6 // 10, 0
        each.refunds, each.refunded = 1, each.gross // 20
    fitted = fit_parameters(population, until=END, time_unit="day", economics=ECONOMICS)
    assert fitted.refund_rate == pytest.approx(0.05, abs=1e-5)
    assert fitted.margin_share == pytest.approx(0.4, abs=1e-5)
    giant = summary_of([(date(1997, 1, 1), 1e6), (date(1997, 2, 1), 1e6)])
    giant.cost, giant.uncosted = 2 * giant.gross, 0
    giant.refunds, giant.refunded = 1, 3 * giant.gross
    shaken = fit_parameters([*population, giant], until=END, time_unit="day", economics=ECONOMICS)
    assert shaken.refund_rate == pytest.approx(0.05, abs=0.01)
    assert shaken.margin_share == pytest.approx(0.4, abs=0.02)


def test_tiers_part_the_population_as_they_say():
    population = cdnow()
    ticket = Ticket(opened=Opened(0, 0, 0, False, 0))
    population.append(Summary(Aggregate(tickets={1: ticket}), ECONOMICS))
    fitted = fit_parameters(population, until=END, time_unit="day", economics=ECONOMICS)
    today = END.date().toordinal()
    rows = [value_row(each, today, ECONOMICS) for each in population if each.orders]
    worth = values(rows, fitted, ECONOMICS).clv
    assert fitted.tiers is not None
    assert np.mean(worth >= fitted.tiers.gold) == pytest.approx(0.1, abs=0.001)
    assert np.mean(worth >= fitted.tiers.silver) == pytest.approx(0.4, abs=0.005)


@pytest.mark.heavy
def test_the_version_follows_from_the_population_and_not_from_its_order():
    population = cdnow()
    shuffled = random.Random(3).sample(population, len(population))
    first = fit_parameters(population, until=END, time_unit="day", economics=ECONOMICS)
    again = fit_parameters(shuffled, until=END, time_unit="day", economics=ECONOMICS)
    other = fit_parameters(population[1:], until=END, time_unit="day", economics=ECONOMICS)
    assert first == again
    assert first.version.startswith("mbg-nbd-1997-09-30-")
    assert other.version != first.version


def test_a_version_can_be_given():
    fitted = fit_parameters(
        cdnow(), until=END, time_unit="day", economics=ECONOMICS, version="spring"
    )
    assert fitted.version == "spring"
