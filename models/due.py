"""When a customer's segments may next change if nothing happens: on which day to look again.

Rules compare features with bounds. While nothing happens to a customer, their features move by the
calendar day, and segments change only when a comparison turns, when a minimum stay ends, or when
other parameters or rules come into force. So there is nothing to do before the first such moment.

They are searched for in stretches of days that grow: if a comparison is another at the end of one,
the day is found by bisection. That is exact for a feature that only falls or only rises during a
stretch, as nearly all do. Expected contacts by the time that a customer is alive may turn round,
and with them the expected value; these are compared at the end of each stretch.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.contracts.parameters import Parameters
from models.economics import Economics
from models.segments import Quantile
from models.standing import NO_DAY, Standing
from models.value import Row, columns, grouped, moved, valued

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Days = NDArray[np.int64]
Places = NDArray[np.intp]

EDGES: Final = (0, 8, 32, 96, 224, 480, 992, 2016, 4064)
"""In how many days stretches begin and end: eleven years in all."""

_TRIED: Final = 7
"""Days that are tried at once: a call costs more than some rows."""


def moment_of(day: int, after: int, economics: Economics) -> int:
    """Return when a day begins.

    Where clocks are set back at midnight, it may have begun before: then the next one begins.
    """
    begins = economics.day_begins(day)
    return begins if begins > after else economics.day_begins(day + 1)


def turns(
    standings: Sequence[Standing],
    after: Sequence[int],
    until: Sequence[int],
    economics: Economics,
) -> list[list[int]]:
    """Return the next days on which a comparison of each customer turns, as ordinals.

    after, until: the last day that is known, and the last that is asked for. They are all in
    between, and perhaps later ones; if NO_DAY is asked for, those of the first stretch that has
    any. Which days turn depends only on the standing, and not on these two.
    """
    found: list[list[int]] = [[] for _ in standings]
    for group in grouped((id(each.rules), id(each.model)) for each in standings):
        those = [standings[number] for number in group]
        if not those[0].rules.watched.compared:
            continue
        first = np.array([each.day for each in those])
        known = np.maximum(np.array([after[number] for number in group]) - first, 0)
        asked = np.array([until[number] for number in group])
        asked = np.where(asked < NO_DAY, asked - first, NO_DAY)
        days = _Watch(those, economics).turns(known, asked)
        for number, each, mine in zip(group, those, days, strict=True):
            found[number] = [each.day + day for day in mine]
    return found


def between(low: Days, high: Days, number: int) -> Days:
    """Return days to try in (low, high] of each column: so many lines of them, in equal steps."""
    tried, step = np.arange(1, number + 1)[:, None], -((low - high) // (number + 1))
    days: Days = low + np.minimum(tried * step, high - low)
    return days


def narrowed(turned: Bools, days: Days, low: Days, high: Days) -> tuple[Days, Days]:
    """Return the stretches (low, high] that the first turn lies in, by what was tried.

    turned, days: whether each column had turned on the days of `between`; by `high` all have.
    """
    number, columns = len(days), np.arange(len(low))
    first = np.where(turned.any(axis=0), turned.argmax(axis=0), number)
    before, after = np.maximum(first - 1, 0), np.minimum(first, number - 1)
    return (
        np.where(first > 0, days[before, columns], low),
        np.where(first < number, days[after, columns], high),
    )


class _Watch:
    """Watches the comparisons of customers to whom the same rules and parameters apply.

    standings: theirs.
    """

    def __init__(self, standings: Sequence[Standing], economics: Economics) -> None:
        self._economics = economics
        self._model: Parameters = standings[0].model
        self._watched = watched = standings[0].rules.watched
        self._table = np.array(columns([each.row for each in standings]))
        places = [place for place in watched.read if place >= 0]
        read = [[each.read[place] for place in places] for each in standings]
        self._read = np.array(read, np.float64)
        bounds = np.array(
            [
                self._model.quantile(*each.bound)
                if isinstance(each.bound, Quantile)
                else each.bound
                for each in watched.compared
            ],
            np.float64,
        )
        # What is compared with a quantile that is not published never turns.
        known = ~np.isnan(bounds)
        self._bounds = bounds[known]
        self._feature = np.array([each.feature for each in watched.compared], np.intp)[known]
        self._strictly = np.array([each.strictly for each in watched.compared], np.bool_)[known]
        self._expected = np.array(watched.expected, np.bool_)[known]

    def turns(self, known: Days, asked: Days) -> list[list[int]]:
        """Return in how many days each row turns next; see `turns`.

        The turns of many rows and stretches are found together, as a call costs more than a row.
        """
        found: list[list[int]] = [[] for _ in known]
        edges, last = np.array(EDGES), len(EDGES) - 1
        every = np.arange(edges.size)
        first = np.maximum(np.searchsorted(edges, known, side="right") - 1, 0)
        end = np.where(asked > known, np.minimum(np.searchsorted(edges, asked), last), first)
        row, at = np.nonzero((every >= first[:, None]) & (every <= end[:, None]))
        sides = np.zeros((self._bounds.size, known.size, edges.size), np.bool_)
        sides[:, row, at] = self._sides(row, edges[at])
        turned = sides[..., 1:] != sides[..., :-1]
        turned &= (every[:-1] >= first[:, None]) & (every[:-1] < end[:, None])
        endless = asked >= NO_DAY
        while turned.any():
            # Of an endless silence one stretch at a time: most end before what follows.
            soonest = turned.any(axis=0).argmax(axis=1)
            now = turned & (~endless[:, None] | (every[:-1] == soonest[:, None]))
            which, row, at = np.nonzero(now)
            days = self._find(row, which, sides[which, row, at], edges[at], edges[at + 1])
            new = days > known[row]
            for each, day in set(zip(row[new].tolist(), days[new].tolist(), strict=True)):
                found[each].append(day)
            turned &= ~now
            turned[:, row[new]] = False
        for days_of_one in found:
            days_of_one.sort()
        return found

    def _find(self, rows: Places, which: Places, here: Bools, low: Days, high: Days) -> Days:
        """Return the first day in (low, high] on which a comparison of each row is not as here."""
        found = high.copy()
        # Apart, as expectations take many times as long as all else.
        for expected in (False, True):
            own = np.flatnonzero(self._expected[which] == expected)
            if own.size:
                of = rows[own], which[own], here[own], low[own], high[own]
                found[own] = self._bisect(*of, expected=expected)
        return found

    def _bisect(
        self, rows: Places, which: Places, here: Bools, low: Days, high: Days, *, expected: bool
    ) -> Days:
        again, compared = np.tile(rows, _TRIED), np.tile(which, _TRIED)
        while (high - low).max() > 1:
            days = between(low, high, _TRIED)
            features = self._features(again, days.ravel(), expected=expected)
            value = features[self._feature[compared], np.arange(again.size)]
            side = np.where(
                self._strictly[compared],
                value > self._bounds[compared],
                value >= self._bounds[compared],
            )
            turned = side.reshape(days.shape) != here
            low, high = narrowed(turned, days, low, high)
        return high

    def _sides(self, rows: Places, days: Days) -> Bools:
        """Return which comparisons hold, for each of these rows so many days later."""
        expected = bool(self._expected.any())
        values = self._features(rows, days, expected=expected)[self._feature]
        bounds = self._bounds[:, None]
        return np.where(self._strictly[:, None], values > bounds, values >= bounds)

    def _features(self, rows: Places, days: Days, *, expected: bool) -> Floats:
        """Return the watched features of each of these rows so many days later.

        expected: whether to compute those that take expectations; they are wrong if not.
        """
        ahead = days.astype(np.float64)
        values = valued(
            moved(Row(*self._table[:, rows]), ahead),
            self._model,
            self._economics,
            spread=expected and self._watched.spread,
            expectations=expected,
        )
        own = iter(self._read.T)
        return np.array(
            [
                next(own)[rows] + ahead if each.of is None else each.of(values)
                for each in self._watched.daily
            ]
        )
