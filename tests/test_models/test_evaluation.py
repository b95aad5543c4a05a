"""The measures of an evaluation, by hand on tiny examples, and over every model of purchases."""

import numpy as np
import pytest

from models.btyd import MODELS, BgNbd, PurchaseModel
from models.contracts.parameters import Parameters
from models.economics import Economics
from models.evaluation import (
    Forecast,
    Holdout,
    Known,
    Outcomes,
    Rival,
    SplitReport,
    evaluate_split,
    forecast,
    summarise,
)
from models.evaluation.counting import (
    Placed,
    log_probability,
    nominal_coverage,
    pit_shares,
    placed,
    tails,
)
from models.evaluation.groups import FREQUENCIES, Group, by_group
from models.evaluation.predictions import expected_until, week_ends
from models.evaluation.ranking import auc, concentration, gini, lift
from models.evaluation.split import Actual, Comparison
from models.value import Row

from .parameters import PARAMETERS

OF = (
    np.array([0.0, 0.0, 2.0, 12.0]),
    np.array([0.0, 0.0, 60.0, 200.0]),
    np.array([7.0, 260.0, 90.0, 210.0]),
)
"""Frequency, recency and T in days of a new customer, a silent one, and two who came back."""


@pytest.fixture(params=MODELS)
def model(request: pytest.FixtureRequest) -> PurchaseModel:
    return MODELS[request.param].first_guess(0.02)


def of(*values: float) -> np.ndarray:
    return np.array(values, dtype=np.float64)


class TestGini:
    def test_the_order_of_the_outcomes_gives_one_and_its_reverse_minus_one(self):
        outcome = of(0, 0, 0, 4)
        assert gini(outcome, outcome) == pytest.approx(1)
        assert gini(of(3, 2, 1, 0), outcome) == pytest.approx(-1)

    def test_equal_predictions_give_nothing_in_any_order_of_the_customers(self):
        assert gini(of(1, 1, 1), of(5, 0, 1)) == pytest.approx(0)
        assert gini(of(1, 1, 1), of(0, 1, 5)) == pytest.approx(0)

    def test_an_example_with_ties(self):
        # Curves through (1/4, 1/2), (3/4, 3/4) and (1/4, 1/2), (3/4, 1): .1875 and .375.
        assert gini(of(2, 1, 1, 0), of(2, 1, 0, 1)) == pytest.approx(0.1875 / 0.375)

    def test_only_the_order_of_the_predictions_matters(self):
        outcome = of(1, 7, 0, 3, 2)
        assert gini(of(1, 2, 3, 4, 5), outcome) == gini(of(1, 10, 11, 12, 99), outcome)

    def test_there_is_none_without_spend_or_differences(self):
        assert np.isnan(gini(of(1, 2), of(0, 0)))
        assert np.isnan(gini(of(1, 2), of(3, 3)))


def test_the_curve_of_concentration_shares_ties_evenly():
    share, gained = concentration(of(5, 1, 1, 1), of(2, 6, 0, 0))
    assert share.tolist() == [0, 0.25, 1]
    assert gained.tolist() == [0, 0.25, 1]


def test_lift_is_the_share_of_each_tenth_best_first():
    outcome = np.arange(20.0)
    expected = [(outcome[-2 * n - 1] + outcome[-2 * n - 2]) / 190 for n in range(10)]
    assert lift(outcome, outcome) == pytest.approx(expected)
    assert lift(np.ones(7), np.arange(7.0)) == pytest.approx([0.1] * 10)


class TestAuc:
    def test_ties_count_one_half(self):
        happened = np.array([True, True, False, False])
        # Of the four pairs three are in order, and one is a tie.
        assert auc(of(0.9, 0.5, 0.5, 0.1), happened) == pytest.approx(3.5 / 4)

    def test_all_in_order_and_none(self):
        happened = np.array([True, False, False])
        assert auc(of(3, 2, 1), happened) == 1
        assert auc(of(1, 2, 3), happened) == 0
        assert auc(of(2, 2, 2), happened) == 0.5

    def test_there_is_none_if_it_happened_to_all_or_nobody(self):
        assert np.isnan(auc(of(1, 2), np.array([True, True])))
        assert np.isnan(auc(of(1, 2), np.array([False, False])))


class TestPit:
    def test_an_outcome_counts_with_the_part_that_lies_in_the_interval(self):
        where = Placed(of(0.0, 0.5, 0.0, 0.95), of(0.5, 1.0, 0.2, 0.99))
        # 4/5 of the first and of the second, half of the third, nothing of the last.
        assert pit_shares(where, of(0.1, 0.9)) == pytest.approx([(0.8 + 0.8 + 0.5 + 0) / 4])

    def test_all_shares_add_up_to_one(self, model):
        shares = pit_shares(placed(model, of(0, 1, 0, 3), 90, OF), np.linspace(0, 1, 11))
        assert shares.sum() == pytest.approx(1)

    def test_every_share_is_a_tenth_if_outcomes_come_as_predicted(self, model):
        customer = [each[2:3] for each in OF]
        numbers = np.arange(80.0)
        many = [np.repeat(each, len(numbers)) for each in customer]
        where = placed(model, numbers, 90, (many[0], many[1], many[2]))
        weight = where.up_to - where.below
        each = [
            pit_shares(Placed(of(below), of(up_to)), np.linspace(0, 1, 11))
            for below, up_to in zip(*where, strict=True)
        ]
        assert weight @ each == pytest.approx([0.1] * 10, abs=1e-6)


class TestLogScore:
    def test_the_probabilities_of_all_numbers_add_up_to_one(self, model):
        total = sum(np.exp(log_probability(model, np.full(4, n), 90, OF)) for n in range(120))
        assert total == pytest.approx(np.ones(4), abs=1e-6)

    def test_none_at_all_has_the_probability_that_is_left(self, model):
        none = np.exp(log_probability(model, np.zeros(4), 90, OF))
        assert none == pytest.approx(1 - model.probability_of_at_least(1, 90, *OF))

    def test_far_numbers_are_less_and_less_likely_and_never_impossible(self, model):
        found = [log_probability(model, np.full(4, n), 90, OF) for n in (20, 40, 80, 4_000)]
        assert np.isfinite(found).all()
        assert (np.diff(found[:3], axis=0) < 0).all()

    def test_equal_customers_are_computed_once_and_all_get_their_own(self, model):
        twice = tuple(np.concatenate((each, each[::-1])) for each in OF)
        numbers = of(0, 1, 2, 3, 3, 2, 1, 0)
        at_least, more = tails(model, numbers, 90, (twice[0], twice[1], twice[2]))
        assert at_least == pytest.approx(model.probability_of_at_least(numbers, 90, *twice))
        assert more == pytest.approx(model.probability_of_at_least(numbers + 1, 90, *twice))


def test_the_coverage_that_a_model_states_is_the_sum_of_its_probabilities(model):
    stated = nominal_coverage(model, of(0, 0, 1, 2), of(0, 1, 4, 9), 90, OF)
    for place, (low, high) in enumerate(((0, 0), (0, 1), (1, 4), (2, 9))):
        total = sum(
            np.exp(log_probability(model, np.full(4, n), 90, OF))[place]
            for n in range(low, high + 1)
        )
        assert stated[place] == pytest.approx(total)


def test_groups_are_means_a_head_and_leave_out_what_nobody_is_in():
    found = by_group(of(0, 0, 5, 6, 9), FREQUENCIES, of(1, 2, 3, 4, 5), of(0, 1, 0, 8, 2))
    assert found == (
        Group("0", 2, 1.5, 0.5),
        Group("4-6", 2, 3.5, 4.0),
        Group("7+", 1, 5.0, 2.0),
    )


def test_the_last_week_of_a_holdout_may_be_shorter():
    assert week_ends(14) == [7, 14]
    assert week_ends(16) == [7, 14, 16]
    assert week_ends(5) == [5]


def test_what_all_expect_together_is_the_sum_of_what_each_expects(model):
    total = expected_until(model, [7, 90], OF)
    assert total == pytest.approx([model.expected_purchases(end, *OF).sum() for end in (7, 90)])


NOTHING = np.zeros(4)
KNOWN = Row(*(NOTHING for _ in Row._fields))._replace(
    orders=of(1, 1, 2, 6),
    purchase_days=of(1, 1, 2, 6),
    kept_days=of(1, 1, 2, 6),
    recency=of(0, 0, 40, 90),
    T=np.full(4, 100.0),
    since_last_order=of(100, 100, 60, 10),
    kept_gross=of(10, 30, 50, 240),
)
"""Four customers of 100 days, of whom the last two buy again."""


def reported(known: Row, parameters: Parameters) -> SplitReport:
    """Our predictions for these customers, and an oracle's, held against what they do."""
    outcomes = Outcomes(of(0, 0, 1, 4), of(0, 0, 25, 95), of(np.inf, np.inf, 80, 9), np.ones(95))
    return evaluate_split(
        Holdout(730_000, 730_095),
        Known(known, of(10, 30, 50, 240), NOTHING),
        parameters,
        Economics(),
        outcomes=outcomes,
        rivals={
            "oracle": Rival(outcomes.purchases, outcomes.revenue),
            "twice": Rival(2 * outcomes.purchases, 3 * outcomes.revenue),
        },
    )


@pytest.fixture(scope="module")
def report() -> SplitReport:
    return reported(KNOWN, PARAMETERS)


def test_complaints_count_for_each_customer_as_they_do_in_the_value(report):
    complaining = KNOWN._replace(complained=of(0, 0, 0, 2), complained_last=of(0, 0, 1, 1))
    weighted = PARAMETERS.model_copy(update={"complaint_weight": 4.0})
    found = reported(complaining, weighted)
    without = reported(KNOWN, weighted).comparisons[0]
    assert without.purchases == pytest.approx(report.comparisons[0].purchases)
    ours = found.comparisons[0]
    assert ours.purchases < report.comparisons[0].purchases
    assert found.weeks[-1].expected == pytest.approx(ours.purchases)
    assert found.log_scores[0].nats != report.log_scores[0].nats
    assert sum(found.pit) == pytest.approx(1)


class TestSplit:
    def test_who_knows_the_outcomes_is_right_in_everything(self, report):
        oracle = report.comparisons[1]
        assert oracle == Comparison(
            "oracle", purchases=5, purchases_error=0, one_time=0, spend=120, spend_error=0,
            value_error=0, spend_mae=0, gini=1,
        )  # fmt: skip
        assert report.actual == Actual(purchases=5, one_time=0, spend=120)

    def test_errors_are_expected_over_actual_less_one(self, report):
        twice = report.comparisons[2]
        assert (twice.purchases_error, twice.spend_error) == (1, 2)
        # Each purchase is expected to bring one and a half times what it does.
        assert twice.value_error == pytest.approx(0.5)
        assert twice.spend_mae == pytest.approx(2 * 120 / 4)
        assert twice.gini == pytest.approx(1)

    def test_the_average_formula_is_value_times_rate_times_days(self, report):
        average = report.comparisons[3]
        assert average.spend == pytest.approx((10 + 30 + 50 + 240) / 101 * 95)

    def test_buying_again_is_asked_for_a_quarter_and_for_all_of_a_shorter_holdout(self, report):
        assert [(each.days, each.bought) for each in report.auc] == [(90, 2), (95, 2)]
        assert report.auc[0].p_purchase == 1

    def test_ours_is_the_revenue_that_the_value_is_made_of(self, report):
        ours = report.comparisons[0]
        assert ours.name == PARAMETERS.model
        model, seen = PARAMETERS.purchases, (of(0, 0, 1, 5), of(0, 0, 40, 90) / 7, 100 / 7)
        purchases = model.expected_purchases(95 / 7, *seen)
        value = PARAMETERS.order_value.expected_order_value(of(1, 1, 2, 6), of(10, 30, 25, 40))
        assert ours.purchases == pytest.approx(purchases.sum())
        # Nobody has had a refund yet, so that the shop's rate is drawn towards none.
        assert 0.95 * (purchases @ value) < ours.spend < purchases @ value


def test_forecasts_have_the_mean_of_their_errors_and_of_the_errors_size():
    model = BgNbd(r=0.5, alpha=10, a=1, b=2)
    expected = float(model.expected_purchases(28, *OF).sum())
    found = [
        forecast("2026-01-01", model, OF, actual=2 * expected, before=expected),
        forecast("2026-01-08", model, OF, actual=expected / 1.25, before=2 * expected),
        forecast("2026-01-15", model, OF, actual=0.0, before=1.0),
    ]
    assert [each.error for each in found] == [pytest.approx(-0.5), pytest.approx(0.25), None]
    summary = summarise(found)
    assert summary.mean_error == pytest.approx(-0.125)
    assert summary.mean_absolute_error == pytest.approx(0.375)
    assert summary.before_absolute_error == pytest.approx((0.5 + 1.5) / 2)
    last = summary.forecasts[2]
    assert last == Forecast("2026-01-15", 4, expected, last.low, last.high, 0.0, None, 1.0, None)
    assert summary.inside == np.mean([each.low <= each.actual <= each.high for each in found])
    assert summarise([]).mean_error is None
    assert summarise([]).inside is None


def test_a_forecast_is_as_wide_as_earlier_ones_were_wrong():
    model = BgNbd(r=0.5, alpha=10, a=1, b=2)
    many = tuple(np.tile(column, 2_000) for column in OF)
    expected = float(model.expected_purchases(28, *many).sum())
    earlier = [
        forecast("2026-01-01", model, many, actual=factor * expected, before=1.0)
        for factor in (np.exp(0.3), np.exp(-0.3), 0.0)
    ]
    found = forecast("2026-02-01", model, many, actual=expected, before=1.0, earlier=earlier)
    usual = forecast("2026-02-01", model, many, actual=expected, before=1.0)
    # Two errors of .3 and the usual one of .1; an outcome of nothing tells no size.
    strays = 1.2816 * np.sqrt((2 * 0.3**2 + 0.1**2) / 3) * expected
    assert found.high - expected == pytest.approx(strays, rel=0.02)
    assert usual.high - expected == pytest.approx(1.2816 * 0.1 * expected, rel=0.1)
