"""What is assumed of a shop before its own customers say more."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from models.btyd import GammaPoisson, MbgNbd
from models.btyd.prior import UNSTEADINESS
from models.contracts.parameters import Parameters

VERSION: Final = "prior"
"""The version of these parameters, which a shop's first fit replaces."""


@lru_cache(maxsize=8)
def prior(currency: str) -> Parameters:
    """Return weak parameters for a shop that has none of its own.

    Purchases: the medians of the weak priors; docs/models.md says how good they are. A purchase
    is worth what the customer's own were worth so far. Contacts: one in ten purchases, until the
    customer's own outweigh it.
    """
    medians = {name: each.median for name, each in MbgNbd.weak_prior(7).items()}
    return Parameters(
        version=VERSION,
        model=MbgNbd.name,
        currency=currency,
        fitted_until=datetime(1970, 1, 1, tzinfo=UTC),
        customers=0,
        log_likelihood=0.0,
        purchases=MbgNbd(**medians).with_unsteadiness(UNSTEADINESS.median),
        contacts=GammaPoisson(shape=0.1, rate=1.0),
        contacts_per="purchase",
    )
