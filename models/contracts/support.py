"""What help desks and surveys say about customers."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import ConfigDict, model_validator
from pydantic_core import PydanticCustomError

from models.contracts.fields import (
    Amount,
    Contract,
    CurrencyCode,
    EventData,
    Id,
    Label,
    MoneyText,
    Number,
    Score,
    Time,
)

SupportChannel = Literal["email", "phone", "chat", "social", "web"]
Priority = Literal["low", "normal", "high", "urgent"]
SurveyKind = Literal["nps", "csat", "ces"]


class Scale(Contract):
    """The worst and the best score that could have been given."""

    min: Number
    max: Number

    @model_validator(mode="after")
    def _is_an_interval(self) -> Self:
        if self.min >= self.max:
            raise PydanticCustomError(
                "empty_scale", "a scale whose min is less than its max", {"field": "min"}
            )
        return self


class Scored(EventData):
    """Something with a score that lies within its scale."""

    score: Score
    scale: Scale

    @model_validator(mode="after")
    def _lies_within_scale(self) -> Self:
        if not self.scale.min <= self.score <= self.scale.max:
            raise PydanticCustomError(
                "score_outside_scale",
                "a score within its scale, {low} to {high}",
                {"field": "score", "low": self.scale.min, "high": self.scale.max},
            )
        return self


class TicketOpened(EventData):
    """A customer asked for help."""

    time_field: ClassVar[str] = "opened_at"

    ticket_id: Id
    opened_at: Time
    channel: SupportChannel
    topic: Label | None = None
    priority: Priority | None = None
    complaint: bool = False


class TicketResolved(EventData):
    """A ticket was closed, with what it took: minutes, money or both."""

    model_config = ConfigDict(json_schema_extra={"dependentRequired": {"cost": ["currency"]}})

    time_field: ClassVar[str] = "resolved_at"

    ticket_id: Id
    resolved_at: Time
    handling_minutes: Amount | None = None
    cost: MoneyText | None = None
    currency: CurrencyCode | None = None

    @model_validator(mode="after")
    def _cost_has_currency(self) -> Self:
        if self.cost is not None and self.currency is None:
            raise PydanticCustomError(
                "cost_without_currency",
                "a currency together with the cost",
                {"field": "currency"},
            )
        return self


class TicketRated(Scored):
    """A customer rated how a ticket was handled."""

    time_field: ClassVar[str] = "rated_at"

    ticket_id: Id
    rated_at: Time


class SurveyAnswered(Scored):
    """A customer answered a survey: net promoter (nps), satisfaction (csat) or effort (ces)."""

    time_field: ClassVar[str] = "answered_at"

    survey_id: Id
    answered_at: Time
    kind: SurveyKind
