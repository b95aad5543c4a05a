"""Everything that turns states into scores: economics, fitted parameters, segment rules."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from models.aggregate.state import Aggregate
from models.aggregate.summary import Summary
from models.contracts.parameters import Parameters
from models.economics import Economics
from models.features import FEATURES, Feature, Floats, Measured
from models.prior import prior
from models.scores import Scores
from models.segments import DEFAULT_DIMENSIONS, Dimension
from models.timeline import Timeline, timeline_of
from models.value import Row, value_row, values


@dataclass(frozen=True)
class Interpretation:
    """Economics, parameters and rules; build a new one when any of them changes.

    parameters: those that hold at any time, or a timeline; weak prior ones are used before them.
    """

    economics: Economics
    parameters: Parameters | Timeline | None = None
    dimensions: tuple[Dimension, ...] = DEFAULT_DIMENSIONS

    @cached_property
    def timeline(self) -> Timeline:
        """The shop's parameters, and from when they hold."""
        return timeline_of(self.parameters)

    def model_at(self, as_of: int) -> Parameters:
        """The parameters that customers are valued with as of a time, in milliseconds."""
        return self.timeline.at(as_of) or prior(self.economics.currency)

    @cached_property
    def asked(self) -> tuple[Feature, ...]:
        """The features that rules use, each once."""
        names = {name: None for each in self.dimensions for name in each.evidence[-1]}
        return tuple(FEATURES[name] for name in names)

    @cached_property
    def read(self) -> tuple[Feature, ...]:
        """Those of them that are computed from each customer's state."""
        return tuple(feature for feature in self.asked if feature.read is not None)

    def rows(self) -> Rows:
        """Return an empty list of customers to score together."""
        return Rows(self)


@dataclass(frozen=True)
class Context(Interpretation):
    """An interpretation, and the engine's other settings.

    erasure_key: secret for the fingerprints of erased customers; it never changes.
    first_version: new customers start above it, so that versions grow even after a loss of state.
    """

    erasure_key: bytes = b""
    first_version: int = 0


class Rows:
    """Customers to score together."""

    def __init__(self, interpretation: Interpretation) -> None:
        self._by = interpretation
        self._rows: list[Row[int]] = []
        self._models: list[Parameters] = []
        self._read: list[tuple[float, ...]] = []

    def add(self, state: Aggregate, summary: Summary, as_of: int) -> int:
        """Add a customer as of a time in milliseconds since 1970; return the number of the row.

        summary: of the state.
        """
        economics = self._by.economics
        today = economics.day(as_of)
        self._rows.append(value_row(summary, today, economics))
        self._models.append(self._by.model_at(as_of))
        if self._by.read:
            measured = Measured(state, summary, today, economics)
            self._read.append(
                tuple(float(each.read(measured)) for each in self._by.read if each.read)
            )
        return len(self._rows) - 1

    def scores(self) -> Scores:
        """Return values and segments of all rows."""
        by = self._by
        scored = values(self._rows, self._models, by.economics)
        read = dict(
            zip((each.name for each in by.read), zip(*self._read, strict=True), strict=True)
        )
        return Scores(scored, by.dimensions, _bounds(self._models), by.asked, read)


def _bounds(models: list[Parameters]) -> dict[str, Floats]:
    """Return the bounds by name that were published with each row's parameters; nan for none."""
    if len({id(model) for model in models}) == 1:
        models = models[:1]
    bounds = [
        (np.nan, np.nan) if each.tiers is None else (each.tiers.gold, each.tiers.silver)
        for each in models
    ]
    gold, silver = np.array(bounds, dtype=np.float64).reshape(-1, 2).T
    return {"gold": gold, "silver": silver}
