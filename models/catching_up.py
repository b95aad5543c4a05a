"""Catch customers up: look into their silences before a batch is scored, and say who is due."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.context import Context, Rows
from models.customers import Batch, Customer, Step
from models.due import moment_of
from models.refresh import Refresh, refreshes
from models.scores import Evaluation, Look, Scores
from models.silence import Silence, search, stays_from

QUIET: Final = (6, 20, 60, 90, 240)
"""Days for which it is asked after an event, whether a customer surely stays what they are."""


def catch_up(batch: Batch) -> Scores:
    """Look into the silences of customers, and return the scores of the looks."""
    restless, owners = _restless(batch)
    rows = batch.context.rows()
    for each in owners:
        each.steps = list(_with_silences(batch, each.steps, restless))
    by_customer = [
        (each, [step for step in each.steps if isinstance(step, Silence)])
        for each in {id(each): each for each in (*batch.silent, *owners)}.values()
    ]
    if not by_customer:
        return rows.scores()
    if not batch.context.stay_days:
        _look(batch.context, rows, [each for _, silences in by_customer for each in silences])
    else:
        _look_with_stays(batch, rows, by_customer)
    if batch.context.refresh is not None:
        _refresh(batch.context, batch.context.refresh, rows, by_customer)
    return rows.scores()


def _look_with_stays(
    batch: Batch, rows: Rows, by_customer: Sequence[tuple[Customer, list[Silence]]]
) -> None:
    # A stay may begin in one silence and end in the next.
    for nth in zip_longest(*(silences for _, silences in by_customer)):
        those = [each for each in nth if each is not None]
        for (customer, _), silence in zip(by_customer, nth, strict=True):
            if silence is not None:
                silence.stays = _stays(batch, customer, silence)
        _look(batch.context, rows, those)


def _restless(batch: Batch) -> tuple[dict[int, int], Iterable[Customer]]:
    """Return the rows before which there is a silence in which a segment may change, and whose.

    With each, for how many days nothing surely changes.
    """
    first, second, days, pair = batch.rows.apart(batch.pairs)
    if not first.size:
        return {}, ()
    moves = ~batch.rows.steady(first, days)
    if not moves.any():
        return {}, ()
    steady = _steady_days(batch, first[moves], steps=False)
    owners = {id(owner): owner for owner in map(batch.owners.__getitem__, pair[moves].tolist())}
    return dict(zip(second[moves].tolist(), steady, strict=True)), owners.values()


def _steady_days(batch: Batch, rows: NDArray[np.intp], *, steps: bool) -> list[int]:
    """Return for how many days customers surely stay what they are after each of these rows.

    steps: whether features may move in steps, and the value is to be published, meanwhile.
    """
    again, ahead = np.tile(rows, len(QUIET)), np.repeat(QUIET, rows.size)
    refresh = batch.context.refresh if steps else None
    steady = batch.rows.steady(again, ahead, steps=steps, refresh=refresh).reshape(len(QUIET), -1)
    days: list[int] = np.array((0, *QUIET))[steady.sum(axis=0)].tolist()
    return days


def _with_silences(
    batch: Batch, steps: Iterable[Step], restless: Mapping[int, int]
) -> Iterator[Step]:
    """Yield steps, and the silences between two evaluations in which a segment may change."""
    last = None
    for step in steps:
        if isinstance(step, Evaluation):
            if last is not None and step.row in restless:
                standing = batch.rows.standing(last.row)
                known = standing.day + restless[step.row]
                yield Silence(
                    last.as_of, standing, known, step.as_of, ends=True, offset=step.offset
                )
            last = step
        yield step


def _stays(batch: Batch, customer: Customer, until: Silence) -> set[int]:
    """Return when minimum stays may end of a customer who may have entered at any score so far."""
    entered = set(customer.record.since.values())
    for step in customer.steps:
        if step is until:
            break
        if isinstance(step, Evaluation):
            entered.add(step.as_of)
        elif isinstance(step, Silence):
            entered.update(look.as_of for look in step.looks)
    days, economics = batch.context.stay_days, batch.context.economics
    return {end for moment in entered for end in stays_from(moment, days, economics)}


def _look(context: Context, rows: Rows, silences: Sequence[Silence]) -> None:
    while silences:
        search(silences, context.economics)
        further = []
        for each in silences:
            found = each.look(context.economics)
            if found is None:
                continue
            moment, standing, cause = found
            each.looks.append(Look(rows.add_standing(standing), moment, each.offset, cause))
            each.stays.update(stays_from(moment, context.stay_days, context.economics))
            further.append(each)
        silences = further


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
            standing = silence.standing.on(last)
            silence.refresh = Look(rows.add_standing(standing), since, silence.offset, "time")


def bounds(batch: Batch, customers: Iterable[Customer]) -> dict[int, int]:
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
    economics, found, most = batch.context.economics, {}, max(QUIET)
    if batch.context.refresh is not None:
        most = batch.context.refresh.days - 1
    steady = _steady_days(batch, np.array(rows, np.intp), steps=True)
    for row, days in zip(rows, steady, strict=True):
        then = batch.rows.day(row) + min(days, most) + 1
        found[row] = economics.day_begins(then) if days else 0
    return found


def due_after(batch: Batch, customer: Customer, known: dict[int, int]) -> int:
    """Return when to look at a customer next, after their last step; 0: on the next day.

    known: see `bounds`.
    """
    last = customer.steps[-1]
    if isinstance(last, Evaluation):
        due = 0 if last.backfill else known[last.row]
        if not due or not batch.context.stay_days:
            return due
        begins, rules = last.as_of, batch.rows.rules(last.row)
    elif isinstance(last, Silence):
        due, begins, rules = last.next, last.at, last.standing.rules
    else:
        return 0
    moments = [due]
    record, economics = customer.record, batch.context.economics
    for name, since in record.since.items() if rules.stay_days else ():
        dimension = rules.by_name.get(name)
        if dimension is not None:
            own = (days for _, days in dimension.stays.get(record.segments[name], ()))
            moments += stays_from(since, own, economics)
    return min(each for each in moments if each > begins)
