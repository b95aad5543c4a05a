"""The distribution of purchases to come, for each model: quantiles and moments."""

import numpy as np
import pytest

from models.btyd import MODELS, BgNbd, GammaGamma, MbgNbd
from models.btyd._counts import Counts

from .test_models_of_purchases import EXAMPLES

X = np.array([0, 0, 1, 2, 7, 40, 12.0])
T_X = np.array([0, 0, 3, 30, 50, 51, 2.0])
T = np.array([0, 80, 4, 39, 52, 52, 60.0])


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("t", [0.5, 52.0])
def test_quantiles_and_moments_are_those_of_the_distribution(name, t):
    model = EXAMPLES[name]
    found = model.purchase_counts(t, X, T_X, T)
    np.testing.assert_allclose(
        found.any, model.probability_of_at_least(1, t, X, T_X, T), rtol=1e-12
    )
    for share, number in ((0.1, found.low), (0.9, found.high)):
        np.testing.assert_array_equal(number, model.quantile(share, t, X, T_X, T))
    at_least = np.array([model.probability_of_at_least(n, t, X, T_X, T) for n in range(1, 400)])
    np.testing.assert_allclose(found.mean, at_least.sum(axis=0), rtol=0.01)
    odd = 2 * np.arange(1, 400) - 1
    np.testing.assert_allclose(found.square, odd @ at_least, rtol=0.05)


def test_nobody_depends_on_whoever_else_there_is():
    model = MbgNbd(0.5, 10.0, 0.7, 2.5)
    together = model.purchase_counts(52.0, X, T_X, T)
    for row in range(X.size):
        alone = model.purchase_counts(52.0, X[row], T_X[row], T[row])
        for one, of_all in zip(alone, together, strict=True):
            assert one[0] == of_all[row]


def test_what_underflows_is_nobodys_purchase_or_everybodys():
    """Two thousand purchases so far, and silent for ever, or never."""
    model = MbgNbd(0.5, 10.0, 0.7, 2.5)
    gone = model.purchase_counts(52.0, 2_000, 2_000, 5_000)
    assert (gone.any[0], gone.high[0], gone.mean[0]) == (0.0, 0.0, 0.0)
    here = model.purchase_counts(52.0, 2_000, 2_000, 2_000)
    assert here.any[0] > 0.99
    assert here.low[0] <= 52 <= here.high[0] + 10


def test_hardly_any_purchase_to_come_has_a_spread_all_the_same():
    hardly = np.array([0.0, 1e-310, 1e-200, 1e-155])
    ahead = Counts(hardly, hardly * 0, hardly * 0, hardly, hardly)
    spend = GammaGamma(6.25, 3.74, 15.44)
    with np.errstate(divide="raise", invalid="raise"):
        assert np.isfinite(spend.relative_square(ahead, 2, 25.55)).all()
        low, high = spend.relative_quantiles(ahead, 2, 25.55)
    assert not low.any()
    assert not high.any()


def test_spending_has_the_quantiles_of_the_oracle():
    """The .9 quantile of spend at 40 digits is 94.06 for this customer, with a P(<= 50) of .748."""
    model, spend = BgNbd(0.243, 4.414, 0.793, 2.426), GammaGamma(6.25, 3.74, 15.44)
    seen = (2, 30.43, 38.86)
    ahead = model.purchase_counts(39.0, *seen)
    _, high = spend.relative_quantiles(ahead, 2, 25.55)
    mean = float(ahead.mean[0]) * float(spend.expected_order_value(2, 25.55))
    assert float(high[0]) * mean == pytest.approx(94.06046298717639, rel=0.05)
