"""What a feature is: a number, or a text, that segment rules may use."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import Final, Literal

import numpy as np
from numpy.typing import NDArray

from models.aggregate.state import Aggregate
from models.aggregate.summary import Summary
from models.aggregate.windows import Window, rolling_windows
from models.economics import Economics
from models.features.satisfaction import Support, support_of
from models.features.seasons import Season, season_of
from models.value import Values

Floats = NDArray[np.float64]
Columns = Mapping[str, NDArray[np.float64] | NDArray[np.str_]]
"""Features of many customers by name; those that are texts as texts."""

NEVER: Final = "never"
UNBOUGHT: Final = "before the first order"
ONCE: Final = "with fewer than two purchase days"
TWICE: Final = "with fewer than three purchase days"

DAYS, MONEY, SHARE, TEXT = "days", "money", "0 to 1", "text"


class Silence(Enum):
    """How a feature moves while nothing happens to the customer, under the same parameters."""

    STAYS = "stays"
    DAILY = "daily"
    """One that is read from the state grows by one a day."""
    STEPS = "in steps"
    """It changes when an entry leaves its window, or when a season ends."""


class Measured:
    """One customer as of a day, for features that are computed from the state.

    today: ordinal of the day in the shop's time zone. What several features share is computed once.
    """

    __slots__ = ("_season", "_support", "_windows", "aggregate", "economics", "summary", "today")

    def __init__(
        self, aggregate: Aggregate, summary: Summary, today: int, economics: Economics
    ) -> None:
        self.aggregate = aggregate
        self.summary = summary
        self.today = today
        self.economics = economics
        self._windows: dict[str, Window] | None = None
        self._season: Season | None = None
        self._support: Support | None = None

    @property
    def windows(self) -> dict[str, Window]:
        """The rolling windows that end today, by their length in days."""
        if self._windows is None:
            self._windows = rolling_windows(
                self.aggregate, self.today, self.economics, self.summary
            )
        return self._windows

    @property
    def season(self) -> Season:
        """In which months and years the customer bought."""
        if self._season is None:
            self._season = season_of(self.summary.months, self.today)
        return self._season

    @property
    def support(self) -> Support:
        """How content the customer said to be, and what is open."""
        if self._support is None:
            self._support = support_of(self.aggregate)
        return self._support


@dataclass(frozen=True)
class Feature:
    """A number that rules can use, or a text if its unit is `TEXT`.

    Exactly one of two functions is given. of: returns its column from the values of many customers.
    read: computes it from one customer's state, only while a rule uses it.
    missing: when it is nan, or an empty text; then no comparison holds. silence: how it moves while
    nothing happens. way: -1 if it never rises meanwhile, 1 if it never falls, 0 if it may do both.
    steps: yields the ordinals of the days after today on which one that moves in steps may do so;
    monthly: whether months begin with them.
    label: what a sentence calls it, if not by its name.
    """

    name: str
    unit: str
    meaning: str
    of: Callable[[Values], Floats] | None = None
    read: Callable[[Measured], float | str] | None = None
    missing: str = NEVER
    silence: Silence = Silence.STAYS
    way: Literal[-1, 0, 1] = 0
    steps: Callable[[Measured], Iterable[int]] | None = None
    monthly: bool = False
    label: str = ""

    @cached_property
    def said(self) -> str:
        """What a sentence calls it."""
        return self.label or self.name.replace("_", " ")

    @property
    def is_text(self) -> bool:
        """Whether rules compare it with texts."""
        return self.unit == TEXT

    @property
    def dtype(self) -> type[float] | type[str]:
        """Of its column."""
        return str if self.is_text else float

    @property
    def in_silence(self) -> str:
        """How it moves in silence, in words."""
        if self.silence is Silence.DAILY:
            return {-1: "falls daily", 0: "moves daily", 1: "rises daily"}[self.way]
        return {Silence.STAYS: "stays", Silence.STEPS: "moves in steps"}[self.silence]
