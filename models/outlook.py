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
from models.coming import Coming, changes_to_come
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
    comes, and when; at is None if none comes within the days that were asked for, next also if the
    rules have the dimension no more then.
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

    @property
    def due(self) -> Sequence[Turn]:
        """The turns that come next, all at the same moment; empty if none comes."""
        moments = [turn.at for turn in self.turns if turn.at is not None]
        return [turn for turn in self.turns if moments and turn.at == min(moments)]


def history(record: CustomerRecord, moments: Iterable[int], by: Interpretation) -> Iterator[Worth]:
    """Yield what a customer was worth as of past moments, in milliseconds since 1970.

    The parameters are those in force then. Raises ValueError for a moment before `known_since`.
    """
    state = record.aggregate
    return _worth([(state_at(state, moment), moment) for moment in moments], by)


def outlook(
    record: CustomerRecord, by: Interpretation, days: int = YEAR, *, now: int = 0
) -> Outlook:
    """Return the days from now on, if nothing happens; segments change as a sweep will tell it.

    now: in milliseconds since 1970; before the customer was told of last, that time counts. Each
    day is scored with the parameters and rules in force as of it.
    """
    begins = max(now, record.told_at)
    today = by.economics.day(begins)
    moments = [
        begins,
        *(by.economics.day_begins(today + number) for number in range(1, days + 1)),
    ]
    summary = Summary(record.aggregate, by.economics)
    rows = by.rows()
    for moment in moments:
        rows.add(record.aggregate, summary, moment)
    scores = rows.scores()
    worth = _listed(scores, moments, [summary] * len(moments), by.economics)
    return Outlook(list(worth), list(_turns(record, changes_to_come(record, by, moments[-1]))))


def _turns(record: CustomerRecord, changes: Iterable[Coming]) -> Iterator[Turn]:
    first: dict[str, Coming] = {}
    for change in changes:
        first.setdefault(change.dimension, change)
    for dimension, segment in record.segments.items():
        since, comes = record.since.get(dimension), first.get(dimension)
        if comes is None:
            yield Turn(dimension, segment, since, None, None)
        else:
            yield Turn(dimension, segment, since, comes.current, comes.at)


def _worth(states: Sequence[tuple[Aggregate, int]], by: Interpretation) -> Iterator[Worth]:
    summaries = [Summary(state, by.economics) for state, _ in states]
    rows = by.rows()
    for (state, moment), summary in zip(states, summaries, strict=True):
        rows.add(state, summary, moment)
    return _listed(rows.scores(), [moment for _, moment in states], summaries, by.economics)


def _listed(
    scores: Scores, moments: Sequence[int], summaries: Sequence[Summary], config: Economics
) -> Iterator[Worth]:
    published = scores.published(range(len(moments)))
    for moment, summary, each in zip(moments, summaries, published, strict=True):
        spent = summary.support_cost + summary.acquisition_cost
        realised = from_units(summary.margin(config) - spent)
        yield Worth(moment, each.clv, realised, each.expected, each.p_alive, each.p_purchase)


MOST_MOMENTS = 120
"""Of a history; the steps between them are days, weeks or months accordingly."""


def past_moments(record: CustomerRecord, config: Economics) -> list[int]:
    """Return moments from where the past is known until the as-of time of the record.

    They are that first moment, the ends of days, weeks or months, and the as-of time; the last
    `MOST_MOMENTS` of them.
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
    ends = (config.day_begins(day + 1) - 1 for day in days)
    moments = [first, *(moment for moment in ends if moment > first)]
    if first == record.as_of:
        moments = []
    return [*moments[-(MOST_MOMENTS - 1) :], record.as_of]
