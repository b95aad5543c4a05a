"""The silence of a customer, and the moments of it at which a segment may change.

What time brings is dated by its own moment, not by when somebody noticed. Which moments are looked
at follows from the customer's state when the silence began, and not from who looks when.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from models.aggregate.record import Cause
from models.due import SOON, later, moment_of, soon
from models.economics import Economics
from models.scores import Look
from models.standing import NO_DAY, Standing
from models.timeline import NEVER

Pivot = tuple[int, Standing]
"""A moment, and what the customer is scored from then: other than days alone would make it."""


class Silence:
    """The time in which nothing happened to a customer, up to an event or a sweep.

    at: the moment of the customer's last score, or of the last look; standing: then. turns: the
    next moments, in order, at which a comparison turns; empty if they are not known. until: the end
    of the silence; times are in milliseconds since 1970. ends: whether something happens then.
    pivots: in order. offset: of the record that led to it. row: of the score that it begins with,
    if that is in the same batch. stays: when minimum stays may end.
    """

    __slots__ = (
        "at", "ends", "looked", "looks", "offset", "pivots", "row", "standing", "stays", "turns",
        "until",
    )  # fmt: skip

    def __init__(
        self,
        at: int,
        standing: Standing,
        turns: list[int],
        until: int,
        pivots: Iterable[Pivot],
        *,
        ends: bool,
        offset: int,
        row: int | None = None,
    ) -> None:
        self.at = at
        self.standing = standing
        self.turns = turns
        self.until = until
        self.pivots = list(pivots)
        self.ends = ends
        self.offset = offset
        self.row = row
        self.stays: set[int] = set()
        self.looked = False
        self.looks: list[Look] = []

    def look(self, economics: Economics) -> tuple[int, Standing, Cause] | None:
        """Go on to the next moment to look at; None if the silence ends before."""
        moment = min([self.turns[0], *(end for end in self.stays if end > self.at)])
        cause: Cause = "time"
        if self.pivots and self.pivots[0][0] <= min(moment, self.until):
            moment, standing = self.pivots.pop(0)
            if standing.model is not self.standing.model:
                cause = "model"
            elif standing.rules is not self.standing.rules:
                cause = "rules"
            self.turns = []
        elif moment > self.until:
            return None
        else:
            standing = self.standing.on(economics.day(moment))
            self.turns = self.turns[1:] if moment == self.turns[0] else []
        self.at, self.standing, self.looked = moment, standing, True
        return moment, standing, cause

    def asked(self, economics: Economics) -> int:
        """Return the day up to which turns are asked for."""
        return economics.day(self.until) if self.ends else NO_DAY


def search(silences: Sequence[Silence], economics: Economics) -> None:
    """Find when comparisons turn next in each silence for which it is not known."""
    unknown = [each for each in silences if not each.turns]
    if not unknown:
        return
    until = [min(each.asked(economics), each.standing.day + SOON) for each in unknown]
    far = []
    days = soon([each.standing for each in unknown], until, economics)
    for each, turns in zip(unknown, days, strict=True):
        if turns:
            each.turns = [moment_of(day, each.at, economics) for day in turns]
        elif not each.looked:
            each.turns = [moment_of(each.standing.day + SOON + 1, each.at, economics)]
        elif each.asked(economics) <= each.standing.day + SOON:
            each.turns = [NEVER]
        else:
            far.append(each)
    asked = [each.asked(economics) for each in far]
    for each, day in zip(far, later([e.standing for e in far], asked, economics), strict=True):
        each.turns = [moment_of(day, each.at, economics)]


def stays_from(moment: int, stay_days: Iterable[int], economics: Economics) -> Iterator[int]:
    """Yield when minimum stays of so many days end that begin at a moment."""
    day = economics.day(moment)
    for days in stay_days:
        yield economics.day_begins(day + days)
