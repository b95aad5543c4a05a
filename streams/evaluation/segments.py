"""How right segments are on a file of orders: fold week by week, decide as the engine does.

Each week's end all customers are scored with the parameters of that time, and put into segments by
where they were before. The models are fitted again every four weeks on what was known then.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import compress
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models import calendar
from models.aggregate.record import customers, decode_record, is_customer
from models.aggregate.state import Aggregate
from models.aggregate.summary import Summary
from models.btyd import FitError
from models.context import Context
from models.contracts.parameters import Parameters
from models.economics import Economics
from models.evaluation import Histories
from models.evaluation.segments import Course, Watch
from models.features import Feature, Floats, Measured, Silence
from models.fitting import fit_columns
from models.population import Halves, Past, Population
from models.prior import prior
from models.segments import Decisions, Dimension, Rules, decisions
from models.value import Row, valued
from streams.batch import BatchResult, Progress, fold_in_steps
from streams.evaluation.run import end_of
from streams.files.outgoing import OutgoingEvent

WEEK: Final = 7
REFIT: Final = 28
"""Days between two fits."""

FIRST_FIT: Final = 56
"""Days of data before the first fit; the prior parameters hold until then."""

_SPREAD: Final = frozenset({"expected_low", "expected_high"})


class _Known(NamedTuple):
    """What is known of customers with an order, as of a day; read: features from their states."""

    who: NDArray[np.int64]
    of: Row[Floats]
    read: dict[str, Any]


class _One(NamedTuple):
    """A customer's state, and the features read from it that stay in silence."""

    data: bytes
    number: int
    state: Aggregate
    summary: Summary
    staying: tuple[float | str, ...]


class _Everybody:
    """Reads what is known of all customers from states that go on being folded."""

    def __init__(self, economics: Economics, rules: Rules) -> None:
        self._economics = economics
        self._staying = [each for each in rules.read if each.silence is Silence.STAYS]
        self._moving = [each for each in rules.read if each.silence is not Silence.STAYS]
        self._population = Population(economics)
        self._customers: dict[bytes, _One] = {}
        self.numbers: dict[bytes, int] = {}

    def as_of(self, states: Mapping[bytes, bytes], today: int) -> _Known:
        """Return what is known as of a day; merged customers are left out."""
        self._take(states, today)
        of = self._population.columns(today)
        bought = of.purchase_days > 0
        customers_ = (self._customers[key] for key in self._population.keys())  # noqa: SIM118
        those = list(compress(customers_, bought))
        read = [
            one.staying + self._read(self._moving, one.state, one.summary, today) for one in those
        ]
        features = (*self._staying, *self._moving)
        table = zip(*read, strict=True) if read else [()] * len(features)
        return _Known(
            np.array([one.number for one in those], dtype=np.int64),
            Row(*(column[bought] for column in of)),
            {
                each.name: np.array(column, dtype=each.dtype)
                for each, column in zip(features, table, strict=True)
            },
        )

    def past(self, today: int) -> Past | None:
        """Return what the fit measures the customers' steadiness with."""
        return self._population.past(today)

    def halves(self, today: int) -> Halves:
        """Return what it measures that of the values of purchases with."""
        return self._population.halves(today)

    def _take(self, states: Mapping[bytes, bytes], today: int) -> None:
        for key, data in states.items():
            one = self._customers.get(key)
            if not is_customer(key) or (one is not None and one.data is data):
                continue
            record = decode_record(data, key)
            if record.into:
                self._population.remove(key)
                continue
            state = record.aggregate
            summary = Summary(state, self._economics)
            self._population.put(key, state)
            number = self.numbers.setdefault(key, len(self.numbers))
            staying = self._read(self._staying, state, summary, today)
            self._customers[key] = _One(data, number, state, summary, staying)

    def _read(
        self, features: Sequence[Feature], state: Aggregate, summary: Summary, today: int
    ) -> tuple[float | str, ...]:
        if not features:
            return ()
        measured = Measured(state, summary, today, self._economics)
        return tuple(each.read(measured) for each in features if each.read)


@dataclass(frozen=True, slots=True)
class SegmentsReport:
    """The course of each dimension; until: the last day of the data, an ordinal."""

    until: int
    courses: tuple[Course, ...]

    def of(self, dimension: str) -> Course:
        """Return the course of a dimension."""
        return next(each for each in self.courses if each.dimension == dimension)


class _Decider:
    """Decides one dimension for everybody, week after week, as the engine does."""

    def __init__(self, dimension: Dimension, economics: Economics) -> None:
        self.watch = Watch(dimension.name, (rule.segment for rule in dimension.rules))
        self._economics = economics
        self._now: dict[int, tuple[str, int]] = {}

    def decide(self, day: int, who: NDArray[np.int64], decisions: Decisions) -> None:
        """Decide as of the end of a day."""
        as_of = calendar.milliseconds(end_of(day, self._economics)) - 1
        now, day_of, names = self._now, self._economics.day, decisions.segments
        segments = []
        for row, number in enumerate(who.tolist()):
            previous, since = now.get(number, (None, None))
            segment = names[decisions.decide(row, previous, since, as_of, day_of)]
            if segment != previous:
                now[number] = segment, as_of
            segments.append(segment)
        self.watch.move(day, who, segments)


def evaluate_segments(
    events: Iterable[OutgoingEvent],
    economics: Economics,
    rules: Rules,
    days: tuple[int, int],
    looks: Sequence[int] | None = None,
    *,
    progress: Progress | None = None,
) -> SegmentsReport:
    """Follow all customers from a day to another, both ordinals.

    looks: days for which to report who is where, each as of the last week's end until then; by
    default the last days of the months.
    """
    first, until = days
    weeks = [*range(first + WEEK - 1, until, WEEK), until]
    looked = {
        max(week for week in weeks if week <= day) for day in looks or month_ends(first, until)
    }
    everybody = _Everybody(economics, rules)
    deciders = [_Decider(each, economics) for each in rules.dimensions]
    parameters, due = prior(economics.currency), first + FIRST_FIT - 1
    cuts = [end_of(day, economics) for day in weeks]
    result = BatchResult()
    steps = fold_in_steps(events, Context(economics), cuts, progress)
    for day, result in zip(weeks, steps, strict=True):
        known = everybody.as_of(result.states, day)
        if day >= due:
            fitted = _fitted(known.of, everybody, day, economics)
            parameters, due = fitted or parameters, day + REFIT
        features = _features(rules, known, parameters, economics)
        quantiles = {
            each: [parameters.quantile(each.feature, each.name)] for each in rules.quantiles
        }
        held = rules.tables.held(features, quantiles, len(known.who))
        for decider, decided in zip(deciders, decisions(rules, held), strict=True):
            decider.decide(day, known.who, decided)
            if day in looked:
                decider.watch.look(day, known.who)
    to_next = _to_next(result.states, everybody.numbers, economics, until)
    return SegmentsReport(until, tuple(each.watch.course(until, to_next) for each in deciders))


def month_ends(first: int, until: int) -> list[int]:
    """Return the last days of the months from a week after the first day on, as ordinals."""
    return [
        day
        for day in range(first + WEEK, until + 1)
        if day == until or date.fromordinal(day + 1).day == 1
    ]


def _fitted(
    of: Row[Floats], everybody: _Everybody, day: int, economics: Economics
) -> Parameters | None:
    until = calendar.last_millisecond(end_of(day, economics))
    try:
        fitted = fit_columns(
            of,
            until=until,
            time_unit="day",
            economics=economics,
            past=everybody.past(day),
            halves=everybody.halves(day),
        )
    except FitError:
        return None
    return fitted.parameters


def _features(
    rules: Rules, known: _Known, parameters: Parameters, economics: Economics
) -> dict[str, Any]:
    spread = any(each.name in _SPREAD for each in rules.asked)
    scored = valued(known.of, parameters, economics, spread=spread)
    return known.read | {each.name: each.of(scored) for each in rules.asked if each.of is not None}


def _to_next(
    states: Mapping[bytes, bytes], numbers: Mapping[bytes, int], economics: Economics, until: int
) -> Callable[[int, NDArray[np.int64]], Floats]:
    """Return what returns the days to the next purchase of customers by their numbers."""
    everyone = ((key, record.aggregate) for key, record in customers(states))
    histories = Histories.of(everyone, economics)
    places = histories.numbers(list(numbers))

    def to_next(day: int, who: NDArray[np.int64]) -> Floats:
        mine = places[who]
        outcomes = histories.outcomes(np.maximum(mine, 0), day, until)
        return np.where(mine < 0, np.nan, outcomes.days_to_next)

    return to_next
