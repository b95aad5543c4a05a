"""When a customer's segments may next change if nothing happens: on which day to look again.

Rules compare features with bounds. While nothing happens to a customer, their features move by the
calendar day, and segments change only when a comparison turns, when a minimum stay ends, or when
other parameters or rules come into force. So there is nothing to do before the first such moment.

The first month is gone through day by day. Later turns are searched for in stretches of days: if a
comparison is another at the end of one, the day is found by bisection. That is exact for a feature
that only falls or only rises during a stretch, as nearly all do. Expected contacts by the time that
a customer is alive may turn round, and with them the expected value; these are compared at the end
of each stretch.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.contracts.parameters import Parameters
from models.economics import Economics
from models.segments import Quantile
from models.standing import Standing
from models.value import Row, columns, grouped, moved, valued

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Days = NDArray[np.int64]
Places = NDArray[np.intp]

SOON: Final = 32
"""Days that are gone through day by day."""

EDGES: Final = (SOON, 96, 224, 480, 992, 2016, 4064)
"""In how many days stretches of days after these begin and end: eleven years in all."""

_TRIED: Final = 15
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

    They are those of the first month, or else of the first later stretch that has any; none if
    there is none. after, until: the last day that is known, and the last that is asked for. Which
    days turn depends only on the standing, and not on these two.
    """
    found: list[list[int]] = [[] for _ in standings]
    for group in grouped((id(each.rules), id(each.model)) for each in standings):
        those = [standings[number] for number in group]
        if not those[0].rules.watched.compared:
            continue
        first = np.array([each.day for each in those])
        known = np.maximum(np.array([after[number] for number in group]) - first, 0)
        asked = np.array([until[number] for number in group]) - first
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
        """Return in how many days each row turns next; see `turns`."""
        found: list[list[int]] = [[] for _ in known]
        near = np.flatnonzero((known < SOON) & (asked > known))
        if near.size:
            for row, day in self._daily(near, known[near], np.minimum(asked[near], SOON)):
                found[row].append(day)
        silent = np.array([not each for each in found])
        far = np.flatnonzero(silent & (asked > np.maximum(known, SOON)) & (known < EDGES[-1]))
        if far.size:
            for row, days in self._far(far, known[far], asked[far]):
                found[row] = days
        return found

    def _daily(self, rows: Places, known: Days, ends: Days) -> Iterable[tuple[int, int]]:
        """Yield each row, and in how many days, when a comparison turns in (known, end]."""
        number = ends - known + 1
        own = np.repeat(np.arange(rows.size), number)
        days = np.arange(own.size) - (np.cumsum(number) - number)[own] + known[own]
        sides = self._sides(rows[own], days)
        turned = (sides[:, 1:] != sides[:, :-1]).any(axis=0) & (own[1:] == own[:-1])
        places = np.flatnonzero(turned) + 1
        return zip(rows[own[places]].tolist(), days[places].tolist(), strict=True)

    def _far(self, rows: Places, known: Days, asked: Days) -> Iterable[tuple[int, list[int]]]:
        """Yield each row that turns after the first month, and in how many days it does so.

        All turns of a stretch are found together, and of no more stretches than are needed.
        """
        edges = np.array(EDGES)
        every, last = np.arange(edges.size), edges.size - 1
        first = np.maximum(np.searchsorted(edges, known, side="right") - 1, 0)
        end = np.minimum(np.searchsorted(edges, asked), last)
        own, at = np.nonzero((every >= first[:, None]) & (every <= end[:, None]))
        sides = np.zeros((self._bounds.size, rows.size, edges.size), np.bool_)
        sides[:, own, at] = self._sides(rows[own], edges[at])
        turned = sides[..., 1:] != sides[..., :-1]
        turned &= (every[:-1] >= first[:, None]) & (every[1:] <= end[:, None])
        left = np.flatnonzero(turned.any(axis=(0, 2)))
        while left.size:
            stretch = turned[:, left].any(axis=0).argmax(axis=1)
            which, own = np.nonzero(turned[:, left, stretch])
            row, place = left[own], stretch[own]
            here = sides[which, row, place]
            days = self._find(rows[row], which, here, edges[place], edges[place + 1])
            again = []
            for number, each in enumerate(left.tolist()):
                mine = days[(own == number) & (days > known[each])]
                if mine.size:
                    yield int(rows[each]), np.unique(mine).tolist()
                else:
                    turned[:, each, stretch[number]] = False
                    again.append(each)
            again = [each for each in again if turned[:, each].any()]
            left = np.array(again, np.intp)

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
