"""How right segments are: who bought again from each, and how often customers change.

Days are ordinals; customers and rules are numbers, the latter by their place in the dimension.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
Floats = NDArray[np.float64]

WINDOWS: Final = (90, 365)
"""Days within which a customer may buy again."""

BACK_WITHIN: Final = 30
"""Days within which a customer who returns to a segment has gone back and forth."""

YEAR: Final = 365
NOBODY: Final = -1


@dataclass(frozen=True, slots=True)
class Share:
    """Of the customers in a segment those who bought again within some days.

    days: fewer than asked for where the data end before; 0 if there is nothing after.
    """

    days: int
    share: float | None


@dataclass(frozen=True, slots=True)
class Members:
    """A segment on a day. entered: changes into it since the last look, without first segments."""

    segment: str
    customers: int
    again: tuple[Share, ...]
    entered: int


@dataclass(frozen=True, slots=True)
class Look:
    """All segments of a dimension on a day, in the order of their rules."""

    day: int
    members: tuple[Members, ...]

    def of(self, segment: str) -> Members:
        """Return those in a segment."""
        return next(each for each in self.members if each.segment == segment)


@dataclass(frozen=True, slots=True)
class Course:
    """A dimension in the course of time. changes, back_and_forth: a year and 1,000 customers."""

    dimension: str
    looks: tuple[Look, ...]
    changes: float
    back_and_forth: float


class _Seen(NamedTuple):
    """Who was in which segment on a day, and how many changed into each since the look before."""

    day: int
    who: Ints
    places: Ints
    entered: Counter[int]


class Watch:
    """Follows the customers of one dimension from moment to moment."""

    def __init__(self, dimension: str, segments: Iterable[str]) -> None:
        self._dimension = dimension
        self._places = {name: place for place, name in enumerate(dict.fromkeys(segments))}
        self._now = np.empty(0, dtype=np.int64)
        self._before = np.empty(0, dtype=np.int64)
        self._since = np.empty(0, dtype=np.int64)
        self._last_day = 0
        self._days = 0
        self._changes = self._back = 0
        self._entered = Counter[int]()
        self._seen: list[_Seen] = []

    def move(self, day: int, who: Ints, segments: Iterable[str]) -> None:
        """Take in the segments of these customers on a day; who: their numbers, each once."""
        self._grow(int(who.max(initial=-1)) + 1)
        to = np.array([self._places[each] for each in segments], dtype=np.int64)
        now = self._now[who]
        known, moved = now != NOBODY, now != to
        changed = known & moved
        back = changed & (to == self._before[who]) & (day - self._since[who] <= BACK_WITHIN)
        self._changes += int(changed.sum())
        self._back += int(back.sum())
        self._entered.update(to[changed].tolist())
        self._days += int(known.sum()) * (day - self._last_day)
        self._last_day = day
        self._before[who[moved]], self._since[who[moved]] = now[moved], day
        self._now[who] = to

    def look(self, day: int, who: Ints) -> None:
        """Note which of these customers is in which segment."""
        self._seen.append(_Seen(day, who, self._now[who], self._entered))
        self._entered = Counter()

    def course(self, until: int, to_next: Callable[[int, Ints], Floats]) -> Course:
        """Return what was seen, and what followed.

        until: the last day of the data. to_next: returns the days from a day to the next purchase
        of customers; inf for none, nan if it is not known.
        """
        looks = []
        for seen in self._seen:
            ahead = to_next(seen.day, seen.who)
            members = []
            for name, place in self._places.items():
                mine = seen.places == place
                again = tuple(_share(ahead[mine], min(days, until - seen.day)) for days in WINDOWS)
                members.append(Members(name, int(mine.sum()), again, seen.entered[place]))
            looks.append(Look(seen.day, tuple(members)))
        thousands = max(self._days / YEAR / 1_000, 1e-9)
        rates = self._changes / thousands, self._back / thousands
        return Course(self._dimension, tuple(looks), *rates)

    def _grow(self, size: int) -> None:
        more = size - len(self._now)
        if more > 0:
            added = np.full(more, NOBODY, dtype=np.int64)
            self._now = np.concatenate((self._now, added))
            self._before = np.concatenate((self._before, added))
            self._since = np.concatenate((self._since, added))


def _share(ahead: Floats, days: int) -> Share:
    known = ahead[~np.isnan(ahead)]
    if days <= 0 or not len(known):
        return Share(max(days, 0), None)
    return Share(days, float((known <= days).mean()))
