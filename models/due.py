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
from models.segments import Quantile, Rules
from models.standing import Standing
from models.value import Row, Values, columns, moved, valued

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Days = NDArray[np.int64]
Places = NDArray[np.intp]

SOON: Final = 32
"""Days that are gone through day by day."""

QUIET: Final = (SOON, 16, 8, 4)
"""Days for which it is asked, one after the other, whether nothing turns in them."""

FAR: Final = (64, 128, 256, 512, 1024, 2048)
"""Stretches of days after these: eleven years in all."""

_TRIED: Final = 6
"""Days that are tried at once: a call costs more than some rows."""


def moment_of(day: int, after: int, economics: Economics) -> int:
    """Return when a day begins.

    Where clocks are set back at midnight, it may have begun before: then the next one begins.
    """
    begins = economics.day_begins(day)
    return begins if begins > after else economics.day_begins(day + 1)


def quiet_days(
    standings: Sequence[Standing],
    rows: Row[Floats],
    scored: Values,
    places: Sequence[int],
    economics: Economics,
) -> list[int]:
    """Return for how many days no comparison of customers turns: at least so many; 0 if not known.

    standings, rows, scored: of all customers of a batch. places: of those that are asked for.
    """
    found: dict[int, int] = {}
    for group in _groups([standings[place] for place in places]):
        mine = [places[number] for number in group]
        watch = _Watch(standings[mine[0]], [standings[place].read for place in mine], economics)
        at = np.array(mine)
        days = watch.quiet_days(np.array(rows)[:, at], watch.columns(scored, at))
        found.update(zip(mine, days.tolist(), strict=True))
    return [found[place] for place in places]


def soon(
    standings: Sequence[Standing], until: Sequence[int], economics: Economics
) -> list[list[int]]:
    """Return the days after each customer's own on which a comparison turns, as ordinals.

    until: the last day that is asked for; it lies no more than SOON days ahead.
    """
    found: list[list[int]] = [[] for _ in standings]
    for group in _groups(standings):
        those = [standings[number] for number in group]
        watch = _Watch(those[0], [each.read for each in those], economics)
        if not watch.watches:
            continue
        ahead = np.array([until[number] - standings[number].day for number in group])
        table = np.array(columns([each.row for each in those]))
        for place, days in watch.turns(table, np.clip(ahead, 0, SOON)):
            found[group[place]].append(those[place].day + days)
    return found


def later(standings: Sequence[Standing], until: Sequence[int], economics: Economics) -> list[int]:
    """Return the first day on which a comparison turns that does not turn soon, as an ordinal.

    It is the one after all stretches if none turns in them. until: the last day that is asked for;
    a customer who does not turn by then gets some later day.
    """
    found = [0] * len(standings)
    for group in _groups(standings):
        those = [standings[number] for number in group]
        watch = _Watch(those[0], [each.read for each in those], economics)
        ahead = np.array([until[number] - standings[number].day for number in group])
        table = np.array(columns([each.row for each in those]))
        turns = watch.later(table, ahead).tolist()
        for number, each, days in zip(group, those, turns, strict=True):
            found[number] = each.day + days
    return found


def _groups(standings: Sequence[Standing]) -> Iterable[list[int]]:
    """Return the numbers of those to whom the same rules and parameters apply."""
    groups: dict[tuple[int, int], list[int]] = {}
    for number, each in enumerate(standings):
        groups.setdefault((id(each.rules), id(each.model)), []).append(number)
    return groups.values()


class _Watch:
    """Watches the comparisons of customers to whom the same rules and parameters apply.

    first: one of them. read: the features of each that are read from the state.
    """

    def __init__(
        self, first: Standing, read: Sequence[tuple[float | str, ...]], economics: Economics
    ) -> None:
        self._economics = economics
        self._model: Parameters = first.model
        rules: Rules = first.rules
        self._watched = watched = rules.watched
        places = [place for place in watched.read if place >= 0]
        self._read = np.array([[each[place] for place in places] for each in read], np.float64)
        bounds = [
            self._model.quantile(*bound) if isinstance(bound, Quantile) else bound
            for _, bound in watched.compared
        ]
        self._bounds = np.array(bounds, dtype=np.float64)[:, None]
        self._compared = [place for place, _ in watched.compared]
        self.watches = bool(self._compared)

    def quiet_days(self, table: Floats, of: Sequence[Floats]) -> Days:
        """Return for how many days nothing turns, of those in QUIET; of: the features today."""
        left = np.arange(table.shape[1])
        found = np.zeros_like(left)
        if not self.watches:
            return np.full_like(found, SOON)
        here = self.sides(of, 0.0)
        for days in QUIET:
            turned = self.turned(table, here, left, np.full_like(left, days))
            found[left[~turned]] = days
            left = left[turned]
            if not left.size:
                break
        return found

    def turns(self, table: Floats, ahead: Days) -> Iterable[tuple[int, int]]:
        """Yield each row, and in how many days, when a comparison turns on one of so many days."""
        rows = np.repeat(np.arange(ahead.size), ahead + 1)
        firsts = np.cumsum(ahead + 1) - ahead - 1
        days = np.arange(rows.size) - firsts[rows]
        sides = self._later(table[:, rows], rows, days)
        turned = _differ(sides[..., 1:], sides[..., :-1]) & (days[1:] > 0)
        places = np.nonzero(turned)[0] + 1
        return zip(rows[places].tolist(), days[places].tolist(), strict=True)

    def later(self, table: Floats, until: Days) -> Days:
        """Return in how many days each row first turns, if it does not soon."""
        left = np.arange(table.shape[1])
        start = SOON
        found = np.full(left.size, start + sum(FAR) + 1)
        if not self.watches:
            return found
        here = self._later(table, left, np.zeros_like(left))
        for stretch in FAR:
            left = left[until[left] > start]
            if not left.size:
                break
            end = start + stretch
            turned = self.turned(table, here, left, np.full(left.size, end))
            hit = left[turned]
            found[hit] = self._find(
                table, here, hit, np.full(hit.size, start), np.full(hit.size, end)
            )
            left, start = left[~turned], end
        return found

    def _find(self, table: Floats, here: Bools, rows: Places, low: Days, high: Days) -> Days:
        """Return the first day in (low, high] on which each of these rows has turned."""
        tried = np.arange(1, _TRIED + 1)[:, None]
        again, columns = np.tile(rows, _TRIED), np.arange(rows.size)
        while rows.size and (high - low).max() > 1:
            days = low + np.minimum(tried * (-(-(high - low) // (_TRIED + 1))), high - low)
            turned = self.turned(table, here, again, days.ravel()).reshape(days.shape)
            first = np.where(turned.any(axis=0), turned.argmax(axis=0), _TRIED)
            before, after = np.maximum(first - 1, 0), np.minimum(first, _TRIED - 1)
            low, high = (
                np.where(first > 0, days[before, columns], low),
                np.where(first < _TRIED, days[after, columns], high),
            )
        return high

    def turned(self, table: Floats, here: Bools, rows: Places, days: Days) -> Bools:
        """Return which rows have a comparison that is another so many days later."""
        return _differ(here[..., rows], self._later(table[:, rows], rows, days))

    def _later(self, table: Floats, rows: Places, days: Days) -> Bools:
        ahead = days.astype(np.float64)
        values = valued(
            moved(Row(*table), ahead), self._model, self._economics, spread=self._watched.spread
        )
        return self.sides(self.columns(values, slice(None), rows), ahead)

    def columns(
        self, values: Values, places: Places | slice, rows: Places | slice = slice(None)
    ) -> list[Floats]:
        """Return the features that move daily; those that are read from the state as of today.

        places: among the values. rows: among the customers.
        """
        own = iter(self._read.T)
        return [
            next(own)[rows] if each.of is None else each.of(values)[places]
            for each in self._watched.daily
        ]

    def sides(self, of: Sequence[Floats], ahead: Floats | float) -> Bools:
        """Return whether each feature is at least its bound, and above it, so many days later."""
        later = [
            column + ahead if each.of is None else column
            for each, column in zip(self._watched.daily, of, strict=True)
        ]
        compared = np.array(later)[self._compared]
        return np.stack((compared >= self._bounds, compared > self._bounds))


def _differ(left: Bools, right: Bools) -> Bools:
    differ: Bools = (left != right).any(axis=(0, 1))
    return differ
