"""Every function against the same from its definition, with more digits and other means."""

import numpy as np
import pytest

from benchmarks.exactness import MODELS, WRONG, of_purchases, of_spend
from benchmarks.oracle import Customer, Long, log_gamma

FUNCTIONS = {
    "log-likelihood",
    "P(alive)",
    "time alive",
    "expected purchases",
    "probability of n or more",
    "discounted purchases",
    "discounted time alive",
}


def test_the_oracle_knows_what_was_computed_with_forty_digits():
    mbg = Customer(0.525, 6.183, 0.891, 1.614, 1, 2, 30.43, 38.86)
    bg = Customer(0.243, 4.414, 0.793, 2.426, 0, 10, 50, 60)
    assert float(mbg.log_likelihood()) == pytest.approx(-9.485551314533932, rel=1e-13)
    assert float(mbg.p_alive()) == pytest.approx(0.7062022651184873, rel=1e-13)
    assert float(mbg.purchases(39)) == pytest.approx(1.262960623267366, rel=1e-13)
    assert float(bg.purchases(52)) == pytest.approx(4.78331196768745, rel=1e-14)
    assert float(bg.at_least(10, 52)) == pytest.approx(0.1569818096277893, rel=1e-13)
    quick = Customer(0.05, 0.1, 40, 2.2, 1, 310, 1.25, 1.25)
    assert float(quick.purchases(389)) == pytest.approx(8.005128205128205, rel=1e-14)
    assert quick.discounted(389, 0.0)[0] == pytest.approx(8.005128205128205, rel=1e-13)
    assert mbg.discounted(39, 0.0027)[0] == pytest.approx(1.202757164833698, rel=1e-13)
    assert float(log_gamma(0.5)) == pytest.approx(float(np.log(np.pi * Long(1)) / 2), rel=1e-14)


@pytest.mark.parametrize("points", [40, pytest.param(1_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.filterwarnings("ignore::RuntimeWarning")
def test_random_and_extreme_customers(name, points):
    found = dict(of_purchases(name, points, points, peers=False))
    assert found.keys() == FUNCTIONS
    for function, errors in found.items():
        assert len(errors.ours) == points
        assert max(errors.ours) < WRONG, function


def test_the_value_of_a_purchase():
    for function, errors in of_spend(1_000):
        assert len(errors.ours) == 1_000
        assert max(errors.ours) < WRONG, function
