"""What a shop configures about money: currency, margin, costs, horizon, calendar."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cached_property
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, field_validator

from models.calendar import Days, time_zone, utc_day, utc_day_begins
from models.currencies import CODES, CURRENCIES, HOME, NUMBERS, WITHDRAWN
from models.errors import ClvError
from models.rates import DailyRates

MONEY_SCALE = 10_000
"""Units in one unit of currency: money is summed in whole ten-thousandths."""

CHANNELS = ("email", "phone", "chat", "social", "web", "unknown")
"""Support channels, by their index in the stored state; the order never changes."""

MOST_REMEMBERED = 2_000
"""Upper limit of `remembered`. With 2,000 entries of each kind, and all numbers as long as can be,
an aggregate has 1.36 MB. A stored record may have 4 MiB, of which the aggregate gets 11/8."""

PLACEHOLDERS = frozenset(
    {"null", "none", "nil", "nan", "n/a", "<na>", "undefined", "unknown", "anonymous", "guest"}
)
"""What is no id, in small letters: programs write it where an id is missing."""

NO_CUSTOMERS = PLACEHOLDERS | {"0"}
"""What is no id of a customer: some shops give all guests the number 0."""

NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]


class MissingRate(ClvError):
    """The state has an amount in a currency for which no exchange rate is configured."""


class Economics(BaseModel):
    """Configuration of the value: decisions of the shop, as opposed to observations.

    Money is in units of the reporting currency, rates are per year or per unit as named.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    currency: str = "USD"
    exchange_rates: dict[str, Decimal] = Field(default_factory=dict)
    """Reporting currency per one unit of another currency."""
    daily_rates: Annotated[DailyRates | None, Field(exclude=True)] = None
    """Rates by day, for currencies without one in `exchange_rates`; read from a file."""
    timezone: str = "UTC"
    margin: Share = 0.30
    """Margin of an order that carries no cost of goods."""
    lost_goods: Share = 0.0
    """Share of the cost of refunded goods that does not come back, where a refund does not say."""
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
    """How many orders, refunds and tickets of a customer are kept as registers, of each kind."""
    placeholder_ids: frozenset[str] = frozenset()
    """Placeholders that are ids in this shop, and are accepted as such."""

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
            if code not in CURRENCIES and code not in WITHDRAWN:
                raise ValueError(f"{code!r} is not an ISO 4217 currency code")
            if not rate.is_finite() or not 0 < rate <= 1_000_000:
                raise ValueError(f"the rate of {code} must lie in (0, 1000000], not {rate}")
        return rates

    @field_validator("timezone")
    @classmethod
    def _known_timezone(cls, name: str) -> str:
        time_zone(name)
        return name

    @field_validator("contact_costs")
    @classmethod
    def _known_channels(cls, costs: dict[str, float]) -> dict[str, float]:
        unknown = sorted(set(costs) - set(CHANNELS))
        if unknown:
            raise ValueError(f"unknown channels {unknown}; the channels are {list(CHANNELS)}")
        return costs

    @field_validator("placeholder_ids")
    @classmethod
    def _known_placeholders(cls, ids: frozenset[str]) -> frozenset[str]:
        words = frozenset(each.lower() for each in ids)
        if others := sorted(words - NO_CUSTOMERS):
            raise ValueError(f"{others} are accepted anyway; refused are {sorted(NO_CUSTOMERS)}")
        return words

    @cached_property
    def fingerprint(self) -> str:
        """What is configured, but for rates by day, as text that is the same in every process."""
        values = self.model_dump(mode="json") | {"complaint_topics": sorted(self.complaint_topics)}
        return json.dumps(values, sort_keys=True)

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
    def kept_millionths(self) -> int:
        """The share of the cost of refunded goods that comes back, as whole millionths."""
        return 1_000_000 - round(self.lost_goods * 1_000_000)

    @cached_property
    def home(self) -> int:
        """The number of the reporting currency in the stored state."""
        return NUMBERS[self.currency]

    @cached_property
    def day(self) -> Callable[[int], int]:
        """The ordinal of the calendar day, in the shop's time zone, of milliseconds since 1970."""
        return utc_day if self.timezone == "UTC" else self._days.of

    @cached_property
    def day_begins(self) -> Callable[[int], int]:
        """The first moment, in milliseconds since 1970, of a calendar day by its ordinal."""
        return utc_day_begins if self.timezone == "UTC" else self._days.begins

    @cached_property
    def _days(self) -> Days:
        return Days(self.timezone)

    def accepts(self, currency: str, day: int) -> bool:
        """Return whether amounts in this currency can be converted on a day, by its ordinal."""
        return currency == self.currency or self._rate(currency, day) is not None

    def knows(self, currency: str) -> bool:
        """Return whether there are rates for a currency, on some day at least."""
        return currency in (self.currency, *self.exchange_rates) or (
            self.daily_rates is not None and self.daily_rates.knows(currency)
        )

    def by_day(self, currency: int) -> bool:
        """Return whether rates of this currency, a number of `CODES`, differ by day."""
        code = CODES[currency]
        return (
            currency not in (HOME, self.home)
            and code not in self.exchange_rates
            and self.daily_rates is not None
            and self.daily_rates.knows(code)
        )

    def convert(self, units: int, currency: int, day: int) -> int:
        """Convert money units to the reporting currency at the rate of a day, half to even.

        currency: a number of `models.currencies.CODES`. day: an ordinal.

        Raises
        ------
        MissingRate
            if there is no rate for the currency.
        """
        if currency in (HOME, self.home):
            return units
        rate = self._rate(CODES[currency], day)
        if rate is None:
            raise MissingRate(self._missing(CODES[currency], day))
        return int((Decimal(units) * rate).to_integral_value(rounding=ROUND_HALF_EVEN))

    def _missing(self, currency: str, day: int) -> str:
        file = "" if self.daily_rates is None else self.daily_rates.file
        return (
            f"the state has an amount in {currency} of {date.fromordinal(day)}, for which there is "
            f"no rate to {self.currency}; add the rate of that day to "
            f"{file or 'a file of rates'} (CLV_RATES_FILE), or a fixed one to "
            "CLV_ECONOMICS__EXCHANGE_RATES, and start again"
        )

    def _rate(self, currency: str, day: int) -> Decimal | None:
        fixed = self.exchange_rates.get(currency)
        if fixed is not None or self.daily_rates is None:
            return fixed
        return self.daily_rates.rate(currency, self.currency, day)


def to_units(amount: float) -> int:
    """Convert an amount in currency to money units (ten-thousandths)."""
    return round(amount * MONEY_SCALE)


def from_units(units: int) -> float:
    """Convert money units to an amount in currency, exact to the ten-thousandth below 9e11."""
    return units / MONEY_SCALE
