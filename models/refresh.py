"""When the value of a silent customer is published again: it fades while nothing happens.

Which days these are follows from the customer's standing when the silence began, and not from who
looked when.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field

from models.economics import Economics
from models.standing import Standing
from models.value import Row, Values, columns, grouped, moved, valued

Days = NDArray[np.int64]
Floats = NDArray[np.float64]

_SLACK: Final = 1e-9
"""Relative; a value that is computed anew may differ by its rounding."""


class Refresh(BaseModel):
    """How far a silent customer's value may move, and for how long, until it is published again."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    share: Annotated[float, Field(gt=0, le=1)] = 0.10
    """Of the value, or of what is expected of the customer, if that is more."""
    days: Annotated[int, Field(ge=1, le=3650)] = 30
    """Calendar days since the silence began, and every so many from then on."""


def tolerance(clv: Floats, expected: Floats, refresh: Refresh) -> Floats:
    """Return by how much each value may move."""
    scale: Floats = np.maximum(np.abs(clv), np.abs(expected))
    return refresh.share * scale


def refreshes(
    standings: Sequence[Standing], until: Sequence[int], refresh: Refresh, economics: Economics
) -> list[tuple[int, int]]:
    """Return on which days each value is to be published: the last one by a day, and the next.

    standings: when the silences began. until: those days, as ordinals. A last day that is the one
    of the standing means that there was none yet.
    """
    found: list[tuple[int, int]] = [(0, 0)] * len(standings)
    for group in grouped([id(each.model) for each in standings]):
        those = [standings[number] for number in group]
        first = np.array([each.day for each in those])
        now = np.maximum(np.array([until[number] for number in group]) - first, 0)
        fading = _Fading(those, refresh, economics)
        last, following = (first + days for days in fading.around(now, refresh.days))
        for number, *days in zip(group, last.tolist(), following.tolist(), strict=True):
            found[number] = days[0], days[1]
    return found


class _Fading:
    """The values of customers of one model, in steps of what they may move.

    While nothing happens, expected purchases only fall: a step that is left does not return.
    Expected contacts by the time that a customer is alive may turn round, and the value with them:
    what it does between two days on which it has moved as far goes unseen.
    """

    def __init__(
        self, standings: Sequence[Standing], refresh: Refresh, economics: Economics
    ) -> None:
        self._economics = economics
        self._model = standings[0].model
        self._table = np.array(columns([each.row for each in standings]))
        self._first = self._values(np.arange(len(standings)), np.zeros(len(standings)))
        step = tolerance(self._first.clv, self._first.expected, refresh)
        self._step = np.maximum(step, 1e-9)

    def _values(self, rows: NDArray[np.intp], days: Floats) -> Values:
        later = moved(Row(*self._table[:, rows]), days)
        return valued(later, self._model, self._economics, spread=False)

    def _steps(self, rows: NDArray[np.intp], days: Days) -> NDArray[np.int64]:
        """Return how many steps each value has moved, so many days after the silence began."""
        clv = self._values(rows, days.astype(np.float64)).clv
        steps = np.abs(clv - self._first.clv[rows]) / self._step[rows]
        return np.floor(steps + _SLACK).astype(np.int64)

    def around(self, now: Days, period: int) -> tuple[Days, Days]:
        """Return the last day by now on which the value is to be published, and the next one."""
        rows = np.arange(now.size)
        last = now // period * period
        following = last + period
        steps = [self._steps(rows, days) for days in (last, now, following)]
        moved_by_now = np.flatnonzero(steps[0] != steps[1])
        moves_later = np.flatnonzero(steps[1] != steps[2])
        # The last turn by now is where the present step begins; the next one, where it ends.
        since = self._turn(moved_by_now, last, now, steps[1], reached=True)
        ends = self._turn(moves_later, now, following, steps[1], reached=False)
        last[moved_by_now], following[moves_later] = since, ends
        return last, following

    def _turn(
        self,
        rows: NDArray[np.intp],
        after: Days,
        until: Days,
        steps: NDArray[np.int64],
        *,
        reached: bool,
    ) -> Days:
        """Return the first day in (after, until] on which these steps are reached, or left."""
        low, high, steps = after[rows], until[rows], steps[rows]
        while rows.size and (high - low).max() > 1:
            middle = (low + high) // 2
            there = (self._steps(rows, middle) == steps) == reached
            low, high = np.where(there, low, middle), np.where(there, middle, high)
        return high
