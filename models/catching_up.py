"""Catch customers up: look into their silences before a batch is scored, and say who is due."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Final

from models.context import Context, Rows
from models.customers import Batch, Customer, Step
from models.due import moment_of
from models.scores import Evaluation, Look, Scores
from models.silence import Silence, search, stays_from
from models.standing import NO_DAY

SEARCH: Final = -1
"""A comparison turns soon, but the day is not known."""


def quiet_until(batch: Batch, customers: Iterable[Customer]) -> dict[int, int]:
    """Return until when no comparison turns after an evaluation, by row; without those where one
    turns soon.
    """
    economics = batch.context.economics
    scored = [
        step
        for customer in customers
        for step in customer.steps
        if isinstance(step, Evaluation) and not step.backfill
    ]
    quiet = batch.rows.quiet_days([step.row for step in scored])
    return {
        step.row: moment_of(batch.rows[step.row].day + days + 1, step.as_of, economics)
        for step, days in zip(scored, quiet, strict=True)
        if days
    }


def catch_up(batch: Batch, customers: Iterable[Customer], quiet: Mapping[int, int]) -> Scores:
    """Look into the silences of customers, and return the scores of the looks; quiet: see above."""
    by_customer = []
    for each in customers:
        if len(each.steps) > 1:
            each.steps = list(_with_silences(batch, each.steps, quiet))
        if silences := [step for step in each.steps if isinstance(step, Silence)]:
            by_customer.append((each, silences))
    rows = batch.context.rows()
    if not by_customer:
        return rows.scores()
    if not batch.context.stay_days:
        _look(batch.context, rows, [each for _, silences in by_customer for each in silences])
        return rows.scores()
    # A stay may begin in one silence and end in the next.
    for nth in zip_longest(*(silences for _, silences in by_customer)):
        those = [each for each in nth if each is not None]
        for (customer, _), silence in zip(by_customer, nth, strict=True):
            if silence is not None:
                silence.stays = _stays(batch, customer, silence)
        _look(batch.context, rows, those)
    return rows.scores()


def _with_silences(batch: Batch, steps: Iterable[Step], quiet: Mapping[int, int]) -> Iterator[Step]:
    """Yield steps, and the silences between two evaluations in which a segment may change."""
    economics, last = batch.context.economics, None
    stays = bool(batch.context.stay_days)
    for step in steps:
        if isinstance(step, Evaluation):
            if last is not None and not last.backfill and not step.backfill:
                turn = quiet.get(last.row, 0)
                known = 0 if stays else turn
                if step.as_of >= (known or economics.day_begins(economics.day(last.as_of) + 1)):
                    standing, turns = batch.rows[last.row], [turn] if turn else []
                    yield Silence(
                        last.as_of, standing, turns, step.as_of, (), ends=True, offset=step.offset
                    )
            last = step
        else:
            last = None
            if isinstance(step, Silence) and step.row is not None and step.row in quiet:
                step.turns = [quiet[step.row]]
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
            each.looks.append(Look(rows.add(standing), moment, each.offset, cause))
            each.stays.update(stays_from(moment, context.stay_days, context.economics))
            further.append(each)
        silences = further


def due_of(customer: Customer, quiet: Mapping[int, int]) -> int:
    """Return when a comparison turns after a customer's last step; SEARCH; or 0 if nobody looks."""
    last = customer.steps[-1]
    if not customer.present:
        return 0
    if isinstance(last, Silence):
        return last.turns[0]
    if not isinstance(last, Evaluation):
        return 0
    if last.backfill:
        customer.record.due = 0
        return 0
    return quiet.get(last.row, SEARCH)


def next_due(batch: Batch, customer: Customer, row: int, turn: int) -> int:
    """Return when to look at a customer next; 0 if that has to be searched for.

    A comparison turns then (turn), a minimum stay ends, or a feature moves in a step.
    """
    if turn == SEARCH:
        return 0
    record, context = customer.record, batch.context
    economics, last = context.economics, customer.steps[-1]
    base = last.at if isinstance(last, Silence) else record.as_of
    moments = [turn]
    standing = last.standing if isinstance(last, Silence) else batch.rows[row]
    if standing.step != NO_DAY:
        moments.append(moment_of(standing.step, base, economics))
    rules = standing.rules
    if rules.stay_days:
        for name, since in record.since.items():
            dimension = rules.by_name.get(name)
            if dimension is not None:
                own = (days for _, days in dimension.stays.get(record.segments[name], ()))
                moments += stays_from(since, own, economics)
    return min([each for each in moments if each > base])
