"""Catch customers up: look into their silences before a batch is scored, and say who is due."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.context import Context, Rows
from models.customers import Customer, Scoring, Step
from models.due import moment_of
from models.refresh import Refresh, refreshes
from models.scores import Evaluation, Look, Scores
from models.silence import Silence, search, stays_from

QUIET: Final = (6, 20, 60, 90, 240)
"""Days for which it is asked after an event, whether a customer surely stays what they are."""


def catch_up(scoring: Scoring) -> Scores:
    """Look into the silences of customers, and return the scores of the looks."""
    restless, owners = _restless(scoring)
    rows = scoring.context.rows()
    for each in owners:
        each.steps = list(_with_silences(scoring, each.steps, restless))
    by_customer = [
        (each, [step for step in each.steps if isinstance(step, Silence)])
        for each in {id(each): each for each in (*scoring.silent, *owners)}.values()
    ]
    every = [each for _, silences in by_customer for each in silences]
    if scoring.context.stay_days:
        _look_with_stays(scoring, rows, by_customer)
    else:
        _look(scoring.context, rows, every)
    if scoring.context.refresh is not None:
        _refresh(scoring.context, scoring.context.refresh, rows, by_customer)
    scores = rows.scores()
    if not scoring.context.stay_days:
        _only_what_matters(scores, every)
    return scores


def _look_with_stays(
    scoring: Scoring, rows: Rows, by_customer: Sequence[tuple[Customer, list[Silence]]]
) -> None:
    # A stay may begin in one silence and end in the next.
    for nth in zip_longest(*(silences for _, silences in by_customer)):
        those = [each for each in nth if each is not None]
        for (customer, _), silence in zip(by_customer, nth, strict=True):
            if silence is not None:
                silence.stays = _stays(scoring, customer, silence)
        _look(scoring.context, rows, those)


def _restless(scoring: Scoring) -> tuple[dict[int, int], Iterable[Customer]]:
    """Return the rows before which there is a silence in which a segment may change, and whose.

    With each, for how many days nothing surely changes.
    """
    first, second, days, pair = scoring.rows.apart(scoring.pairs)
    if not first.size:
        return {}, ()
    moves = ~scoring.rows.steady(first, days)
    if not moves.any():
        return {}, ()
    steady = _steady_days(scoring, first[moves], steps=False)
    owners = {id(owner): owner for owner in map(scoring.owners.__getitem__, pair[moves].tolist())}
    return dict(zip(second[moves].tolist(), steady, strict=True)), owners.values()


def _steady_days(scoring: Scoring, rows: NDArray[np.intp], *, steps: bool) -> list[int]:
    """Return for how many days customers surely stay what they are after each of these rows.

    steps: whether features may move in steps, and the value is to be published, meanwhile.
    """
    again, ahead = np.tile(rows, len(QUIET)), np.repeat(QUIET, rows.size)
    refresh = scoring.context.refresh if steps else None
    steady = scoring.rows.steady(again, ahead, steps=steps, refresh=refresh).reshape(len(QUIET), -1)
    days: list[int] = np.array((0, *QUIET))[steady.sum(axis=0)].tolist()
    return days


def _with_silences(
    scoring: Scoring, steps: Iterable[Step], restless: Mapping[int, int]
) -> Iterator[Step]:
    """Yield steps, and the silences between two evaluations in which a segment may change."""
    last = None
    for step in steps:
        if isinstance(step, Evaluation):
            if last is not None and step.row in restless:
                standing = scoring.rows.standing(last.row)
                known = standing.day + restless[step.row]
                yield Silence(
                    last.as_of, standing, known, step.as_of, ends=True, offset=step.offset
                )
            last = step
        yield step


def _stays(scoring: Scoring, customer: Customer, until: Silence) -> set[int]:
    """Return when minimum stays may end of a customer who may have entered at any score so far."""
    entered = set(customer.record.since.values())
    for step in customer.steps:
        if step is until:
            break
        if isinstance(step, Evaluation):
            entered.add(step.as_of)
        elif isinstance(step, Silence):
            entered.update(look.as_of for look in step.looks)
    days, economics = scoring.context.stay_days, scoring.context.economics
    return {end for moment in entered for end in stays_from(moment, days, economics)}


def _look(context: Context, rows: Rows, silences: Sequence[Silence]) -> None:
    economics, stay_days = context.economics, context.stay_days
    while silences:
        search(silences, economics)
        further = []
        for each in silences:
            while (found := each.look(economics)) is not None:
                row = rows.add_standing(found.standing, found.day)
                each.looks.append(Look(row, found.moment, each.offset, found.cause))
                if stay_days:
                    each.stays.update(stays_from(found.moment, stay_days, economics))
                if each.turns is None:
                    further.append(each)
                    break
        silences = further


def _only_what_matters(scores: Scores, silences: Iterable[Silence]) -> None:
    """Leave out looks at which every segment is decided as at the one before.

    A comparison has turned there, but none that decides.
    """
    several = [each for each in silences if len(each.looks) > 1]
    later = [look.row for each in several for look in each.looks[1:]]
    before = [look.row for each in several for look in each.looks[:-1]]
    differ = iter(scores.differ(later, before).tolist())
    for each in several:
        first, *others = each.looks
        each.looks = [first, *(look for look in others if next(differ) or look.cause != "time")]


def _refresh(
    context: Context,
    refresh: Refresh,
    rows: Rows,
    by_customer: Iterable[tuple[Customer, list[Silence]]],
) -> None:
    """Look at the values of those who are still silent: when to publish them, last and next."""
    still = [
        (customer, silence)
        for customer, silences in by_customer
        for silence in silences
        if not (silence.ends or silence.is_cut)
    ]
    economics = context.economics
    days = refreshes(
        [silence.standing for _, silence in still],
        [economics.day(silence.until) for _, silence in still],
        refresh,
        economics,
    )
    for (customer, silence), (last, following) in zip(still, days, strict=True):
        silence.refresh_at = moment_of(following, silence.base, economics)
        since = silence.base
        if last != silence.standing.day:
            since = moment_of(last, silence.base, economics)
        if customer.record.told_at < since <= silence.until:
            row = rows.add_standing(silence.standing, last)
            silence.refresh = Look(row, since, silence.offset, "time")


def bounds(scoring: Scoring, customers: Iterable[Customer]) -> dict[int, int]:
    """Return until when customers surely stay what they are after their last score, by its row.

    In milliseconds since 1970; 0 if only the next day will show.
    """
    rows = [
        step.row
        for each in customers
        if isinstance(step := each.steps[-1], Evaluation) and not step.backfill
    ]
    if not rows:
        return {}
    economics, found, most = scoring.context.economics, {}, max(QUIET)
    if scoring.context.refresh is not None:
        most = scoring.context.refresh.days - 1
    steady = _steady_days(scoring, np.array(rows, np.intp), steps=True)
    for row, days in zip(rows, steady, strict=True):
        then = scoring.rows.day(row) + min(days, most) + 1
        found[row] = economics.day_begins(then) if days else 0
    return found


def due_after(scoring: Scoring, customer: Customer, known: dict[int, int]) -> int:
    """Return when to look at a customer next, after their last step; 0: on the next day.

    known: see `bounds`.
    """
    last = customer.steps[-1]
    if isinstance(last, Evaluation):
        due = 0 if last.backfill else known[last.row]
        if not due or not scoring.context.stay_days:
            return due
        begins, rules = last.as_of, scoring.rows.rules(last.row)
    elif isinstance(last, Silence):
        due, begins, rules = last.next, last.at, last.standing.rules
    else:
        return 0
    moments = [due]
    record, economics = customer.record, scoring.context.economics
    for name, since in record.since.items() if rules.stay_days else ():
        dimension = rules.by_name.get(name)
        if dimension is not None:
            own = (days for _, days in dimension.stays.get(record.segments[name], ()))
            moments += stays_from(since, own, economics)
    return min(each for each in moments if each > begins)
