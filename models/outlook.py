"""What a customer was worth on past days, and what becomes of it if nothing more happens."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from datetime import date
from typing import NamedTuple

from models.aggregate.past import known_since, state_at, times_of
from models.aggregate.record import CustomerRecord
from models.aggregate.state import Aggregate
from models.aggregate.summary import Summary
from models.calendar import month_of
from models.context import Interpretation
from models.economics import Economics, from_units
from models.scores import Scores

YEAR = 365


class Worth(NamedTuple):
    """A customer as of a time in milliseconds since 1970; money in the reporting currency.

    p_alive, p_purchase: None before the first order.
    """

    as_of: int
    clv: float
    realised: float
    expected: float
    p_alive: float | None
    p_purchase: float | None


class Turn(NamedTuple):
    """The next change of segment of a dimension, if nothing happens until then.

    since: when the customer entered their segment, None if not known. next, at: which segment
    comes, and when; None if none comes within the days that were asked for.
    """

    dimension: str
    segment: str
    since: int | None
    next: str | None
    at: int | None


class Outlook(NamedTuple):
    """The days to come: what the customer is worth on each, and the next change of segments."""

    days: Sequence[Worth]
    turns: Sequence[Turn]


def history(record: CustomerRecord, moments: Iterable[int], by: Interpretation) -> Iterator[Worth]:
    """Yield what a customer was worth as of past moments, in milliseconds since 1970.

    The parameters are those in force then. Raises ValueError for a moment before `known_since`.
    """
    state = record.aggregate
    return _worth([(state_at(state, moment), moment) for moment in moments], by)


def outlook(record: CustomerRecord, by: Interpretation, days: int = YEAR) -> Outlook:
    """Return the days from a customer's as-of day on, if nothing happens.

    Each is scored with the parameters and rules in force as of it.
    """
    day_of = by.economics.day
    today = day_of(record.as_of)
    moments = [
        record.as_of,
        *(by.economics.day_begins(today + number) for number in range(1, days + 1)),
    ]
    summary = Summary(record.aggregate, by.economics)
    rows = by.rows()
    for moment in moments:
        rows.add(record.aggregate, summary, moment)
    scores = rows.scores()
    worth = _listed(scores, moments, [summary] * len(moments), by.economics)
    turns = [_turn(record, name, moments, scores, by) for name in record.segments]
    return Outlook(list(worth), turns)


def _turn(
    record: CustomerRecord,
    dimension: str,
    moments: Sequence[int],
    scores: Scores,
    by: Interpretation,
) -> Turn:
    segment, since = record.segments[dimension], record.since.get(dimension)
    for row, moment in enumerate(moments):
        for decisions in scores.decided(row).dimensions:
            if decisions.name == dimension:
                index = decisions.decide(row, segment, since, moment, by.economics.day)
                if decisions.segments[index] != segment:
                    return Turn(dimension, segment, since, decisions.segments[index], moment)
    return Turn(dimension, segment, since, None, None)


def _worth(states: Sequence[tuple[Aggregate, int]], by: Interpretation) -> Iterator[Worth]:
    summaries = [Summary(state, by.economics) for state, _ in states]
    rows = by.rows()
    for (state, moment), summary in zip(states, summaries, strict=True):
        rows.add(state, summary, moment)
    return _listed(rows.scores(), [moment for _, moment in states], summaries, by.economics)


def _listed(
    scores: Scores, moments: Sequence[int], summaries: Sequence[Summary], config: Economics
) -> Iterator[Worth]:
    for moment, summary, each in zip(moments, summaries, scores.published, strict=True):
        spent = summary.support_cost + summary.acquisition_cost
        realised = from_units(summary.margin(config) - spent)
        yield Worth(moment, each.clv, realised, each.expected, each.p_alive, each.p_purchase)


MOST_MOMENTS = 120
"""Of a history; the steps between them are days, weeks or months accordingly."""


def past_moments(record: CustomerRecord, config: Economics) -> list[int]:
    """Return moments from where the past is known until the as-of time of the record.

    They are the ends of days, weeks or months, and the as-of time; the last `MOST_MOMENTS` of them.
    """
    state = record.aggregate
    since = known_since(state)
    first = min(times_of(state), default=None) if since is None else since
    if first is None or first > record.as_of:
        return []
    begin, end = config.day(first), config.day(record.as_of)
    days: Sequence[int] = range(begin, end)
    if len(days) >= MOST_MOMENTS * 7:
        days = [day for day in days if month_of(day) != month_of(day + 1)]
    elif len(days) >= MOST_MOMENTS:
        days = [day for day in days if date.fromordinal(day).weekday() == 6]
    ends = [config.day_begins(day + 1) - 1 for day in days[-(MOST_MOMENTS - 1) :]]
    return [*(moment for moment in ends if moment >= first), record.as_of]
