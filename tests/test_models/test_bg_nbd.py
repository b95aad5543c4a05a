"""BG/NBD: published numbers, independent integration, hostile statistics, fits."""

import csv
import datetime as dt
import gzip
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.btyd import BgNbd, Cells, FitError
from models.btyd._optimise import maximise

CDNOW = Path(__file__).parents[2] / "examples" / "data" / "cdnow_orders.csv.gz"
PUBLISHED = BgNbd(r=0.2425945, alpha=4.4136019, a=0.7929199, b=2.4258881)
ROUNDED = BgNbd(r=0.243, alpha=4.414, a=0.793, b=2.426)
WALKTHROUGH = BgNbd(r=0.2425967, alpha=4.413659, a=0.7929869, b=2.426164)
SOMEBODY = (2, 30.43, 38.86)


def cdnow_statistics(*, sample: bool) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """x, t_x, T in weeks over the papers' 39 weeks, purchases on one day being one."""
    end = dt.date(1997, 9, 30)
    days: dict[str, set[dt.date]] = {}
    with gzip.open(CDNOW, "rt", newline="") as file:
        for row in csv.DictReader(file):
            day = dt.date.fromisoformat(row["date"])
            if day <= end and (not sample or row["in_sample"] == "1"):
                days.setdefault(row["customer_id"], set()).add(day)
    x = np.array([len(d) - 1 for d in days.values()])
    t_x = np.array([(max(d) - min(d)).days / 7 for d in days.values()])
    T = np.array([(end - min(d)).days / 7 for d in days.values()])
    return x, t_x, T


positive = st.floats(-4, 4).map(lambda e: 10.0**e)
realistic = st.builds(
    BgNbd,
    r=st.floats(0.05, 5),
    alpha=st.floats(1, 300),
    a=st.floats(0.05, 5),
    b=st.floats(0.1, 20),
)


@st.composite
def customers(draw: st.DrawFn, most: int = 10_000) -> tuple[float, float, float]:
    T = draw(st.one_of(st.just(0.0), st.floats(0, 20_000)))
    x = draw(st.one_of(st.just(0), st.integers(0, most)))
    return float(x), (draw(st.floats(0, 1)) * T if x else 0.0), T


class TestPublishedNumbers:
    def test_fit_to_cdnow_is_the_maximum_of_the_paper(self):
        fit = BgNbd.fit(Cells.count(*cdnow_statistics(sample=True)))
        got, paper = fit.parameters, PUBLISHED
        assert fit.customers == 2357
        assert fit.log_likelihood == pytest.approx(-9582.429, abs=5e-4)
        assert (got.r, got.alpha, got.a, got.b) == pytest.approx(
            (paper.r, paper.alpha, paper.a, paper.b), rel=2e-5
        )
        assert fit.at_bounds == ()

    def test_conditional_expectation_and_p_alive(self):
        assert ROUNDED.expected_purchases(39, *SOMEBODY) == pytest.approx(
            1.2260281747671, rel=1e-12
        )
        assert ROUNDED.p_alive(*SOMEBODY) == pytest.approx(0.72657857, abs=5e-9)

    def test_expected_purchases_of_a_new_customer(self):
        got = PUBLISHED.expected_purchases_of_new_customer([0.1429, 1, 3, 31.8571, 32])
        assert got == pytest.approx([0.0078, 0.0532, 0.1506, 1.0405, 1.0437], abs=5.1e-5)
        assert ROUNDED.expected_purchases_of_new_customer(1) == pytest.approx(
            0.05326789117, abs=5e-12
        )

    def test_customer_1516(self):
        who = (26, 30.857142857, 31)
        assert WALKTHROUGH.expected_purchases(52, *who) == pytest.approx(25.75659, abs=5e-6)
        assert WALKTHROUGH.p_alive(*who) == pytest.approx(0.9688523, abs=5e-8)
        assert WALKTHROUGH.expected_purchases_of_new_customer(52) == pytest.approx(
            1.444004, abs=5e-7
        )

    def test_a_frequent_buyer_gone_silent_is_worth_less_than_a_rare_one(self):
        got = WALKTHROUGH.expected_purchases(52, [10, 15, 20, 25], 20, 39)
        assert got == pytest.approx([0.3474606, 0.04283391, 0.004158973, 0.0003583685], rel=5e-7)

    def test_probability_of_purchases(self):
        assert ROUNDED.probability_of_purchases(0, 39) == pytest.approx(0.5737864, abs=5.1e-8)
        assert ROUNDED.probability_of_purchases(10, 2) == pytest.approx(1.07869e-7, rel=5e-6)

    def test_log_likelihood(self):
        model = BgNbd(r=0.25, alpha=4, a=0.8, b=2.5)
        got = model.log_likelihood([0, 200], [0, 38], 40)
        assert got == pytest.approx([-0.59947382, 100.7957], abs=5e-5)
        assert got[0] == pytest.approx(-0.59947382, abs=5e-9)

    @pytest.mark.parametrize(
        ("who", "purchases", "alive"),
        [
            ((3, 24.71, 37.86), [0.0476465347, 0.1411712190, 0.2772885955], 0.6250537962),
            ((1, 36.29, 37), [0.0223861234, 0.0664949969, 0.1310826125], 0.7496377350),
        ],
    )
    def test_short_horizons(self, who, purchases, alive):
        assert ROUNDED.expected_purchases([1, 3, 6], *who) == pytest.approx(purchases, abs=5.1e-11)
        assert ROUNDED.p_alive(*who) == pytest.approx(alive, abs=5.1e-11)

    def test_discounted_purchases(self):
        rate = 0.0027
        assert ROUNDED.discounted_residual_purchases(rate, *SOMEBODY) == pytest.approx(
            5.156379826, abs=5e-9
        )
        assert ROUNDED.expected_discounted_purchases(52, rate, *SOMEBODY) == pytest.approx(
            1.461496776, abs=5.1e-10
        )
        assert ROUNDED.expected_purchases(52, *SOMEBODY) == pytest.approx(1.558720806, abs=5.1e-10)

    def test_a_long_list_of_purchases_keeps_its_precision(self):
        who = (221, 103.42857, 103.57143)
        model = BgNbd(r=0.5143, alpha=2.8845, a=0.2856, b=14.1087)
        assert np.isfinite(model.log_likelihood(*who))
        assert 0.99 < model.p_alive(*who) < 1
        assert np.isfinite(model.expected_purchases(52, *who))

    def test_a_plus_b_below_one_has_an_answer(self):
        got = BgNbd(r=0.11, alpha=2.24, a=0.31, b=0.5).expected_purchases(30, 0, 0, 1)
        assert got == pytest.approx(0.564588616, abs=5.1e-10)


class TestAccuracy:
    @pytest.mark.parametrize(
        ("arguments", "exact"),
        [
            ((0.2426, 30.9, 0.7929, 2.4259, 365, 0.000273972602739726, 0, 0, 0), 1.388532959285145),
            ((0.2426, 4.414, 0.7929, 2.4259, 52, 0.00191780821917808, 0, 0, 0), 1.386285726003572),
            (
                (0.2426, 30.9, 0.7929, 2.4259, 365, 0.000273972602739726, 500, 1190, 1200),
                116.3826896621446,
            ),
            ((1.5, 3, 1, 0.5, 365, 0.000273972602739726, 0, 0, 0), 3.346662733291867),
            ((1.5, 3, 1, 0.5, 365, 0.000273972602739726, 3, 7, 7), 9.531616922253856),
            ((0.05, 2, 0.01, 0.02, 365, 0.000273972602739726, 1, 1, 2), 52.00619259987462),
            ((200, 200, 0.8, 2.4, 52, 0.0019, 30, 36, 40), 14.3790037165225),
            ((200, 20, 0.8, 2.4, 52, 0.0019, 0, 0, 0), 22.54500658129614),
            ((3, 12, 40, 160, 365, 0.000273972602739726, 20, 300, 310), 3.69787319548008),
            ((0.6, 9, 1, 2.5, 365, 0, 2, 50, 80), 2.891993085450121),
        ],
    )
    def test_discounted_purchases_agree_with_30_digit_arithmetic(self, arguments, exact):
        r, alpha, a, b, *rest = arguments
        got = BgNbd(r, alpha, a, b).expected_discounted_purchases(*rest)
        assert got == pytest.approx(exact, rel=1e-10)

    def test_rows_do_not_depend_on_their_company(self):
        x, t_x, T = np.array([0, 3, 0, 500]), np.array([0, 50, 0, 900]), np.array([0, 60, 0, 901])
        together = PUBLISHED.expected_discounted_purchases(365, 3e-4, x, t_x, T)
        alone = [
            PUBLISHED.expected_discounted_purchases(365, 3e-4, *row)
            for row in zip(x, t_x, T, strict=True)
        ]
        one_horizon_each = PUBLISHED.expected_discounted_purchases([365] * 4, 3e-4, x, t_x, T)
        assert together == pytest.approx(alone, rel=1e-12)
        assert together == pytest.approx(one_horizon_each, rel=1e-12)


class TestWhateverTheCustomer:
    @given(realistic, customers(), st.floats(0, 1000))
    @settings(deadline=None)
    def test_silence_lowers_p_alive_of_who_has_bought_again(self, model, who, silence):
        x, t_x, T = who
        later = model.p_alive(x, t_x, T + silence)
        assert later <= model.p_alive(*who)
        if x == 0:
            assert later == 1

    @given(realistic, st.floats(0, 200))
    @settings(deadline=None)
    def test_the_probabilities_of_all_counts_add_up(self, model, t):
        n = np.arange(20_000)
        assert model.probability_of_purchases(n, t).sum() == pytest.approx(1, abs=1e-6)

    @given(realistic)
    def test_log_likelihood_of_no_purchase_is_the_probability_of_none(self, model):
        got = model.log_likelihood(0, 0, [0, 5, 100])
        assert got == pytest.approx(np.log(model.probability_of_purchases(0, [0, 5, 100])))

    def test_the_callers_arrays_are_left_alone(self):
        columns = [np.array([0, 2.0, 5]), np.array([0, 3.0, 4]), np.array([9.0, 9, 9])]
        before = [column.copy() for column in columns]
        for column in columns:
            column.flags.writeable = False
        PUBLISHED.log_likelihood(*columns)
        PUBLISHED.p_alive(*columns)
        PUBLISHED.expected_discounted_purchases(52, 0.002, *columns)
        BgNbd.fit(Cells.count(*columns))
        assert all(np.array_equal(a, b) for a, b in zip(columns, before, strict=True))


class TestRefusals:
    @pytest.mark.parametrize("bad", [0, -1, float("nan"), float("inf")])
    @pytest.mark.parametrize("name", ["r", "alpha", "a", "b"])
    def test_parameters_must_be_positive(self, name, bad):
        with pytest.raises(ValueError, match=f"parameter {name} is {bad!r}"):
            BgNbd(**({"r": 1.0, "alpha": 1.0, "a": 1.0, "b": 1.0} | {name: bad}))

    @pytest.mark.parametrize(
        ("row", "problem"),
        [
            ((2, 11, 10), "t_x must not exceed T"),
            ((0, 5, 10), "requires t_x = 0"),
            ((-1, 0, 10), "whole number"),
            ((1.5, 3, 10), "whole number"),
            ((1, -1, 10), "t_x must be >= 0"),
            ((1, float("nan"), 10), "finite"),
            ((1, 2, float("inf")), "finite"),
        ],
    )
    def test_impossible_statistics_are_named_by_row(self, row, problem):
        x, t_x, T = zip((1, 2, 3), row, (4, 5, 6), strict=True)
        with pytest.raises(ValueError, match=rf"^row 1 \(.*{problem}"):
            PUBLISHED.p_alive(x, t_x, T)
        with pytest.raises(ValueError, match=r"^row 1"):
            Cells.count(x, t_x, T)

    def test_horizons_and_rates_must_make_sense(self):
        with pytest.raises(ValueError, match="horizon"):
            PUBLISHED.expected_purchases(-1, *SOMEBODY)
        with pytest.raises(ValueError, match="discount_rate"):
            PUBLISHED.expected_discounted_purchases(1, -0.1, *SOMEBODY)
        with pytest.raises(ValueError, match="discount_rate"):
            PUBLISHED.discounted_residual_purchases(0, *SOMEBODY)
        with pytest.raises(ValueError, match="n must be a whole number"):
            PUBLISHED.probability_of_purchases(0.5, 1)


class TestFit:
    @pytest.mark.heavy
    def test_all_of_cdnow_fits_as_lifetimes_fits_it(self):
        statistics = cdnow_statistics(sample=False)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from lifetimes import BetaGeoFitter

            theirs = BetaGeoFitter(penalizer_coef=0.0).fit(*statistics).params_
        fit = BgNbd.fit(Cells.count(*statistics))
        got = fit.parameters
        assert fit.customers == 23_570
        assert [got.r, got.alpha, got.a, got.b] == pytest.approx(
            [theirs[name] for name in ("r", "alpha", "a", "b")], rel=1e-4
        )
        their_likelihood = BgNbd(*(float(theirs[n]) for n in ("r", "alpha", "a", "b")))
        assert fit.log_likelihood >= their_likelihood.log_likelihood(*statistics).sum() - 1e-6

    def test_days_and_weeks_give_the_same_model(self):
        x, t_x, T = cdnow_statistics(sample=True)
        weeks = BgNbd.fit(Cells.count(x, t_x, T)).parameters
        days = BgNbd.fit(Cells.count(x, t_x * 7, T * 7)).parameters
        assert (days.r, days.alpha / 7, days.a, days.b) == pytest.approx(
            (weeks.r, weeks.alpha, weeks.a, weeks.b), rel=1e-5
        )

    def test_a_start_from_the_last_fit_takes_fewer_steps_to_the_same_place(self):
        cells = Cells.count(*cdnow_statistics(sample=True))
        cold = BgNbd.fit(cells)
        warm = BgNbd.fit(cells, start=cold.parameters)
        far = BgNbd.fit(cells, start=BgNbd(r=5, alpha=0.1, a=20, b=0.1))
        assert warm.iterations < cold.iterations
        assert warm.log_likelihood == pytest.approx(cold.log_likelihood, abs=1e-6)
        assert far.log_likelihood == pytest.approx(cold.log_likelihood, abs=1e-4)

    def test_a_population_that_never_drops_out_says_so_by_its_bounds(self):
        rng = np.random.default_rng(3)
        x = rng.poisson(rng.gamma(2.0, 5.0, 2000)) + 1
        fit = BgNbd.fit(Cells.count(x, 99.9, 100))
        assert fit.at_bounds
        assert np.isfinite(fit.log_likelihood)
        assert fit.parameters.p_alive(5, 99.9, 100) > 0.99

    def test_a_search_that_does_not_converge_says_where_it_stood_and_what_to_do(self):
        def roof(values):
            height = -abs(np.log(values[0]) - 0.123)
            return height, -np.sign(np.log(values) - 0.123) / values

        with pytest.raises(FitError, match=r"Roof: .*not converge.*at a=1\.1.*more customers"):
            maximise("Roof", roof, {"a": 3.0}, {"a": 0.01}, {"a": 100.0})

    def test_nobody_to_fit_on_is_an_error(self):
        with pytest.raises(FitError, match="no customers"):
            BgNbd.fit(Cells.count([], [], []))

    def test_no_repeat_purchase_is_an_error_that_says_what_to_do(self):
        with pytest.raises(FitError, match=r"none of 3 customers.*longer period"):
            BgNbd.fit(Cells.count([0, 0, 0], 0, [5, 6, 7]))

    def test_no_time_passed_is_an_error(self):
        with pytest.raises(FitError, match="no time has passed"):
            BgNbd.fit(Cells.count([1, 2], 0, 0))
