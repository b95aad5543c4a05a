"""The shop's settings, for the tests of its team."""

from decimal import Decimal

import pytest

from models.economics import Economics
from streams.settings import Settings
from streams.testing import shop_settings


@pytest.fixture
def clv_settings() -> Settings:
    """Euros, with a rate for pounds, and a margin of 40 %."""
    rates = {"GBP": Decimal("1.15")}
    return shop_settings(
        economics=Economics(currency="EUR", exchange_rates=rates, margin=0.4), partitions=2
    )
