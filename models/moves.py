"""What has moved a customer's value since it was published last.

A value moves because something happened, because time passed, because other parameters came into
force, because the settings are others than when it was published, or by a merge. Between two scores
time passes first, under the parameters of the former; then those of the latter come into force; and
then the event is applied. Each part is a difference of two values, so that they add up.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np

from models.aggregate.record import Moved
from models.contracts.parameters import Parameters
from models.customers import Customer, Scoring
from models.economics import Economics
from models.scores import Evaluation, Look, Scores
from models.silence import Silence
from models.standing import Point
from models.value import Row, columns, moved, valued_each


class Moves:
    """What moved values, by the row of the score that is published: of an event, or of a look."""

    def __init__(self) -> None:
        self.of_event: dict[int, Moved] = {}
        self.of_look: dict[int, Moved] = {}


def moves(scoring: Scoring, customers: Iterable[Customer], scores: Scores, looked: Scores) -> Moves:
    """Return what has moved each value that the steps of these customers may publish."""
    links, found = _Links(), Moves()
    if not scoring.context.explained:
        return found
    events: list[tuple[float, int, list[Evaluation]]] = []
    looks: list[tuple[float, int, int]] = []
    day = scoring.context.economics.day
    for customer in customers:
        point, told = customer.was, customer.told
        if point is None or told is None:
            continue
        steps = [step for step in customer.steps if isinstance(step, Evaluation)]
        if not steps:
            for each in _looks(customer):
                place = links.add(point, day(each.as_of), looked.models[each.row])
                looks.append((told, place, each.row))
        elif not any(step.backfill for step in steps):
            events.append((told, len(links), steps))
            for step in steps:
                after = scoring.rows.point(step.row)
                links.add(point, after.day, after.model)
                point = after
    before, later, renewed = links.values(scoring.context.economics)
    for told, place, row in looks:
        model = looked.clv[row] - later[place]
        time = later[place] - before[place]
        found.of_look[row] = Moved(told, time, model, before[place] - told)
    for told, first, steps in events:
        time = model = merge = 0.0
        for place, step in enumerate(steps, first):
            time += later[place] - before[place]
            model += renewed[place] - later[place]
            if step.cause == "merge":
                merge += scores.clv[step.row] - renewed[place]
        row = steps[-1].row
        found.of_event[row] = Moved(told, time, model, before[first] - told, merge)
    return found


def _looks(customer: Customer) -> Iterable[Look]:
    """Yield the looks of which one may be published."""
    for step in customer.steps:
        if isinstance(step, Silence):
            yield from step.looks
            if step.refresh is not None:
                yield step.refresh


class _Links:
    """From what customers were scored, and when and by which parameters they were scored next."""

    def __init__(self) -> None:
        self._points: list[Point] = []
        self._days: list[int] = []
        self._models: list[Parameters] = []

    def __len__(self) -> int:
        return len(self._points)

    def add(self, point: Point, day: int, model: Parameters) -> int:
        """Add a link; return its number. day, model: of the next score."""
        self._points.append(point)
        self._days.append(max(day - point.day, 0))
        self._models.append(model)
        return len(self._points) - 1

    def values(self, economics: Economics) -> tuple[list[float], list[float], list[float]]:
        """Return the value of each at first, when time has passed, and under other parameters."""
        if not self._points:
            return [], [], []
        before = np.arange(len(self._points))
        days = np.array(self._days, np.float64)
        passes = np.flatnonzero(days > 0)
        former = [each.model for each in self._points]
        others = zip(former, self._models, strict=True)
        renews = np.flatnonzero([each is not latter for each, latter in others])
        # All at once: a call costs as much as some hundred rows.
        rows = np.concatenate((before, passes, renews))
        table = np.array(columns([each.row for each in self._points]))
        later = moved(
            Row(*table[:, rows]), np.concatenate((0.0 * days, days[passes], days[renews]))
        )
        models = [
            *former,
            *(former[row] for row in passes.tolist()),
            *(self._models[row] for row in renews.tolist()),
        ]
        clv = valued_each(later, models, economics, spread=False).clv
        at_first, then, anew = np.split(clv, (before.size, before.size + passes.size))
        passed = at_first.copy()
        passed[passes] = then
        renewed = passed.copy()
        renewed[renews] = anew
        return at_first.tolist(), passed.tolist(), renewed.tolist()
