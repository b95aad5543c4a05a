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
from models.due import moment_of, quiet_days
from models.economics import Economics
from models.features import Floats, Measured
from models.prior import prior
from models.scores import Decided, Scores
from models.segments import DEFAULT_RULES, Quantile, Rules
from models.standing import NO_DAY, Standing
from models.timeline import Timeline, timeline_of
from models.value import Row, Values, columns, value_row, values_of


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

    def next_start(self, moment: int) -> int:
        """Return when other parameters or rules come into force after a time; or NEVER."""
        return min(self.timeline.next_start(moment), self.rules_timeline.next_start(moment))

    def standing(
        self,
        state: Aggregate,
        summary: Summary,
        as_of: int,
        *,
        model: str = "",
        rules: str = "",
    ) -> Standing:
        """Return what a customer is scored from as of a time in milliseconds since 1970.

        summary: of the state. model, rules: versions to use; empty: those in force then.
        """
        economics = self.economics
        today = economics.day(as_of)
        chosen = self.rules_at(as_of, rules)
        read: tuple[float | str, ...] = ()
        step = NO_DAY
        if chosen.read:
            measured = Measured(state, summary, today, economics)
            read = tuple([each(measured) for each in chosen.readers])
            for feature in chosen.watched.steps:
                if feature.steps is not None:
                    step = min(step, min(feature.steps(measured), default=NO_DAY))
        row = value_row(summary, today, economics)
        day = max(today, summary.last_day) if summary.orders else today
        return Standing(row, day, self.model_at(as_of, model), chosen, read, step)

    def pivots(
        self, state: Aggregate, summary: Summary, begins: int, first: Standing, until: int
    ) -> list[tuple[int, Standing]]:
        """Return each moment in (begins, until] from which something else scores a customer.

        Other parameters or rules come into force then, or a feature moves in a step. first: what
        they are scored from when the time begins.
        """
        found: list[tuple[int, Standing]] = []
        last, standing = begins, first
        while True:
            last = self.next_start(last) if standing.step == NO_DAY else self._next(last, standing)
            if last > until:
                return found
            standing = self.standing(state, summary, last)
            found.append((last, standing))

    def _next(self, moment: int, standing: Standing) -> int:
        step = moment_of(standing.step, moment, self.economics)
        return min(self.next_start(moment), step)

    @cached_property
    def stay_days(self) -> tuple[int, ...]:
        """The minimum stays of all rules, each once."""
        rules = (DEFAULT_RULES, *self.rules_timeline.published)
        return tuple(sorted({days for each in rules for days in each.stay_days}))

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
        self._rows: list[Standing] = []
        self.columns: Row[Floats]
        self.values: Values

    def add(self, standing: Standing) -> int:
        """Add a customer as of a time; return the number of the row."""
        self._rows.append(standing)
        return len(self._rows) - 1

    def __getitem__(self, row: int) -> Standing:
        """Return what a row is scored from."""
        return self._rows[row]

    def quiet_days(self, rows: Sequence[int]) -> list[int]:
        """Return for how many days no comparison of these rows, scored before, turns at least."""
        return quiet_days(self._rows, self.columns, self.values, rows, self._by.economics)

    def scores(self) -> Scores:
        """Return values and segments of all rows."""
        rows = self._rows
        models = [each.model for each in rows]
        rules = [each.rules for each in rows]
        self.columns = columns([each.row for each in rows])
        self.values = scored = values_of(self.columns, models, self._by.economics)
        decided = {id(each): self._decided(each, scored, models) for each in _distinct(rules)}
        return Scores(scored, rules, models, decided)

    def _decided(self, rules: Rules, scored: Values, models: Sequence[Parameters]) -> Decided:
        """Return the decisions of these rules; only their own rows mean anything."""
        nothing = (np.nan,) * len(rules.read)
        own = (each.read if each.rules is rules else nothing for each in self._rows)
        read = zip(*own, strict=True)
        columns: dict[str, Any] = {each.name: each.of(scored) for each in rules.asked if each.of}
        for feature, column in zip(rules.read, read, strict=True):
            columns[feature.name] = np.array(column, dtype=feature.dtype)
        return Decided(rules, columns, _quantiles(rules, models), len(self._rows))


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
