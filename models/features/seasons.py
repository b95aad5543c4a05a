"""In which months and years a customer bought: who returns at the same time of each year."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date
from functools import lru_cache
from typing import Final, NamedTuple

from models.calendar import month_of

YEAR: Final = 12

QUARTER: Final = 3
"""Months of the part of the year whose share of the purchase days is measured."""


class Season(NamedTuple):
    """The shortest run of calendar months, round the year, that has all purchase days.

    months: its length. ends: the month of the year with which it ends, 1 to 12. seasons: in how
    many years it had a purchase day; it may lie across New Year. missed: how many of them passed
    without one since the first. All are 0 before the first order.
    """

    months: int = 0
    ends: int = 0
    seasons: int = 0
    missed: int = 0


@lru_cache(maxsize=1 << YEAR)
def _run(chosen: int) -> tuple[int, int]:
    """Return the first month and the length of the shortest run that covers a set of months.

    A set is a number whose bit n is month n, from 0. Of several runs the one that begins first.
    """
    found = (0, YEAR)
    for first in range(YEAR):
        ahead = [n for n in range(YEAR) if chosen >> (first + n) % YEAR & 1]
        if ahead[-1] + 1 < found[1]:
            found = (first, ahead[-1] + 1)
    return found


class _Shape(NamedTuple):
    """What a season is, whatever day it is: its first and last one with a purchase, and how many.

    They are numbered by their year, counted from year 0.
    """

    first_month: int
    months: int
    first: int
    last: int
    seasons: int


@lru_cache(maxsize=4_096)
def _shape(months: tuple[int, ...]) -> _Shape:
    # Kept: between two orders of a customer it rarely changes, and many customers have the same.
    chosen = 0
    for month in months:
        chosen |= 1 << month % YEAR
    first, length = _run(chosen)
    bought = {(month - first) // YEAR for month in months}
    return _Shape(first, length, min(bought), max(bought), len(bought))


def season_of(months: Mapping[int, int], today: int) -> Season:
    """Return the season of purchase days by month (see `month_of`), as of a day's ordinal."""
    if not months:
        return Season()
    month, length, first, last, seasons = _shape(tuple(months))
    # The last season that has ended; only the one after it may have purchases already.
    over = (month_of(today) - month - length) // YEAR
    ended = seasons - (last > over)
    missed = max(over - first + 1 - ended, 0)
    return Season(length, (month + length - 1) % YEAR + 1, seasons, missed)


def season_share(months: Mapping[int, int]) -> float:
    """Return the share of the purchase days that lie in the busiest three months, running."""
    if not months:
        return 0.0
    days = [0] * YEAR
    for month, number in months.items():
        days[month % YEAR] += number
    days += days[: QUARTER - 1]
    most = max(sum(days[first : first + QUARTER]) for first in range(YEAR))
    return most / sum(months.values())


def season_ends(season: Season, today: int) -> Iterator[int]:
    """Yield the first days after the season, as ordinals, in the two years after today."""
    if season.months:
        now = month_of(today)
        first = now + (season.ends - now - 1) % YEAR + 1
        for after in (first, first + YEAR):
            yield date(after // YEAR, after % YEAR + 1, 1).toordinal()
