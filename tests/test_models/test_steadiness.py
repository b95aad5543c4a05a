"""Unsteadiness: found again in shops that were drawn with it, and what it does to intervals."""

import numpy as np
import pytest
from scipy.stats import betaprime

from models.btyd import BgNbd, GammaGamma, MbgNbd, ParetoNbd
from models.btyd._counts import Counts
from models.btyd.prior import UNSTEADINESS, VALUE_UNSTEADINESS
from models.evaluation.counting import pit_shares, placed
from models.population import Halves, Past, Seen
from models.steadiness import HEAVY, measured, measured_value

SHOP = MbgNbd(r=1.5, alpha=20.0, a=0.4, b=6.0)
DAYS = 180


def drawn(customers, variation, seed=1):
    """The past of a shop whose customers' rates are multiplied by a gamma variable of mean 1.

    variation: its squared coefficient of variation.
    """
    rng = np.random.default_rng(seed)
    age = np.floor(rng.uniform(30, 300, customers))
    rate = rng.gamma(SHOP.r, 1 / SHOP.alpha, customers)
    dropout = rng.beta(SHOP.a, SHOP.b, customers)
    alive = rng.random(customers) >= dropout
    x, t_x = np.zeros(customers), np.zeros(customers)

    def live(until, rate, now, count):
        going = alive.copy()
        while going.any():
            now = now + rng.exponential(1 / rate)
            going &= now <= until
            count[going] += 1
            last[going] = now[going]
            left = going & (rng.random(customers) < dropout)
            alive[left] = False
            going &= ~left

    last = t_x
    live(age, rate, np.zeros(customers), x)
    factor = rng.gamma(1 / variation, variation, customers) if variation else np.ones(customers)
    last, after = np.zeros(customers), np.zeros(customers)
    live(age + DAYS, rate * factor, age.copy(), after)
    return Past(DAYS, Seen(x, t_x, age, after))


def unsteadiness(variation):
    """Of which a rate seen in many purchases is as uncertain: r + 1/u is 1/variation."""
    return 1 / (1 / variation - SHOP.r)


@pytest.mark.parametrize("variation", [0.1, 0.3])
def test_it_is_found_and_makes_intervals_right(variation):
    past = drawn(6_000, variation)
    found = measured(SHOP, past, 1, prior=True)
    assert found == pytest.approx(unsteadiness(variation), rel=0.6)
    often = past.seen.x >= HEAVY
    x, t_x, age, after = (column[often] for column in past.seen)

    def inside(model):
        return pit_shares(placed(model, after, DAYS, (x, t_x, age)), np.array([0.1, 0.9]))[0]

    assert inside(SHOP) < 0.78
    assert inside(SHOP.with_unsteadiness(found)) == pytest.approx(0.8, abs=0.02)


def test_steady_customers_are_found_steady():
    past = drawn(6_000, 0.0)
    assert measured(SHOP, past, 1, prior=False) == 0
    assert measured(SHOP, past, 1, prior=True) < 0.02


def test_weeks_are_as_days():
    past = drawn(2_000, 0.4)
    in_weeks = MbgNbd(r=SHOP.r, alpha=SHOP.alpha / 7, a=SHOP.a, b=SHOP.b)
    assert measured(in_weeks, past, 7, prior=True) == measured(SHOP, past, 1, prior=True)


def test_what_cannot_be_measured_is_assumed():
    past = drawn(50, 0.0)
    once = past.seen.x == 0
    none_often = Past(DAYS, Seen(*(column[once] for column in past.seen)))
    for nothing in (None, none_often):
        assert measured(SHOP, nothing, 1, prior=True) == UNSTEADINESS.median
        assert measured(SHOP, nothing, 1, prior=False) == 0
    few = drawn(60, 0.0, seed=3)
    assert 0.2 < measured(SHOP, few, 1, prior=True) / UNSTEADINESS.median < 2


def test_many_are_measured_by_a_part_whatever_their_order():
    past = drawn(60_000, 0.2)
    order = np.random.default_rng(5).permutation(past.seen.x.size)
    shuffled = Past(DAYS, Seen(*(column[order] for column in past.seen)))
    found = measured(SHOP, past, 1, prior=True)
    assert measured(SHOP, shuffled, 1, prior=True) == found
    assert found == pytest.approx(unsteadiness(0.2), rel=0.6)


def test_one_customer_does_not_decide():
    past = drawn(2_000, 0.1)
    giant = (np.append(*each) for each in zip(past.seen, (9, 90, 99, 1_000), strict=True))
    found, shaken = (
        measured(SHOP, each, 1, prior=True) for each in (past, Past(DAYS, Seen(*giant)))
    )
    assert shaken < 2 * found


SPEND = GammaGamma(p=6.0, q=4.0, v=20.0)


def paid(customers, change, seed=4):
    """The halves of ten purchases each; between them everybody's mean value changes."""
    rng = np.random.default_rng(seed)
    rate = rng.gamma(SPEND.q, 1 / SPEND.v, customers)
    early, later = rng.integers(3, 12, customers), rng.integers(3, 12, customers)
    factor = 1 / rng.gamma(1 / change + 1, change, customers) if change else np.ones(customers)
    return Halves(
        early.astype(float),
        rng.gamma(SPEND.p * early) / rate,
        later.astype(float),
        rng.gamma(SPEND.p * later) / rate * factor,
    )


def inside(spend, halves, *, exact):
    """Of the second halves, whose numbers are known; exact: with what is published as a gamma
    variable of the same mean and variance."""
    days, later = halves.days, halves.later_days
    mean = halves.gross / days
    expected = later * spend.expected_order_value(days, mean)
    if exact:
        shape = spend.shape_to_come(days)
        scale = expected / (spend.p * later) * (shape - 1)
        low, high = (betaprime.ppf(each, spend.p * later, shape) * scale for each in (0.1, 0.9))
    else:
        certain = Counts(np.ones_like(days), later, later, later, later**2)
        low, high = (each * expected for each in spend.relative_quantiles(certain, days, mean))
    return np.mean((halves.later_gross >= low) & (halves.later_gross <= high))


@pytest.mark.parametrize("change", [0.05, 0.15])
def test_values_that_change_are_found_and_make_intervals_of_money_right(change):
    halves = paid(4_000, change)
    found = SPEND.with_unsteadiness(measured_value(SPEND, halves, prior=True))
    assert inside(SPEND, halves, exact=True) < 0.76
    assert inside(found, halves, exact=True) == pytest.approx(0.8, abs=0.025)
    # The tail is longer than that of a gamma variable, so that this is rather wide.
    assert 0.8 < inside(found, halves, exact=False) < 0.9


def test_values_that_stay_are_found_steady():
    halves = paid(4_000, 0.0)
    assert measured_value(SPEND, halves, prior=False) < 0.03
    assert inside(SPEND, halves, exact=True) == pytest.approx(0.8, abs=0.02)
    giant = 5, 1, 5, 1e9
    more = Halves(*(np.append(*each) for each in zip(halves, giant, strict=True)))
    assert measured_value(SPEND, more, prior=True) < 0.05


def test_values_that_cannot_be_measured_are_assumed():
    nobody = Halves(*np.zeros((4, 0)))
    for halves in (None, nobody):
        assert measured_value(SPEND, halves, prior=True) == VALUE_UNSTEADINESS.median
        assert measured_value(SPEND, halves, prior=False) == 0
    with pytest.raises(ValueError, match="unsteadiness is -1"):
        SPEND.with_unsteadiness(-1.0)


@pytest.mark.parametrize(
    "model",
    [
        MbgNbd(r=0.5, alpha=6.0, a=0.9, b=1.6),
        BgNbd(r=0.25, alpha=4.4, a=0.8, b=2.4),
        ParetoNbd(r=0.55, alpha=10.6, s=0.6, beta=11.7),
    ],
)
class TestOfAModel:
    x, t_x, age = np.array([[0.0, 4, 20], [0, 30, 36], [39, 38, 39]])

    def test_only_what_is_to_come_changes(self, model):
        changing = model.with_unsteadiness(0.2)
        seen = self.x, self.t_x, self.age
        np.testing.assert_array_equal(changing.p_alive(*seen), model.p_alive(*seen))
        np.testing.assert_array_equal(changing.log_likelihood(*seen), model.log_likelihood(*seen))
        assert changing.with_unsteadiness(0.0) == model != changing

    def test_intervals_of_those_who_buy_often_widen(self, model):
        seen = self.x, self.t_x, self.age
        steady = model.purchase_counts(52.0, *seen)
        changing = model.with_unsteadiness(0.2).purchase_counts(52.0, *seen)
        for narrow, wide in zip(steady, changing, strict=True):
            assert narrow[0] == wide[0]
        assert (changing.high[1:] >= steady.high[1:]).all()
        assert changing.high[2] > steady.high[2]
        assert (changing.square[1:] > steady.square[1:]).all()
        assert changing.mean == pytest.approx(steady.mean, rel=0.06)

    def test_it_is_the_law_that_it_says(self, model):
        """By simulation: a rate of the same mean, known as from x / (1 + .2 x) purchases."""
        rng = np.random.default_rng(2)
        draws, ahead, (x, t_x, age) = 200_000, 30.0, (20.0, 36.0, 39.0)
        changing = model.with_unsteadiness(0.2)
        shape = model.r + x / 5.0
        rate = rng.gamma(shape, (model.r + x) / (model.alpha + age) / shape, draws)
        alive = rng.random(draws) < float(model.p_alive(x, t_x, age))
        if isinstance(model, ParetoNbd):
            life = rng.exponential(1 / rng.gamma(model.s, 1 / (model.beta + age), draws))
            count = rng.poisson(rate * np.minimum(life, ahead))
        else:
            k = x + model.occasions_before
            dropout = rng.beta(model.a, model.b + k, draws)
            stays = rng.geometric(dropout)
            count = np.minimum(rng.poisson(rate * ahead), stays)
        count = np.where(alive, count, 0)
        for n in (1, 5, 15, 30):
            told = float(changing.probability_of_at_least(n, ahead, x, t_x, age))
            assert np.mean(count >= n) == pytest.approx(told, abs=0.005)
        assert count.mean() == pytest.approx(
            float(changing.expected_purchases(ahead, x, t_x, age)), rel=0.01
        )

    def test_a_wrong_one_is_refused(self, model):
        for wrong in (-0.1, np.nan, np.inf):
            with pytest.raises(ValueError, match="unsteadiness is"):
                model.with_unsteadiness(wrong)
