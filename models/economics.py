"""What the shop decides: currency, margin, costs, horizon, calendar."""

from __future__ import annotations

import math
from datetime import UTC, date, datetime, tzinfo
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cached_property
from typing import Annotated
from zoneinfo import ZoneInfo

from pydantic import BaseModel, ConfigDict, Field, field_validator

from models.contracts.currencies import CURRENCIES

MONEY_SCALE = 10_000
"""Units in one unit of currency: money is summed in whole ten-thousandths."""

CHANNELS = ("email", "phone", "chat", "social", "web", "unknown")
"""Support channels, by their index in the stored state; the order never changes."""

MILLISECONDS_A_DAY = 86_400_000
EPOCH_ORDINAL = date(1970, 1, 1).toordinal()

MOST_REMEMBERED = 2_000
"""Of each kind. One of all kinds takes up to 521 bytes, so that this many, with all else that an
aggregate holds, are 1.1 MB; a record may have 4 MiB, of which 1.25 are the aggregate's."""

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class Economics(BaseModel):
    """Configuration of the value: everything that is a decision and not an observation.

    Money is in units of the reporting currency, rates are per year or per unit as named.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    currency: str = "USD"
    exchange_rates: dict[str, Decimal] = Field(default_factory=dict)
    """Reporting currency per one unit of another currency."""
    timezone: str = "UTC"
    margin: Share = 0.30
    """Margin of an order that carries no cost of goods."""
    horizon_days: Annotated[int, Field(ge=1, le=3660)] = 365
    discount_rate: NonNegative = 0.10
    """Per year; compounded continuously in the model's time unit."""
    contact_costs: dict[str, NonNegative] = Field(
        default_factory=lambda: {
            "email": 3.0,
            "phone": 8.0,
            "chat": 4.0,
            "social": 4.0,
            "web": 2.0,
            "unknown": 4.0,
        }
    )
    """Cost of a contact by channel, when neither its cost nor its handling time is known."""
    cost_of_a_minute: NonNegative = 0.60
    complaint_topics: frozenset[str] = frozenset({"complaint"})
    remembered: Annotated[int, Field(ge=1, le=MOST_REMEMBERED)] = 256
    """Orders, refunds and tickets of each customer that are remembered one by one."""

    @field_validator("currency")
    @classmethod
    def _known_currency(cls, value: str) -> str:
        if value not in CURRENCIES:
            raise ValueError(f"{value!r} is not an ISO 4217 currency code in force")
        return value

    @field_validator("exchange_rates")
    @classmethod
    def _positive_rates(cls, rates: dict[str, Decimal]) -> dict[str, Decimal]:
        for code, rate in rates.items():
            if code not in CURRENCIES:
                raise ValueError(f"{code!r} is not an ISO 4217 currency code in force")
            if not rate.is_finite() or not 0 < rate <= 1_000_000:
                raise ValueError(f"the rate of {code} must lie in (0, 1000000], not {rate}")
        return rates

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, name: str) -> str:
        ZoneInfo(name)
        return name

    @field_validator("contact_costs")
    @classmethod
    def _known_channels(cls, costs: dict[str, float]) -> dict[str, float]:
        unknown = sorted(set(costs) - set(CHANNELS))
        if unknown:
            raise ValueError(f"unknown channels {unknown}; the channels are {list(CHANNELS)}")
        return costs

    @cached_property
    def daily_discount(self) -> float:
        """Continuously compounded discount rate per day."""
        return math.log1p(self.discount_rate) / 365.0

    @cached_property
    def contact_units(self) -> tuple[int, ...]:
        """Cost of a contact in money units, by index of CHANNELS."""
        fallback = self.contact_costs.get("unknown", 0.0)
        return tuple(to_units(self.contact_costs.get(name, fallback)) for name in CHANNELS)

    @cached_property
    def minute_units(self) -> int:
        """Cost of a minute of handling in money units."""
        return to_units(self.cost_of_a_minute)

    @cached_property
    def margin_millionths(self) -> int:
        """The default margin as whole millionths, so that sums stay exact."""
        return round(self.margin * 1_000_000)

    @cached_property
    def _zone(self) -> tzinfo | None:
        return None if self.timezone == "UTC" else ZoneInfo(self.timezone)

    def accepts(self, currency: str) -> bool:
        """Tell whether amounts in this currency can be converted."""
        return currency == self.currency or currency in self.exchange_rates

    def convert(self, units: int, currency: str) -> int:
        """Money units of a currency in units of the reporting currency, rounded half to even."""
        if currency == self.currency:
            return units
        product = Decimal(units) * self.exchange_rates[currency]
        return int(product.to_integral_value(rounding=ROUND_HALF_EVEN))

    def day(self, milliseconds: int) -> int:
        """Ordinal of the calendar day in the shop's time zone."""
        if self._zone is None:
            return milliseconds // MILLISECONDS_A_DAY + EPOCH_ORDINAL
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
        return moment.astimezone(self._zone).toordinal()


def to_units(amount: float) -> int:
    """Money units (ten-thousandths) of an amount in currency."""
    return round(amount * MONEY_SCALE)


def from_units(units: int) -> float:
    """Amount in currency; exact to the ten-thousandth below 9e11."""
    return units / MONEY_SCALE
