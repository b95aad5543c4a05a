"""Conditions: a feature compared with a number, a quantile of the population, or texts."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Annotated, Any, Final, Literal, NamedTuple

import numpy as np
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from models.events.acquisitions import LONGEST_CHANNEL as LONGEST_TEXT
from models.features import FEATURES
from models.quantiles import NAMES, TIERS, percent_of

Comparison = Literal["at least", "at most", "below", "above", "one of", "none of"]
"""The last two are of texts."""


def _one_of(values: Any, texts: tuple[str, ...]) -> Any:
    return values in texts if isinstance(values, str) else np.isin(values, texts)


def _none_of(values: Any, texts: tuple[str, ...]) -> Any:
    return np.logical_not(_one_of(values, (*texts, "")))


OPERATORS: Final[Mapping[Comparison, Callable[[Any, Any], Any]]] = {
    "at least": operator.ge,
    "at most": operator.le,
    "below": operator.lt,
    "above": operator.gt,
    "one of": _one_of,
    "none of": _none_of,
}

OPPOSITE: Final[Mapping[Comparison, Comparison]] = {
    "at least": "below",
    "at most": "above",
    "below": "at least",
    "above": "at most",
    "one of": "none of",
    "none of": "one of",
}


def _bound(given: object) -> object:
    if isinstance(given, str):
        return given
    if isinstance(given, list | tuple):
        if 0 < len(given) <= MOST_TEXTS and all(isinstance(each, str) for each in given):
            return tuple(given)
        raise ValueError(f"a list of texts has 1 to {MOST_TEXTS}, each in quotes")
    if isinstance(given, bool) or not isinstance(given, int | float) or not math.isfinite(given):
        raise ValueError(
            "a bound is a number, or the name of a quantile in quotes; of texts, a list of them"
        )
    return float(given)


MOST_TEXTS: Final = 100

Bound = Annotated[float | str | tuple[str, ...], BeforeValidator(_bound)]
"""A number, or the name of a quantile of the feature: p90, or gold and silver of the value; of a
feature that is a text, the texts that it may have."""


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
            close = get_close_matches(name, FEATURES, 1)
            meant = f"; did you mean {close[0]!r}?" if close else ";"
            raise ValueError(
                f"unknown feature {name!r}{meant} `clv features` lists those there are"
            )
        return name

    @model_validator(mode="after")
    def _bounds(self) -> Condition:
        if FEATURES[self.feature].is_text or self.is_ in ("one of", "none of"):
            return self._check_texts()
        if isinstance(self.bound, tuple) or isinstance(self.leave, tuple):
            # pydantic makes an error of the rules of a ValueError only.
            raise ValueError(f"{self.feature} is a number: its bound is no list")  # noqa: TRY004
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

    def _check_texts(self) -> Condition:
        feature = FEATURES[self.feature]
        if not feature.is_text:
            raise ValueError(
                f"{self.feature} is a number, and {self.is_!r} compares texts; use at least, at "
                "most, below or above"
            )
        if self.is_ not in ("one of", "none of") or not isinstance(self.bound, tuple):
            raise ValueError(
                f"{self.feature} is a text: compare it with one of or none of a list of texts"
            )
        if self.leave is not None:
            raise ValueError(f"{self.feature} is a text, which has no bound to leave")
        for text in self.bound:
            if not 0 < len(text.encode()) <= LONGEST_TEXT:
                raise ValueError(
                    f"{text!r} is no text that {self.feature} can have: it has 1 to "
                    f"{LONGEST_TEXT} bytes"
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
    def _comparable(bound: Bound | None) -> float | None:
        if isinstance(bound, tuple):
            return None
        return percent_of(bound) if isinstance(bound, str) else bound

    @property
    def quantiles(self) -> tuple[Quantile, ...]:
        """The quantiles that it compares with."""
        return tuple(
            Quantile(self.feature, bound)
            for bound in (self.bound, self.leave)
            if isinstance(bound, str)
        )

    def limit(self, *, leaving: bool) -> Bound:
        """Return the bound; leaving: of a customer who is in the segment already."""
        return self.leave if leaving and self.leave is not None else self.bound


def is_(
    feature: str, comparison: Comparison, bound: Bound, *, leave: Bound | None = None
) -> Condition:
    """Return a condition; for rules that are written in Python."""
    return Condition.model_validate(
        {"feature": feature, "is": comparison, "bound": bound, "leave": leave}
    )
