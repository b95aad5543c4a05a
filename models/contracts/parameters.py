"""Fitted parameters, as published on `clv.models` and as read from a file."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal

from pydantic import (
    AwareDatetime,
    BaseModel,
    ConfigDict,
    Field,
    ValidationInfo,
    field_serializer,
    field_validator,
    model_validator,
)

from models.btyd import GammaGamma, GammaPoisson, PurchaseModel, model_of
from models.quantiles import TIERS

Finite = Annotated[float, Field(allow_inf_nan=False)]

TIME_UNIT_DAYS = {"day": 1, "week": 7}


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


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
    """Everything that was fitted on a population, and a description of that population."""

    version: Annotated[str, Field(min_length=1, max_length=100)]
    model: str = "bg-nbd"  # In documents that do not say.
    """Name of the model of purchases: a key of `models.btyd.MODELS`."""
    time_unit: Literal["day", "week"] = "day"
    currency: str
    fitted_until: AwareDatetime
    holds_from: AwareDatetime | None = None
    """Scores as of this time and later use them; None: all scores, of any time."""
    customers: Annotated[int, Field(ge=0)]
    log_likelihood: Finite
    purchases: PurchaseModel
    """The model of that name, in the time unit; in JSON, its parameters and any unsteadiness."""
    covariance: tuple[tuple[Finite, ...], ...] | None = None
    """Of the logarithms of the parameters of purchases, in their order; None if not known."""
    complaint_weight: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 1.0
    """Occasions to drop out that one counts for if a complaint followed it; 1: no effect."""
    order_value: GammaGamma | None = None
    """Of all purchases, in the reporting currency."""
    margin_share: Finite | None = None
    """Share of the revenue of orders with a cost of goods that is margin; None if none has one."""
    contacts: GammaPoisson | None = None
    contacts_per: Literal["purchase", "time"] = "time"
    """What contacts are counted by: purchases, or units of the time that a customer is alive."""
    refund_rate: Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)] = 0.0
    """Share of gross order value that is refunded later, net of recovered cost, without returns."""
    tiers: TierThresholds | None = None
    quantiles: dict[str, dict[str, Finite]] = Field(default_factory=dict)
    """Of the features of the population, by feature and name (`models.quantiles`)."""

    @field_validator("purchases", mode="plain")
    @classmethod
    def _of_the_model(cls, given: Any, info: ValidationInfo) -> PurchaseModel:
        name = info.data.get("model", "")
        if isinstance(given, PurchaseModel):
            if given.name != name:
                raise ValueError(f"{given.title} is not the model {name!r}")
            return given
        if not isinstance(given, dict):
            raise ValueError("an object with the model's parameters by name is needed")  # noqa: TRY004
        return model_of(name, given)

    @field_serializer("purchases")
    def _by_name(self, model: PurchaseModel) -> dict[str, float]:
        return model.document()

    def quantile(self, feature: str, name: str) -> float:
        """Return a quantile of a feature, or a tier's threshold; nan if it is not published."""
        if self.tiers is not None and feature == "clv" and name in TIERS:
            return self.tiers.gold if name == "gold" else self.tiers.silver
        return self.quantiles.get(feature, {}).get(name, math.nan)

    def held_always(self) -> Parameters:
        """Return these parameters for scores as of any time."""
        return self.model_copy(update={"holds_from": None})

    @property
    def unit_days(self) -> int:
        """Days in the model's time unit."""
        return TIME_UNIT_DAYS[self.time_unit]
