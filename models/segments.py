"""Segments: ordered rules per dimension; the first rule that holds wins.

A dimension gives every customer exactly one segment. Rules use only the features in `FEATURES`, so
the same customer, parameters and as-of time always give the same segments.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from models.features import FEATURES, Floats


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Condition(_Strict):
    """`feature` compared with a number, or with a threshold published with the model."""

    feature: str
    is_: Literal["at least", "at most", "below", "above"] = Field(alias="is")
    bound: Annotated[float, Field(allow_inf_nan=False)] | Literal["gold", "silver"]

    @field_validator("feature")
    @classmethod
    def _known(cls, name: str) -> str:
        if name not in FEATURES:
            raise ValueError(f"unknown feature {name!r}; a rule may ask for {list(FEATURES)}")
        return name

    def holds(
        self, features: Mapping[str, Floats], bounds: Mapping[str, Floats]
    ) -> NDArray[np.bool_]:
        """Return which rows meet the condition; none where its named bound is nan."""
        values = features[self.feature]
        bound = bounds[self.bound] if isinstance(self.bound, str) else self.bound
        if self.is_ == "at least":
            return values >= bound
        if self.is_ == "at most":
            return values <= bound
        if self.is_ == "below":
            return values < bound
        return values > bound


class Rule(_Strict):
    """A segment and its conditions: all of `all_of` and, if there are any, one of `any_of`."""

    segment: Annotated[str, Field(min_length=1, max_length=60)]
    all_of: tuple[Condition, ...] = ()
    any_of: tuple[Condition, ...] = ()

    @property
    def features(self) -> tuple[str, ...]:
        """The features the rule looks at."""
        return tuple(condition.feature for condition in (*self.all_of, *self.any_of))

    def holds(
        self, features: Mapping[str, Floats], bounds: Mapping[str, Floats], size: int
    ) -> NDArray[np.bool_]:
        """Return for which of `size` rows the rule holds."""
        result = np.ones(size, dtype=np.bool_)
        for condition in self.all_of:
            result &= condition.holds(features, bounds)
        if self.any_of:
            either = np.zeros(size, dtype=np.bool_)
            for condition in self.any_of:
                either |= condition.holds(features, bounds)
            result &= either
        return result


class Dimension(_Strict):
    """An ordered list of rules; the last one holds for everybody."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,39}$")]
    rules: Annotated[tuple[Rule, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _last_is_for_everybody(self) -> Dimension:
        if self.rules[-1].all_of or self.rules[-1].any_of:
            last = self.rules[-1].segment
            raise ValueError(
                f"dimension {self.name!r}: the last rule ({last!r}) must have no conditions"
            )
        return self

    @cached_property
    def evidence(self) -> tuple[tuple[str, ...], ...]:
        """For each rule, the features of it and of the rules before it, each once."""
        seen: dict[str, None] = {}
        evidence = []
        for rule in self.rules:
            seen.update(dict.fromkeys(rule.features))
            evidence.append(tuple(seen))
        return tuple(evidence)

    @cached_property
    def entry_bytes(self) -> int:
        """The largest size in bytes of a stored change of this dimension with its evidence."""
        segment = max(len(rule.segment.encode()) for rule in self.rules) + 2
        return (
            len(self.name)
            + 2 * segment
            + sum(len(feature) + 11 for feature in self.evidence[-1])
            + 8
        )

    def classify(
        self, features: Mapping[str, Floats], bounds: Mapping[str, Floats], size: int
    ) -> NDArray[np.intp]:
        """Return the index of the first rule that holds, for each of `size` rows."""
        chosen = np.full(size, len(self.rules) - 1, dtype=np.intp)
        undecided = np.ones(size, dtype=np.bool_)
        for index, rule in enumerate(self.rules[:-1]):
            hit = undecided & rule.holds(features, bounds, size)
            chosen[hit] = index
            undecided &= ~hit
        return chosen


def _is(feature: str, comparison: str, bound: float | str) -> Condition:
    return Condition.model_validate({"feature": feature, "is": comparison, "bound": bound})


DEFAULT_DIMENSIONS = (
    Dimension(
        name="lifecycle",
        rules=(
            Rule(segment="prospect", all_of=(_is("orders", "below", 1),)),
            Rule(
                segment="new",
                all_of=(
                    _is("purchase_days", "at most", 1),
                    _is("days_since_last_order", "at most", 90),
                ),
            ),
            Rule(segment="active", all_of=(_is("p_purchase", "at least", 0.5),)),
            Rule(segment="needs attention", all_of=(_is("p_purchase", "at least", 0.25),)),
            Rule(
                segment="at risk",
                any_of=(
                    _is("p_purchase", "at least", 0.1),
                    _is("days_since_last_order", "at most", 90),
                ),
            ),
            Rule(segment="lost"),
        ),
    ),
    Dimension(
        name="tier",
        rules=(
            Rule(segment="gold", all_of=(_is("clv", "at least", "gold"),)),
            Rule(segment="silver", all_of=(_is("clv", "at least", "silver"),)),
            Rule(segment="bronze"),
        ),
    ),
    Dimension(
        name="behaviour",
        rules=(
            Rule(segment="none", all_of=(_is("orders", "below", 1),)),
            Rule(segment="one-time", all_of=(_is("purchase_days", "at most", 1),)),
            Rule(
                segment="seasonal",
                all_of=(_is("mean_gap", "at least", 300), _is("mean_gap", "at most", 430)),
            ),
            Rule(segment="collector", all_of=(_is("purchase_days", "at least", 10),)),
            Rule(segment="regular"),
        ),
    ),
)
"""Lifecycle, tier and behaviour. Lifecycle is the probability of a purchase within a year: of the
customers of CDNOW with .5 and more 76 % bought again, of those with .25 52 %, with .1 24 %.
Nobody is lost within three months: those few whom the model gives up so soon, because they used to
buy often, mostly come back. Tiers are quantiles published with the model."""
