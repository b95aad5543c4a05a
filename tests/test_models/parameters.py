"""Parameters for tests: BG/NBD and Gamma-Gamma as published for CDNOW, in days."""

from datetime import UTC, datetime

from models.btyd import BgNbd, GammaGamma, GammaPoisson
from models.contracts.parameters import (
    Parameters,
    TierThresholds,
)

PARAMETERS = Parameters(
    version="cdnow-published",
    time_unit="week",
    currency="USD",
    fitted_until=datetime(1997, 9, 30, tzinfo=UTC),
    customers=2_357,
    log_likelihood=-9_582.429,
    purchases=BgNbd(r=0.2425945, alpha=4.4136019, a=0.7929199, b=2.4258881),
    order_value=GammaGamma(p=6.25, q=3.74, v=15.44),
    contacts=GammaPoisson(shape=0.5, rate=20.0),
    refund_rate=0.05,
    tiers=TierThresholds(gold=40.0, silver=15.0),
    quantiles={
        "expected": {"p40": 2.0, "p60": 5.0, "p75": 10.0, "p90": 15.0},
        "realised": {"p50": 10.0, "p60": 15.0, "p80": 30.0, "p90": 40.0},
    },
)
