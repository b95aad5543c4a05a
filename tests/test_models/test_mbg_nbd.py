"""MBG/NBD: published numbers, 30-digit arithmetic, independent integration, fits."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.btyd import BgNbd, Cells, MbgNbd

from .test_bg_nbd import cdnow_statistics, customers

CDNOW = MbgNbd(r=0.525, alpha=6.183, a=0.891, b=1.614)
"""The estimates on the papers' CDNOW sample, rounded."""

SOMEBODY = (2, 30.43, 38.86)
ONE_TIME_BUYER = (0, 0, 38.86)

realistic = st.builds(
    MbgNbd,
    r=st.floats(0.05, 60),
    alpha=st.floats(0.1, 300),
    a=st.floats(0.1, 60),
    b=st.floats(0.02, 100),
)


class TestPublishedNumbers:
    def test_fit_to_cdnow(self):
        fit = MbgNbd.fit(Cells.count(*cdnow_statistics(sample=True)))
        got = fit.parameters
        assert fit.customers == 2357
        assert fit.log_likelihood == pytest.approx(-9582.136, abs=1e-3)
        assert (got.r, got.alpha, got.a, got.b) == pytest.approx(
            (CDNOW.r, CDNOW.alpha, CDNOW.a, CDNOW.b), rel=2e-3
        )
        assert fit.at_bounds == ()

    def test_log_likelihood_and_p_alive(self):
        assert CDNOW.log_likelihood(*SOMEBODY) == pytest.approx(-9.485551314533932, rel=1e-14)
        assert CDNOW.p_alive(*SOMEBODY) == pytest.approx(0.7062022651184873, rel=1e-14)
        assert CDNOW.log_likelihood(*ONE_TIME_BUYER) == pytest.approx(
            -0.5398374635310146, rel=1e-14
        )
        assert CDNOW.p_alive(*ONE_TIME_BUYER) == pytest.approx(0.3897350809187629, rel=1e-14)

    def test_expected_purchases(self):
        assert CDNOW.expected_purchases_of_new_customer(1) == pytest.approx(
            0.0530847953, abs=5.1e-11
        )
        assert CDNOW.expected_purchases(39, *SOMEBODY) == pytest.approx(
            1.262960623267366, rel=1e-12
        )
        assert CDNOW.expected_purchases(39, *ONE_TIME_BUYER) == pytest.approx(
            0.1540127466751467, rel=1e-12
        )
        assert CDNOW.expected_purchases_of_new_customer(52) == pytest.approx(
            1.419723757712746, rel=1e-12
        )

    def test_the_age_at_which_p_alive_falls_to_a_bound(self):
        assert CDNOW.age_at_p_alive(0.5, 0, 0) == pytest.approx(12.9894233856325, rel=1e-13)
        assert CDNOW.age_at_p_alive(0.1, 0, 0) == pytest.approx(1253.559527373668, rel=1e-13)
        assert CDNOW.age_at_p_alive(0.5, 2, 30.43) == pytest.approx(57.56567097646785, rel=1e-13)


class TestAccuracy:
    @pytest.mark.parametrize(
        ("parameters", "who", "log_likelihood", "alive"),
        [
            ((0.25, 4, 0.8, 2.5), (0, 0, 40), -0.41792826204498037, 0.63180322083695404),
            ((0.25, 4, 0.8, 2.5), (200, 38, 40), 100.78690976099133, 0.022275300070991094),
            ((0.01, 100, 50, 0.05), (3, 8, 9), -31.972957880698959, 0.056007979231376245),
            ((1e4, 1e4, 1e-4, 1e4), (30, 30, 31), -31.001448214715424, 0.99999997289983789),
            ((1e-4, 1e4, 1e-4, 1e-4), (0, 0, 2e4), -5.492910574720523e-5, 0.49997253469281092),
            ((5, 2, 1e4, 1e4), (5, 30, 200), -25.726482630091024, 9.9587121000784468e-9),
        ],
    )
    def test_scores_agree_with_40_digit_arithmetic(self, parameters, who, log_likelihood, alive):
        model = MbgNbd(*parameters)
        assert model.log_likelihood(*who) == pytest.approx(log_likelihood, rel=1e-11)
        assert model.p_alive(*who) == pytest.approx(alive, rel=1e-13)

    @pytest.mark.parametrize(
        ("arguments", "exact"),
        [
            ((0.525, 6.183, 0.891, 1.614, 39, 0.0027, 2, 30.43, 38.86), 1.202757164833698),
            ((0.525, 6.183, 0.891, 1.614, 365, 0.0019, 0, 0, 0), 3.116258345770712),
            ((0.2, 30.9, 8.9, 0.12, 365, 0.0003, 220, 1190, 1200), 19.40028873958318),
            ((200, 20, 0.8, 2.4, 52, 0.0019, 0, 0, 0), 21.5611973131991),
            ((3, 12, 40, 160, 365, 0.0003, 20, 300, 310), 3.712590284461009),
            ((0.05, 2, 0.01, 0.02, 365, 0.0003, 1, 1, 2), 86.4359343647294),
            ((60, 0.15, 62, 0.012, 0.6, 0, 0, 0, 0.18), 5.604987011898216e-25),
            ((0.0303, 12.2, 60.7, 24.0, 196, 0, 40, 0.226, 0.226), 1.072026800670017),
            ((34.8, 30.6, 0.0338, 0.166, 56, 0, 0, 0, 6.84), 0.2033773434606215),
            ((1.5, 3, 1, 0.5, 365, 0.00027, 3, 7, 7), 12.38242139483884),
            ((0.05, 0.1, 40, 2.2, 389, 0, 310, 1.25, 1.25), 8.005128205128205),
        ],
    )
    def test_discounted_purchases_agree_with_30_digit_arithmetic(self, arguments, exact):
        r, alpha, a, b, *rest = arguments
        got = MbgNbd(r, alpha, a, b).expected_discounted_purchases(*rest)
        assert got == pytest.approx(exact, rel=1e-10, abs=0)


class TestOneTimeBuyers:
    def test_they_drop_out_as_time_passes(self):
        alive = CDNOW.p_alive(0, 0, [0, 10, 100, 1_000])
        assert alive[0] == pytest.approx(CDNOW.b / (CDNOW.a + CDNOW.b), rel=1e-15)
        assert np.all(np.diff(alive) < 0)

    def test_an_age_beyond_any_float_is_never(self):
        model = MbgNbd(r=1e-4, alpha=1.0, a=1.0, b=2.0)
        assert model.age_at_p_alive(0.1, 0, 0) == np.inf


class TestWhateverTheCustomer:
    @given(realistic, customers())
    @settings(deadline=None)
    def test_a_first_purchase_that_is_survived_for_certain_makes_it_bg_nbd(self, model, who):
        """By Bayes: who survived the first purchase has p ~ Beta(a, b + 1)."""
        bg = BgNbd(model.r, model.alpha, model.a, model.b + 1)
        survived = np.log(model.b / (model.a + model.b))
        x, t_x, T = who
        got = model.log_likelihood(x, t_x, T)
        if x > 0:
            assert got == pytest.approx(survived + bg.log_likelihood(x, t_x, T), rel=1e-9, abs=1e-9)
            assert model.p_alive(*who) == pytest.approx(float(bg.p_alive(*who)), rel=1e-9)
        else:
            silent = np.exp(survived + bg.log_likelihood(x, t_x, T))
            assert np.exp(got) == pytest.approx(silent + model.a / (model.a + model.b), rel=1e-9)
