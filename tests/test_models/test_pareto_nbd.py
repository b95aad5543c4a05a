"""Pareto/NBD: published numbers, 40-digit arithmetic, hypergeometric functions, simulation."""

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import betainc, gammaln, hyp2f1

from models.btyd import Cells, ParetoNbd

from .test_bg_nbd import cdnow_statistics, customers

CDNOW = ParetoNbd(r=0.553, alpha=10.578, s=0.606, beta=11.669)
"""The estimates on the papers' CDNOW sample, rounded."""

SOMEBODY = (2, 30.43, 38.86)
ONE_TIME_BUYER = (0, 0, 38.86)

realistic = st.builds(
    ParetoNbd,
    r=st.floats(0.05, 5),
    alpha=st.floats(1, 100),
    s=st.floats(0.05, 5),
    beta=st.floats(1, 100),
)


def random_model(rng: np.random.Generator, kind: int) -> ParetoNbd:
    if kind == 0:
        r, s = rng.uniform(0.1, 2, 2)
        alpha, beta = rng.uniform(1, 100, 2)
    elif kind == 1:
        r, alpha, s, beta = 10 ** rng.uniform(-4, 4, 4)
    else:
        r, s = 10 ** rng.uniform(-3, 3, 2)
        alpha = beta = 10 ** rng.uniform(1, 4)
        if kind == 3:
            alpha = beta * 10 ** -rng.uniform(2, 6)
        if kind == 4:
            beta = alpha * 10 ** -rng.uniform(2, 6)
    return ParetoNbd(float(r), float(alpha), float(s), float(beta))


def random_customer(rng: np.random.Generator) -> tuple[float, float, float]:
    T = 10 ** rng.uniform(-1, np.log10(5_000))
    if rng.random() < 0.3:
        return 0.0, 0.0, T
    at = rng.random() if rng.random() < 0.7 else 1 - 10 ** rng.uniform(-6, 0)
    return np.floor(10 ** rng.uniform(0, np.log10(2_000))), T * at, T


def over_log_time(end: float, function: Callable[[np.ndarray], np.ndarray]) -> float:
    """The integral over [0, end], by Gauss-Legendre in many panels of the logarithm."""
    nodes, weights = np.polynomial.legendre.leggauss(16)
    edges = np.linspace(-75.0, 0.0, 301)
    half = np.diff(edges)[:, None] / 2
    v = end * np.exp(edges[:-1, None] + half * (nodes + 1))
    return float(np.sum(half * weights * v * function(v)))


def agrees_with_integration(
    model: ParetoNbd, who: tuple[float, float, float], n: float, t: float, discount: float
) -> None:
    x, t_x, T = who
    rho, s = model.r + x, model.s
    A, B, u = model.alpha + t_x, model.beta + t_x, T - t_x
    dead = over_log_time(
        u, lambda v: s / B * np.exp(-rho * np.log1p(v / A) - (s + 1) * np.log1p(v / B))
    )
    silent = -rho * np.log1p(u / A) - s * np.log1p(u / B)
    density = gammaln(rho) - gammaln(model.r) - model.r * np.log1p(t_x / model.alpha)
    density -= x * np.log(A) + s * np.log1p(t_x / model.beta)
    likelihood = density + np.logaddexp(silent, np.log(dead))
    assert model.log_likelihood(*who) == pytest.approx(likelihood, rel=1e-9, abs=1e-14)
    if silent < -600:
        return  # P(alive), and all that follows from it, is next to no float.
    alive = np.exp(silent) / (np.exp(silent) + dead)
    assert model.p_alive(*who) == pytest.approx(alive, rel=1e-9, abs=0)
    C, D = model.alpha + T, model.beta + T
    life = over_log_time(t, lambda v: np.exp(-discount * v - s * np.log1p(v / D)))
    purchases = model.expected_discounted_purchases(t, discount, *who)
    assert purchases == pytest.approx(alive * rho / C * life, rel=1e-9, abs=0)
    # They make n purchases before they drop out, or before t.
    before = over_log_time(
        t, lambda v: s / D * np.exp(-(s + 1) * np.log1p(v / D)) * betainc(n, rho, v / (C + v))
    )
    before += betainc(n, rho, t / (C + t)) * np.exp(-s * np.log1p(t / D))
    got = model.probability_of_at_least(n, t, *who)
    assert got == pytest.approx(alive * before, rel=1e-9, abs=1e-280)


class TestPublishedNumbers:
    def test_fit_to_cdnow(self):
        """Fader, Hardie and Lee (2005), table 2."""
        fit = ParetoNbd.fit(Cells.count(*cdnow_statistics(sample=True)))
        got = fit.parameters
        assert fit.customers == 2357
        assert fit.log_likelihood == pytest.approx(-9594.976, abs=5e-4)
        assert (got.r, got.alpha, got.s, got.beta) == pytest.approx(
            (0.55315, 10.57633, 0.60625, 11.67150), rel=4e-4
        )
        assert fit.at_bounds == ()

    def test_customer_1516(self):
        fitted = ParetoNbd(r=0.55328, alpha=10.57768, s=0.60624, beta=11.66874)
        who = (26, 30.857142857, 31)
        assert fitted.expected_purchases(52, *who) == pytest.approx(25.45647, rel=1e-4)
        assert fitted.p_alive(*who) == pytest.approx(0.997874, abs=1e-6)
        assert fitted.expected_purchases_of_new_customer(52) == pytest.approx(1.473434, rel=1e-4)
        frequent = fitted.expected_purchases(52, [10, 15, 20, 25], 20, 39)
        assert frequent == pytest.approx([0.7062289, 0.1442396, 0.02250658, 0.00309267], rel=1e-3)

    def test_expected_purchases_of_a_new_customer(self):
        model = ParetoNbd(r=0.5534, alpha=10.5802, s=0.6061, beta=11.6562)
        assert model.expected_purchases_of_new_customer(1) == pytest.approx(
            0.0510045340, abs=5.1e-11
        )

    def test_scores(self):
        assert CDNOW.log_likelihood(*SOMEBODY) == pytest.approx(-9.554283245150406, rel=1e-14)
        assert CDNOW.p_alive(*SOMEBODY) == pytest.approx(0.8691675591530112, rel=1e-14)
        assert CDNOW.p_alive(*ONE_TIME_BUYER) == pytest.approx(0.2952866046168941, rel=1e-14)
        assert CDNOW.expected_purchases(39, *SOMEBODY) == pytest.approx(
            1.455123193257602, rel=1e-14
        )
        none = 1 - CDNOW.probability_of_at_least(1, 39, *SOMEBODY)
        assert none == pytest.approx(0.4080627236064638, rel=1e-14)
        assert CDNOW.age_at_p_alive(0.5, 2, 30.43) == pytest.approx(63.03849224668888, rel=1e-13)

    def test_discounted_residual_purchases(self):
        model = ParetoNbd(r=0.5629966, alpha=12.5590370, s=0.4081095, beta=10.5148048)
        got = model.discounted_residual_purchases(0.0027, 7, 35, 77.86)
        assert got == pytest.approx(1.864183328, abs=5.1e-10)

    def test_a_long_list_of_purchases_keeps_its_precision(self):
        model = ParetoNbd(r=0.5143, alpha=2.8845, s=0.2856, beta=14.1087)
        alive = model.p_alive(221, 103.42857, 103.57143)
        assert alive == pytest.approx(0.999596052, abs=5.1e-10)


class TestAccuracy:
    @pytest.mark.parametrize(
        ("parameters", "who", "exact"),
        [
            (
                (0.25, 4, 0.8, 2.5),
                (0, 0, 40),
                [
                    -0.20216855095035717,
                    0.06967763119506095,
                    0.014579239010395429,
                    0.013922784206184482,
                    0.0012491586543229672,
                ],
            ),
            (
                (0.25, 4, 0.8, 2.5),
                (200, 38, 40),
                [
                    102.15001348860352,
                    0.020563716978369408,
                    3.4464788059214529,
                    3.2912952899543199,
                    0.0203119876846835,
                ],
            ),
            (
                (0.6, 10, 0.6, 10),
                (3, 20, 38),
                [
                    -11.946981884379591,
                    0.53032205855535218,
                    1.6286597917690783,
                    1.5526843693696246,
                    0.26103452971532061,
                ],
            ),
            (
                (0.01, 5000, 3, 0.02),
                (3, 8, 9),
                [
                    -47.435865858787593,
                    0.70284844285703073,
                    0.0018631969612300085,
                    0.0018386663137040967,
                    8.3676208414649519e-8,
                ],
            ),
            (
                (10000, 10000, 0.0001, 10000),
                (30, 30, 31),
                [
                    -31.001448224670062,
                    0.99999998286992708,
                    51.994801725863674,
                    49.382414414670486,
                    0.99999995296264058,
                ],
            ),
            (
                (0.0001, 10000, 0.0001, 0.0001),
                (0, 0, 20000),
                [
                    -0.0001096657738950025,
                    0.99809024765413906,
                    1.7300228712255222e-7,
                    1.6431009129259822e-7,
                    1.7261060274379026e-13,
                ],
            ),
            (
                (0.001, 0.01, 200, 5000),
                (40, 600, 1500),
                [
                    -179.87009386884595,
                    3.8941126701843097e-29,
                    2.6972154386153171e-29,
                    2.5957669398572982e-29,
                    2.2896407087784495e-30,
                ],
            ),
            (
                (5, 2, 10000, 10000),
                (5, 30, 200),
                [
                    -51.790092818462816,
                    1.3231893117857383e-81,
                    6.6821191922234454e-83,
                    6.6685127077735976e-83,
                    1.8624570860120876e-85,
                ],
            ),
            (
                (2, 0.05, 0.7, 3000),
                (2000, 4990, 5000),
                [
                    -3843.9813408850724,
                    0.98832824368389386,
                    20.530936606875255,
                    19.500162054318713,
                    0.98768042620635977,
                ],
            ),
            (
                (2, 3000, 0.7, 0.05),
                (2000, 4000, 5000),
                [
                    -4510.2025141063472,
                    1.1118527940914046e-113,
                    1.4416183655996757e-112,
                    1.3692727082229755e-112,
                    1.1097404766330178e-113,
                ],
            ),
            (
                (1.5, 30, 1, 20),
                (1, 5, 400),
                [
                    -4.6787749226115739,
                    0.00032949500738536783,
                    9.3914113735984615e-5,
                    8.9285794875175856e-5,
                    2.1967334303521938e-6,
                ],
            ),
        ],
    )
    def test_scores_agree_with_40_digit_arithmetic(self, parameters, who, exact):
        """The integrals of the module's head, by tanh-sinh quadrature in 40 digits.

        exact: log-likelihood, P(alive), and of the 52 next units of time the expected purchases,
        these discounted at .002, and the probability of three or more.
        """
        model = ParetoNbd(*parameters)
        got = [
            model.log_likelihood(*who),
            model.p_alive(*who),
            model.expected_purchases(52, *who),
            model.expected_discounted_purchases(52, 0.002, *who),
            model.probability_of_at_least(3, 52, *who),
        ]
        assert got == pytest.approx(exact, rel=1e-10, abs=0)

    @pytest.mark.heavy
    def test_a_thousand_random_and_extreme_customers_agree_with_integration_over_log_time(self):
        """With α = β, α far above and below β, tiny and huge shapes, x to 2,000 and T to 5,000."""
        rng = np.random.default_rng(11)
        for row in range(1_000):
            model, who = random_model(rng, row % 5), random_customer(rng)
            n, t = np.ceil(10 ** rng.uniform(0, 2.5)), 10 ** rng.uniform(-1, 3.3)
            agrees_with_integration(model, who, n, t, discount=1e-3)

    @given(realistic, customers(most=6))
    @settings(deadline=None)
    def test_the_likelihood_is_the_papers_where_that_does_not_cancel(self, model, who):
        """Fader and Hardie (2005), with their A0: a difference of hypergeometric functions."""
        x, t_x, T = who
        T = min(T, 60.0)
        t_x = min(t_x, 0.9 * T)
        r, alpha, s, beta = model.r, model.alpha, model.s, model.beta
        most, least = max(alpha, beta), min(alpha, beta)
        rho = r + s + x
        second = s + 1 if alpha >= beta else r + x

        def part(t):
            z = (most - least) / (most + t)
            return hyp2f1(rho, second, rho + 1, z) / (most + t) ** rho

        died = s / rho * (part(t_x) - part(T))
        alive = (alpha + T) ** -(r + x) * (beta + T) ** -s
        density = gammaln(r + x) - gammaln(r) + r * np.log(alpha) + s * np.log(beta)
        cancelled = 1e-14 * part(t_x) / max(died + alive, 1e-300)
        assert model.log_likelihood(x, t_x, T) == pytest.approx(
            density + np.log(alive + died), rel=1e-9, abs=1e-9 + 10 * cancelled
        )
        assert model.p_alive(x, t_x, T) == pytest.approx(
            alive / (alive + died), rel=1e-9 + 10 * cancelled
        )

    @pytest.mark.heavy
    def test_what_simulated_customers_do_next_is_what_is_expected(self):
        """Who bought twice in 40 weeks, the last time in week 20 to 24."""
        model = ParetoNbd(r=0.8, alpha=6.0, s=0.7, beta=12.0)
        rng = np.random.default_rng(5)
        rate, death = rng.gamma(0.8, 1 / 6.0, 3_000_000), rng.gamma(0.7, 1 / 12.0, 3_000_000)
        end = rng.exponential(1 / death)
        _, second, third = np.cumsum(rng.exponential(1 / rate, (3, 3_000_000)), axis=0)
        like = (second >= 20) & (second < 24) & (second < end) & ((third > 40) | (third > end))
        rate, end, second, third = rate[like], end[like], second[like], third[like]
        assert len(rate) > 20_000
        # Who lives at week 40 buys from then on as a Poisson process until the end.
        left = np.clip(end - 40, 0, 30)
        bought = rng.poisson(rate * left)
        for got, seen in (
            (model.p_alive(2, second, 40), end > 40),
            (model.expected_purchases(30, 2, second, 40), bought),
            (model.expected_time_alive(2, second, 40), np.minimum(end, 40)),
            (model.expected_discounted_time(30, 0, 2, second, 40), left),
            (model.probability_of_at_least(1, 30, 2, second, 40), bought >= 1),
            (model.probability_of_at_least(4, 30, 2, second, 40), bought >= 4),
        ):
            error = np.std(seen) / np.sqrt(len(seen))
            assert np.mean(got) == pytest.approx(np.mean(seen), abs=4 * error)

    @given(realistic, customers(most=300), st.floats(0.1, 400))
    @settings(deadline=None)
    def test_expected_purchases_without_discount_are_the_limit_of_little(self, model, who, t):
        without = model.expected_discounted_purchases(t, 0.0, *who)
        little = model.expected_discounted_purchases(t, 1e-14, *who)
        assert without == pytest.approx(float(little), rel=1e-11, abs=1e-300)
