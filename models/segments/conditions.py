"""Conditions: a feature compared with a number, or with a quantile of the population."""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Final, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from models.features import FEATURES, Floats
from models.quantiles import NAMES, TIERS, percent_of

Comparison = Literal["at least", "at most", "below", "above"]

OPERATORS: Final[Mapping[Comparison, Callable[[Any, Any], Any]]] = {
    "at least": operator.ge,
    "at most": operator.le,
    "below": operator.lt,
    "above": operator.gt,
}

OPPOSITE: Final[Mapping[Comparison, Comparison]] = {
    "at least": "below",
    "at most": "above",
    "below": "at least",
    "above": "at most",
}

Bound = Annotated[float, Field(allow_inf_nan=False)] | str
"""A number, or the name of a quantile of the feature: p90, or gold and silver of the value."""


class Quantile(NamedTuple):
    """A quantile of a feature that a rule compares with."""

    feature: str
    name: str


class Strict(BaseModel):
    """A part of the rules: immutable, and without unknown fields."""

    model_config = ConfigDict(
        frozen=True, extra="forbid", validate_by_name=True, serialize_by_alias=True
    )


class Condition(Strict):
    """`feature` compared with a bound; with `leave` instead for who is in the segment already."""

    feature: str
    is_: Comparison = Field(alias="is")
    bound: Bound
    leave: Bound | None = None
    """Weaker than `bound`, so that a customer near it does not go back and forth."""

    @field_validator("feature")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in FEATURES:
            raise ValueError(f"unknown feature {name!r}; a rule may ask for {list(FEATURES)}")
        return name

    @model_validator(mode="after")
    def _bounds(self) -> Condition:
        for bound in (self.bound, self.leave):
            if isinstance(bound, str):
                self._check_quantile(bound)
        enter, leave = self._comparable(self.bound), self._comparable(self.leave)
        same_kind = isinstance(self.bound, str) == isinstance(self.leave, str)
        if enter is None or leave is None or not same_kind:
            return self
        wider = leave < enter if self.is_ in ("at least", "above") else leave > enter
        if not wider:
            side = "below" if self.is_ in ("at least", "above") else "above"
            raise ValueError(
                f"leave is {self.leave}, and must be {side} the bound to enter, {self.bound}: a "
                f"customer enters where {self.feature} is {self.is_} {self.bound}, and leaves "
                "further out"
            )
        return self

    def _check_quantile(self, name: str) -> None:
        if percent_of(name) is None or (name in TIERS and self.feature != "clv"):
            raise ValueError(
                f"unknown quantile {name!r}: a bound is a number, or one of "
                f"{', '.join(NAMES)}; of clv also {', '.join(TIERS)}"
            )
        if FEATURES[self.feature].of is None:
            known = [each.name for each in FEATURES.values() if each.of is not None]
            raise ValueError(
                f"no quantiles of {self.feature} are published with the model; give a number, or "
                f"use one of {', '.join(known)}"
            )

    @staticmethod
    def _comparable(bound: float | str | None) -> float | None:
        return percent_of(bound) if isinstance(bound, str) else bound

    @property
    def quantiles(self) -> tuple[Quantile, ...]:
        """The quantiles that it compares with."""
        return tuple(
            Quantile(self.feature, bound)
            for bound in (self.bound, self.leave)
            if isinstance(bound, str)
        )

    def limit(self, *, leaving: bool) -> float | str:
        """Return the bound; leaving: of a customer who is in the segment already."""
        return self.leave if leaving and self.leave is not None else self.bound

    def holds(
        self,
        features: Mapping[str, Floats],
        quantiles: Mapping[Quantile, Floats],
        *,
        leaving: bool = False,
    ) -> NDArray[np.bool_]:
        """Return which rows meet the condition; none where its quantile is nan."""
        limit = self.limit(leaving=leaving)
        bound = quantiles[Quantile(self.feature, limit)] if isinstance(limit, str) else limit
        held: NDArray[np.bool_] = OPERATORS[self.is_](features[self.feature], bound)
        return held


def is_(
    feature: str, comparison: Comparison, bound: Bound, *, leave: Bound | None = None
) -> Condition:
    """Return a condition; for rules that are written in Python."""
    return Condition.model_validate(
        {"feature": feature, "is": comparison, "bound": bound, "leave": leave}
    )
