"""Everything that turns states into scores: economics, fitted parameters, segment rules."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from models.aggregate.state import Aggregate
from models.aggregate.summary import Summary
from models.contracts.parameters import Parameters
from models.economics import Economics
from models.features import Floats, Measured
from models.prior import prior
from models.scores import Decided, Scores
from models.segments import DEFAULT_RULES, Quantile, Rules
from models.timeline import Timeline, timeline_of
from models.value import Row, Values, value_row, values


@dataclass(frozen=True)
class Interpretation:
    """Economics, parameters and rules; build a new one when any of them changes.

    parameters: those that hold at any time, or a timeline; weak prior ones are used before them.
    rules: likewise; the default ones are used before them.
    """

    economics: Economics
    parameters: Parameters | Timeline[Parameters] | None = None
    rules: Rules | Timeline[Rules] | None = None

    @cached_property
    def timeline(self) -> Timeline[Parameters]:
        """The shop's parameters, and from when they hold."""
        return timeline_of(self.parameters)

    @cached_property
    def rules_timeline(self) -> Timeline[Rules]:
        """The shop's rules, and from when they hold."""
        return timeline_of(self.rules)

    def model_at(self, as_of: int, version: str = "") -> Parameters:
        """Return the parameters of a version, or those in force as of a time in milliseconds."""
        named = self.timeline.by_version.get(version) if version else None
        return named or self.timeline.at(as_of) or prior(self.economics.currency)

    def rules_at(self, as_of: int, version: str = "") -> Rules:
        """Return the rules of a version, or those in force as of a time in milliseconds."""
        named = self.rules_timeline.by_version.get(version) if version else None
        return named or self.rules_timeline.at(as_of) or DEFAULT_RULES

    @cached_property
    def entry_bytes(self) -> int:
        """The largest size in bytes of the stored changes of one evaluation."""
        return max(each.entry_bytes for each in (DEFAULT_RULES, *self.rules_timeline.published))

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
        self._rules: list[Rules] = []
        self._read: list[tuple[float | str, ...]] = []

    def add(
        self,
        state: Aggregate,
        summary: Summary,
        as_of: int,
        *,
        model: str = "",
        rules: str = "",
    ) -> int:
        """Add a customer as of a time in milliseconds since 1970; return the number of the row.

        summary: of the state. model, rules: versions to use; empty: those in force then.
        """
        by = self._by
        economics = by.economics
        today = economics.day(as_of)
        self._rows.append(value_row(summary, today, economics))
        self._models.append(by.model_at(as_of, model))
        chosen = by.rules_at(as_of, rules)
        self._rules.append(chosen)
        if chosen.read:
            measured = Measured(state, summary, today, economics)
            self._read.append(tuple([read(measured) for read in chosen.readers]))
        else:
            self._read.append(())
        return len(self._rows) - 1

    def scores(self) -> Scores:
        """Return values and segments of all rows."""
        scored = values(self._rows, self._models, self._by.economics)
        decided = {id(each): self._decided(each, scored) for each in _distinct(self._rules)}
        return Scores(scored, self._rules, self._models, decided)

    def _decided(self, rules: Rules, scored: Values) -> Decided:
        """Return the decisions of these rules; only their own rows mean anything."""
        nothing = (np.nan,) * len(rules.read)
        mine = zip(self._rules, self._read, strict=True)
        read = zip(*(row if own is rules else nothing for own, row in mine), strict=True)
        columns: dict[str, Any] = {each.name: each.of(scored) for each in rules.asked if each.of}
        for feature, column in zip(rules.read, read, strict=True):
            columns[feature.name] = np.array(column, dtype=feature.dtype)
        return Decided(rules, columns, _quantiles(rules, self._models), len(self._rows))


def _distinct(rules: Sequence[Rules]) -> Iterable[Rules]:
    return {id(each): each for each in rules}.values()


def _quantiles(rules: Rules, models: Sequence[Parameters]) -> dict[Quantile, Floats]:
    """Return the quantiles published with each row's parameters; nan for none.

    Of one length with the rows, or of length 1 if all have the same.
    """
    if len({id(model) for model in models}) == 1:
        models = models[:1]
    return {
        each: np.array([model.quantile(each.feature, each.name) for model in models])
        for each in rules.quantiles
    }
