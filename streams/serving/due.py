"""Whose segment changes within a week if they stay silent: what a person asks for, also as CSV."""

from __future__ import annotations

import heapq
from asyncio import to_thread
from collections.abc import Iterator
from datetime import datetime
from http import HTTPStatus
from itertools import islice
from typing import Annotated, Final, Literal, NamedTuple

from fastapi import APIRouter, Query
from pydantic import BaseModel

from models.coming import Coming
from models.documents import moment
from models.economics import Economics
from streams.serving.beside import KeptAhead
from streams.serving.cursors import after_due, due_before
from streams.serving.lists import csv_lines, safe_cell
from streams.serving.looking_ahead import DAYS, Ahead
from streams.serving.problems import RETRY_SECONDS, Problem
from streams.serving.sources import Sources

WAIT_SECONDS: Final = 30.0
"""How long an answer waits for the list: a new server has to start the process that makes it."""

LARGEST_PAGE: Final = 500

_LINES: Final = 1_000
"""Of a file that are written at once."""

Order = Literal["soonest", "highest", "lowest"]
Place = tuple[float, float, str, str]
"""By what changes are in order: numbers first, then customer and dimension."""


class Asked(NamedTuple):
    """Which changes, and in which order; empty: any.

    days: from today on. highest, lowest: by value.
    """

    days: int = DAYS
    dimension: str = ""
    previous: str = ""
    current: str = ""
    order: Order = "soonest"

    def fits(self, change: Coming, until: int) -> bool:
        """Return whether a change is asked for; until: the last moment that is."""
        return (
            change.at <= until
            and self.dimension in ("", change.dimension)
            and self.previous in ("", change.previous)
            and self.current in ("", change.current)
        )

    def place(self, change: Coming) -> Place:
        """Return by what a change stands in order."""
        whose = change.customer_id, change.dimension
        if self.order == "soonest":
            return change.at, -change.clv, *whose
        return (-change.clv if self.order == "highest" else change.clv), change.at, *whose


class Found(NamedTuple):
    """A part of the changes that fit. matching: how many fit. overdue: how many of them before now.

    next: the place behind which they go on; None at the end.
    """

    changes: list[Coming]
    matching: int
    overdue: int
    next: Place | None


def found(
    ahead: Ahead, asked: Asked, count: int, economics: Economics, after: Place | None = None
) -> Found:
    """Return the first changes that fit, or the first behind a place."""
    matching = list(_matching(ahead, asked, economics))
    overdue = sum(each.at <= ahead.now for each in matching)
    left = matching
    if after is not None:
        left = [each for each in matching if asked.place(each) > after]
    first = heapq.nsmallest(count + 1, left, key=asked.place)
    more = len(first) > count
    here = first[:count]
    return Found(here, len(matching), overdue, asked.place(here[-1]) if more else None)


def exported(ahead: Ahead, asked: Asked, economics: Economics) -> Iterator[str]:
    """Yield all changes that fit as CSV, a part of the file at a time."""
    yield csv_lines([["customer_id", "due", "dimension", "from", "to", "value", "currency"]])
    ordered = iter(sorted(_matching(ahead, asked, economics), key=asked.place))
    while part := list(islice(ordered, _LINES)):
        yield csv_lines(
            [
                safe_cell(each.customer_id),
                moment(each.at).isoformat(),
                safe_cell(each.dimension),
                safe_cell(each.previous or ""),
                safe_cell(each.current or ""),
                f"{each.clv:.2f}",
                economics.currency,
            ]
            for each in part
        )


def _matching(ahead: Ahead, asked: Asked, economics: Economics) -> Iterator[Coming]:
    until = economics.day_begins(economics.day(ahead.now) + asked.days)
    for changes in list(ahead.changes.values()):
        for each in changes:
            if asked.fits(each, until):
                yield each


class DueChange(BaseModel):
    """A change of segment that comes if nothing happens to the customer until then.

    at: when; before now, it is told as soon as somebody looks. clv: the value then.
    """

    customer_id: str
    at: datetime
    dimension: str
    previous: str | None
    current: str | None
    clv: float


class DuePage(BaseModel):
    """A part of the changes of the days to come.

    at: when they were computed; now, until: of which time. matching: how many fit; overdue: how
    many of them are due already. backfilled: how many customers are in no list, because a backfill
    is loading them. next: the cursor of what follows; null at the end.
    """

    currency: str
    at: datetime
    now: datetime
    until: datetime
    matching: int
    overdue: int
    backfilled: int
    changes: list[DueChange]
    next: str | None


async def latest(kept: KeptAhead, seconds: float) -> Ahead:
    """Return the list as it was made last. Errors: Problem, while there is none."""
    ahead = await kept.get(seconds)
    if ahead is None:
        raise Problem(
            HTTPStatus.SERVICE_UNAVAILABLE,
            f"what comes is not computed yet {kept.why}".rstrip() + "; ask again",
            {"Retry-After": str(RETRY_SECONDS)},
        )
    return ahead


def add_routes(v1: APIRouter, sources: Sources) -> None:
    """Add the route."""
    economics = sources.settings.economics

    @v1.get("/due", response_model=DuePage)
    async def due(
        *,
        days: Annotated[int, Query(ge=1, le=DAYS)] = DAYS,
        dimension: str = "",
        previous: str = "",
        current: str = "",
        order: Order = "soonest",
        limit: Annotated[int, Query(ge=1, le=LARGEST_PAGE)] = 50,
        cursor: str | None = None,
    ) -> DuePage:
        """Return whose segment changes in the days to come if nothing happens to them."""
        after = due_before(cursor)
        asked = Asked(days, dimension, previous, current, order)
        ahead = await latest(sources.ahead, WAIT_SECONDS)
        # In a thread, so that others are answered meanwhile.
        part = await to_thread(found, ahead, asked, limit, economics, after)
        return DuePage(
            currency=economics.currency,
            at=ahead.at,
            now=moment(ahead.now),
            until=moment(economics.day_begins(economics.day(ahead.now) + days)),
            matching=part.matching,
            overdue=part.overdue,
            backfilled=ahead.backfilled,
            changes=[
                DueChange(**each._asdict() | {"at": moment(each.at)}) for each in part.changes
            ],
            next=None if part.next is None else after_due(part.next),
        )
