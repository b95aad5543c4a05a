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

from models.due import between, narrowed
from models.economics import Economics
from models.standing import Standing
from models.value import Row, Values, columns, grouped, moved, valued

Days = NDArray[np.int64]
Floats = NDArray[np.float64]

_TRIED: Final = 5
"""Days that are tried at once."""

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
        last, following = (first + days for days in fading.around(now))
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
        self._refresh = refresh
        self._economics = economics
        self._model = standings[0].model
        self._table = np.array(columns([each.row for each in standings]))

    def around(self, now: Days) -> tuple[Days, Days]:
        """Return the last day by now on which the value is to be published, and the next one.

        now: in days since the silence began.
        """
        rows, period = np.arange(now.size), self._refresh.days
        last = now // period * period
        following = last + period
        # All at once, here and below: a call costs as much as some hundred rows.
        seen = self._values(np.tile(rows, 4), np.concatenate([0 * now, last, now, following]))
        first, *later = seen.clv.reshape(4, -1)
        step = np.maximum(tolerance(first, seen.expected[: now.size], self._refresh), 1e-9)
        before, steps, after = (_steps(clv, first, step) for clv in later)
        fallen, falling = np.flatnonzero(before != steps), np.flatnonzero(steps != after)
        # The last turn by now is where the present step begins; the next one, where it ends.
        own = np.concatenate([fallen, falling])
        low = np.concatenate([last[fallen], now[falling]])
        high = np.concatenate([now[fallen], following[falling]])
        begins = np.arange(own.size) < fallen.size
        while own.size and (high - low).max() > 1:
            days = between(low, high, _TRIED)
            clv = self._values(np.tile(own, _TRIED), days.ravel()).clv.reshape(days.shape)
            there = (_steps(clv, first[own], step[own]) == steps[own]) == begins
            low, high = narrowed(there, days, low, high)
        last[fallen], following[falling] = high[: fallen.size], high[fallen.size :]
        return last, following

    def _values(self, rows: NDArray[np.intp], days: Days) -> Values:
        later = moved(Row(*self._table[:, rows]), days.astype(np.float64))
        return valued(later, self._model, self._economics, spread=False)


def _steps(clv: Floats, first: Floats, step: Floats) -> Days:
    """Return how many steps each value has moved since the silence began."""
    return np.floor(np.abs(clv - first) / step + _SLACK).astype(np.int64)
