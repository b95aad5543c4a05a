"""An evaluation from beginning to end: stop at each cut, fit there, and look at what followed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, datetime
from types import ModuleType
from typing import NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
from numpy.typing import NDArray

from models import calendar
from models.aggregate.record import customers
from models.btyd import MODELS, Fit, FitError, PurchaseModel
from models.choosing import AUTO
from models.contracts.parameters import Parameters
from models.economics import Economics
from models.errors import ClvError
from models.evaluation import (
    Forecast,
    Histories,
    Holdout,
    Known,
    Prequential,
    Rival,
    SplitReport,
    evaluate_split,
    forecast,
    in_revenue,
    summarise,
)
from models.evaluation.predictions import WEEK, statistics
from models.evaluation.prequential import AHEAD
from models.fitting import fit_columns, fit_purchases
from models.value import YEAR, Row, with_complaints
from streams.batch import BatchResult
from streams.evaluation import peer
from streams.evaluation.snapshots import Snapshot, Snapshots
from streams.evaluation.told import Told

Floats = NDArray[np.float64]


class NoForecast(ClvError):
    """Nothing can be fitted on what was known at a split; the text says which, and why."""


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The reports of all splits, and the result of folding what was told.

    left_out: customers who were merged or erased later, or have too long a history, at the split
    where they are most. notes: of the fits. has_lifetimes: whether the library is installed.
    """

    result: BatchResult
    splits: tuple[SplitReport, ...]
    prequential: Prequential | None
    left_out: int
    notes: tuple[str, ...]
    has_lifetimes: bool


class _AtSplit(NamedTuple):
    day: int
    keys: list[bytes]
    of: Row[Floats]
    parameters: Parameters


class _AtWeek(NamedTuple):
    day: int
    keys: list[bytes]
    of: Row[Floats]
    fit: Fit[PurchaseModel]
    weight: float


def evaluate(
    told: Told,
    economics: Economics,
    splits: Sequence[int],
    until: int,
    model: str,
    *,
    prequential: bool = True,
) -> Evaluation:
    """Evaluate the numbers at each split; the holdout ends with a day. Days are ordinals.

    model: of purchases, or `AUTO`: at each split, and in each week, what predicted best until then.
    prequential: also refit each week from the first split on.

    Raises
    ------
    NoForecast
        if nothing can be fitted on what was known at a split.
    """
    config = in_revenue(economics)
    weekly = range(splits[0], until - AHEAD + 1, WEEK) if prequential else range(0)
    days = sorted({*splits, *weekly, until})
    cuts = [end_of(day, config) for day in days]
    snapshots = Snapshots(config)
    at_splits: list[_AtSplit] = []
    at_weeks: list[_AtWeek] = []
    notes: list[str] = []
    start: PurchaseModel | None = None
    result = BatchResult()
    for day, result in zip(days, told.steps(config, cuts), strict=True):
        if day == until:
            continue
        known = snapshots.take(result.states, day)
        name = model
        if model == AUTO:
            choice = snapshots.choose(day)
            name = choice.model
            if day in splits:
                notes.append(f"{date.fromordinal(day).isoformat()}: {choice.why}")
        if day in splits:
            fitted, more = _fit(known, snapshots, day, config, name)
            at_splits.append(_AtSplit(day, known.keys, known.of, fitted))
            notes += more
        if day in weekly:
            begin = start if type(start) is MODELS[name] else None
            try:
                fit, weight, _ = fit_purchases(known.of, name, 1, start=begin)
            except FitError:
                continue
            start = fit.parameters
            at_weeks.append(_AtWeek(day, known.keys, known.of, fit, weight))
    histories = Histories.of(
        ((key, record.aggregate) for key, record in customers(result.states)), config
    )
    library = peer.lifetimes()
    missing = [np.count_nonzero(histories.numbers(each.keys) < 0) for each in at_splits]
    return Evaluation(
        result,
        tuple(_report(each, until, histories, economics, library) for each in at_splits),
        summarise(_forecasts(at_weeks, histories)) if prequential else None,
        int(max(missing)) + told.left_out,
        tuple(dict.fromkeys(notes)),
        library is not None,
    )


def end_of(day: int, economics: Economics) -> datetime:
    """Return the first moment after a day, by its ordinal, in the shop's time zone."""
    return calendar.end_of_day(date.fromordinal(day), ZoneInfo(economics.timezone))


def _fit(
    known: Snapshot, snapshots: Snapshots, day: int, config: Economics, model: str
) -> tuple[Parameters, list[str]]:
    name = date.fromordinal(day).isoformat()
    try:
        fitted = fit_columns(
            known.of,
            until=calendar.last_millisecond(end_of(day, config)),
            time_unit="day",
            economics=config,
            model=model,
            past=snapshots.past(day),
            halves=snapshots.halves(day),
        )
    except FitError as error:
        raise NoForecast(f"nothing can be expected as of {name}: {error}") from error
    # Contacts are not evaluated.
    told = (note for note in fitted.notes if "Gamma-Poisson" not in note and "contacts" not in note)
    return fitted.parameters, [f"{name}: {note}" for note in told]


def _report(
    at: _AtSplit,
    until: int,
    histories: Histories,
    economics: Economics,
    library: ModuleType | None,
) -> SplitReport:
    numbers = histories.numbers(at.keys)
    there = numbers >= 0
    numbers, of = numbers[there], Row(*(column[there] for column in at.of))
    holdout = Holdout(at.day, until)
    rivals: dict[str, Rival] = {}
    theirs = peer.predicted(library, of, holdout.days) if library is not None else None
    if theirs is not None:
        rivals[peer.NAME] = theirs
    return evaluate_split(
        holdout,
        Known(
            of,
            histories.revenue(numbers, 0, at.day),
            histories.revenue(numbers, at.day - YEAR, at.day),
        ),
        at.parameters,
        economics,
        outcomes=histories.outcomes(numbers, at.day, until),
        rivals=rivals,
    )


def _forecasts(weeks: Sequence[_AtWeek], histories: Histories) -> list[Forecast]:
    """Return the forecasts, each with what the outcomes of earlier ones had told by its day."""
    found: list[Forecast] = []
    for at in weeks:
        ended = sum(each.day + AHEAD <= at.day for each in weeks)
        found.append(_forecast(at, histories, found[:ended]))
    return found


def _forecast(at: _AtWeek, histories: Histories, earlier: Sequence[Forecast]) -> Forecast:
    numbers = histories.numbers(at.keys)
    there = numbers >= 0
    whom = numbers[there]
    before = histories.purchases(whom, at.day - AHEAD, at.day).sum()
    of = Row(*(column[there] for column in at.of))
    joined = np.count_nonzero(of.T < AHEAD)
    return forecast(
        date.fromordinal(at.day).isoformat(),
        with_complaints(of, at.fit.parameters, at.weight),
        statistics(of, 1.0),
        actual=float(histories.purchases(whom, at.day, at.day + AHEAD).sum()),
        before=float(before - joined),
        covariance=at.fit.covariance,
        earlier=earlier,
    )
