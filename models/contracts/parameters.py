"""Fitted parameters, as published on `clv.models` and as read from a file."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, model_validator

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Finite = Annotated[float, Field(allow_inf_nan=False)]

TIME_UNIT_DAYS = {"day": 1, "week": 7}


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class BgNbdParameters(_Strict):
    """BG/NBD (Fader, Hardie & Lee 2005), in the time unit of the parameters."""

    r: Positive
    alpha: Positive
    a: Positive
    b: Positive


class GammaGammaParameters(_Strict):
    """Gamma-Gamma (Fader & Hardie 2013), in the reporting currency; q > 1, or there is no mean."""

    p: Positive
    q: Annotated[float, Field(gt=1, allow_inf_nan=False)]
    v: Positive


class ContactParameters(_Strict):
    """Gamma-Poisson of support contacts, in the time unit of the parameters."""

    shape: Positive
    rate: Positive


class TierThresholds(_Strict):
    """Least value of the gold and the silver tier, in the reporting currency."""

    gold: Finite
    silver: Finite

    @model_validator(mode="after")
    def _in_order(self) -> TierThresholds:
        if self.silver > self.gold:
            raise ValueError(f"silver ({self.silver}) must not exceed gold ({self.gold})")
        return self


class Parameters(_Strict):
    """Everything that was fitted on a population, with what it was fitted on."""

    version: Annotated[str, Field(min_length=1, max_length=100)]
    model: Literal["bg-nbd"] = "bg-nbd"
    time_unit: Literal["day", "week"] = "day"
    currency: str
    fitted_until: AwareDatetime
    customers: Annotated[int, Field(ge=0)]
    log_likelihood: Finite
    purchases: BgNbdParameters
    order_value: GammaGammaParameters | None = None
    contacts: ContactParameters | None = None
    refund_rate: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    """Share of gross order value that comes to be refunded, net of recovered cost."""
    tiers: TierThresholds | None = None

    @property
    def unit_days(self) -> int:
        """Days in the model's time unit."""
        return TIME_UNIT_DAYS[self.time_unit]
