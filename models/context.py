"""Everything that turns states into scores: economics, fitted parameters, segment rules."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.aggregate.state import Aggregate
from models.aggregate.summary import Summary
from models.calendar import next_month_begins
from models.contracts.parameters import Parameters
from models.due import moment_of
from models.economics import Economics
from models.features import Floats, Measured
from models.features.reach import SLACK, Reach
from models.prior import prior
from models.refresh import Refresh, tolerance
from models.scores import Decided, Scores
from models.segments import DEFAULT_RULES, Quantile, Rules
from models.segments.steady import surely_steady
from models.standing import NO_DAY, Point, Standing
from models.timeline import NEVER, Timeline, timeline_of
from models.value import Row, Values, columns, grouped, moved, value_row, valued_each


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

    def search_by(self, model: Parameters, rules: Rules) -> int:
        """Return a number that stands for all that decides when comparisons turn in a silence."""
        key = model.version, rules.version
        known = self._searched_by.get(key)
        if known is None:
            text = " ".join((*key, self.economics.fingerprint))
            known = self._searched_by[key] = zlib.crc32(text.encode())
        return known

    @cached_property
    def _searched_by(self) -> dict[tuple[str, str], int]:
        return {}

    def next_start(self, moment: int) -> int:
        """Return when other parameters or rules come into force after a time; or NEVER."""
        return min(self.timeline.next_start(moment), self.rules_timeline.next_start(moment))

    def standing(
        self,
        state: Aggregate,
        summary: Summary,
        as_of: int,
    ) -> Standing:
        """Return what a customer is scored from as of a time in milliseconds since 1970.

        summary: of the state.
        """
        today = self.economics.day(as_of)
        chosen = self.rules_at(as_of)
        read: tuple[float | str, ...] = ()
        if chosen.read:
            measured = Measured(state, summary, today, self.economics)
            read = tuple([each(measured) for each in chosen.readers])
        step = self.next_step(chosen, read, state, summary, today)
        row, day, model = self.point(summary, as_of)
        return Standing(row, day, model, chosen, read, step)

    def next_step(
        self,
        rules: Rules,
        read: tuple[float | str, ...],
        state: Aggregate,
        summary: Summary,
        today: int,
    ) -> int:
        """Return the day after a day on which a feature may move in a step that matters, or NO_DAY.

        read: the features that are read from the state.
        """
        if not rules.watched.steps or not rules.heeds_steps(read):
            return NO_DAY
        measured = Measured(state, summary, today, self.economics)
        steps = (each.steps(measured) for each in rules.watched.steps if each.steps is not None)
        return min(chain.from_iterable(steps), default=NO_DAY)

    def point(self, summary: Summary, as_of: int) -> Point:
        """Return what a customer's value is computed from as of a time in milliseconds since 1970.

        summary: of their state.
        """
        today = self.economics.day(as_of)
        day = max(today, summary.last_day) if summary.orders else today
        return Point(value_row(summary, today, self.economics), day, self.model_at(as_of))

    def pivots(
        self, state: Aggregate, summary: Summary, begins: int, first: Standing, until: int
    ) -> tuple[list[tuple[int, Standing]], int]:
        """Return each moment in (begins, until] from which something else scores a customer.

        Other parameters or rules come into force then, or a feature has moved in a step. first:
        what they are scored from when the time begins. The second result is when a feature may move
        in a step after that time, or NEVER.
        """
        found: list[tuple[int, Standing]] = []
        last, standing, known = begins, first, first
        while True:
            step = NEVER
            if known.step != NO_DAY:
                step = moment_of(known.step, last, self.economics)
            last = min(self.next_start(last), step)
            if last > until:
                return found, step
            known = self.standing(state, summary, last)
            if known.otherwise_than(standing):
                standing = known
                found.append((last, standing))

    @cached_property
    def last_start(self) -> int:
        """When parameters or rules come into force for the last time."""
        return max(self.timeline.last_start, self.rules_timeline.last_start)

    def alike_until(self, moment: int, day: int) -> int:
        """Return until when only days pass after a score, in milliseconds since 1970, at least.

        Then other parameters or rules may come into force, or a feature move in a step. day: of the
        score, or a later one.
        """
        until = self._step_after.get(day)
        if until is None:
            until = self._step_after[day] = self._may_step(day)
        return until if moment >= self.last_start else min(until, self.next_start(moment))

    @cached_property
    def _step_after(self) -> dict[int, int]:
        return {}

    def _may_step(self, day: int) -> int:
        rules = (DEFAULT_RULES, *self.rules_timeline.published)
        steps = [feature for each in rules for feature in each.watched.steps]
        if not steps:
            return NEVER
        monthly = all(each.monthly for each in steps)
        return self.economics.day_begins(next_month_begins(day) if monthly else day + 1)

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
    refresh: when the value of a silent customer is published again; None: with a segment change.
    explained: whether updates say what has moved the value.
    """

    erasure_key: bytes = b""
    first_version: int = 0
    refresh: Refresh | None = None
    explained: bool = False


class Rows:
    """Customers to score together."""

    def __init__(self, interpretation: Interpretation) -> None:
        self._by = interpretation
        self._rows: list[Row[int]] = []
        self._models: list[Parameters] = []
        self._rules: list[Rules] = []
        self._read: list[tuple[float | str, ...]] = []
        self._days: list[int] = []
        self._ahead: list[int] = []
        """Days that pass until a row is scored; only those added by `add_standing` have any."""
        self._scored: _Scored | None = None

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
        self._days.append(max(today, summary.last_day) if summary.orders else today)
        self._ahead.append(0)
        if chosen.read:
            measured = Measured(state, summary, today, economics)
            self._read.append(tuple([read(measured) for read in chosen.readers]))
        else:
            self._read.append(())
        return len(self._rows) - 1

    def add_standing(self, standing: Standing, day: int) -> int:
        """Add a customer as they stand on a day, before the next step; return the row's number."""
        ahead = max(day - standing.day, 0)
        self._rows.append(standing.row)
        self._models.append(standing.model)
        self._rules.append(standing.rules)
        self._days.append(standing.day + ahead)
        self._ahead.append(ahead)
        self._read.append(standing.read)
        return len(self._rows) - 1

    def day(self, row: int) -> int:
        """Return the ordinal of the day as of which a row is scored."""
        return self._days[row]

    def point(self, row: int) -> Point:
        """Return what the value of a row is computed from."""
        of = self.standing(row)
        return Point(of.row, of.day, of.model)

    def standing(self, row: int) -> Standing:
        """Return how a customer stands, without the next step of a feature."""
        day, of = self._days[row], (self._models[row], self._rules[row], self._read[row])
        return Standing(self._rows[row], day - self._ahead[row], *of, NO_DAY).on(day)

    def scores(self) -> Scores:
        """Return values and segments of all rows.

        Percentiles are computed of those rows only that are published, unless rules ask for them.
        """
        economics, used = self._by.economics, _distinct(self._rules)
        spread = any(each.watched.spread for each in used)
        ahead, of = np.array(self._ahead, np.float64), columns(self._rows)
        if ahead.any():
            of = moved(of, ahead)
        scored = valued_each(of, self._models, economics, spread=spread)
        decided = {id(each): self._decided(each, scored, ahead) for each in used}
        self._scored = _Scored(scored, decided)
        return Scores(
            of, scored, self._rules, self._models, decided, economics=economics, spread=spread
        )

    def _decided(self, rules: Rules, scored: Values, ahead: Floats) -> Decided:
        """Return the decisions of these rules; only their own rows mean anything."""
        nothing = (np.nan,) * len(rules.read)
        mine = zip(self._rules, self._read, strict=True)
        read = zip(*(row if own is rules else nothing for own, row in mine), strict=True)
        asked: dict[str, Any] = {each.name: each.of(scored) for each in rules.asked if each.of}
        daily = rules.read_daily or (False,) * len(rules.read)
        for feature, column, moves in zip(rules.read, read, daily, strict=True):
            values = np.array(column, dtype=feature.dtype)
            asked[feature.name] = values + ahead if moves else values
        return Decided(rules, asked, _quantiles(rules, self._models), len(self._rows))

    def rules(self, row: int) -> Rules:
        """Return the rules that apply to a row."""
        return self._rules[row]

    def read(self, row: int) -> tuple[float | str, ...]:
        """Return the features of a row that are read from the state."""
        return self._read[row]

    def apart(
        self, pairs: Sequence[tuple[int, int]]
    ) -> tuple[NDArray[np.intp], NDArray[np.intp], NDArray[np.intp], NDArray[np.intp]]:
        """Return those pairs of rows of which the second is of a later day.

        As their first and their second rows, how many days are between, and their numbers.
        """
        days, of = np.array(self._days, np.intp), np.array(pairs, np.intp).reshape(-1, 2)
        between = days[of[:, 1]] - days[of[:, 0]]
        later = np.flatnonzero(between > 0)
        return of[later, 0], of[later, 1], between[later], later

    def steady(
        self,
        rows: NDArray[np.intp],
        ahead: NDArray[np.intp],
        *,
        steps: bool = False,
        refresh: Refresh | None = None,
    ) -> NDArray[np.bool_]:
        """Return which rows, scored before, surely keep their segments in so much silence.

        ahead: days, of each. steps: whether features may move in steps meanwhile. refresh: their
        value, too, surely keeps within it.
        """
        assert self._scored is not None  # noqa: S101 - the caller has scored them.
        scored, decided = self._scored
        steady = np.zeros(len(rows), np.bool_)
        days = ahead.astype(np.float64)
        for which, rules, model in self._groups(rows):
            mine = rows[which]
            of = decided[id(rules)]
            reach = Reach(of.columns, scored, mine, days[which], model, steps=steps)
            steady[which] = surely_steady(rules.tables, of.held, mine, reach)
            if refresh is not None:
                clv, expected = scored.clv[mine], scored.expected[mine]
                within = tolerance(clv, expected, refresh) * (1.0 - SLACK)
                low, high = reach.value()
                steady[which] &= (clv - low <= within) & (high - clv <= within)
        return steady

    def _groups(
        self, rows: NDArray[np.intp]
    ) -> Iterable[tuple[NDArray[np.intp] | slice, Rules, Parameters]]:
        """Return which of these rows the same rules and parameters apply to."""
        if len(set(map(id, self._rules))) == 1 and len(set(map(id, self._models))) == 1:
            yield slice(None), self._rules[0], self._models[0]
            return
        each = [(id(self._rules[row]), id(self._models[row])) for row in rows.tolist()]
        for which in grouped(each):
            row = int(rows[which[0]])
            yield np.array(which, np.intp), self._rules[row], self._models[row]


class _Scored(NamedTuple):
    """Values of all rows, and the decisions of each version of rules, by their identity."""

    values: Values
    decided: Mapping[int, Decided]


def _distinct(rules: Sequence[Rules]) -> list[Rules]:
    return list({id(each): each for each in rules}.values())


def _quantiles(rules: Rules, models: Sequence[Parameters]) -> dict[Quantile, list[float]]:
    """Return the quantiles published with each row's parameters; nan for none.

    Of one length with the rows, or of length 1 if all have the same.
    """
    if len({id(model) for model in models}) == 1:
        models = models[:1]
    return {
        each: [model.quantile(each.feature, each.name) for model in models]
        for each in rules.quantiles
    }
