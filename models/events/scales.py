"""Scores of surveys and ratings, each with its scale."""

from __future__ import annotations

from typing import Self

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from models.events.fields import Contract, EventData, Number, Score


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

    @property
    def share(self) -> float:
        """The score from 0 (worst) to 1 (best)."""
        return (self.score - self.scale.min) / (self.scale.max - self.scale.min)
