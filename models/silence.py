"""The silence of a customer, and the moments of it at which a segment may change.

What time brings is dated by its own moment, not by when somebody noticed. Which moments are looked
at follows from the customer's state when the silence began, and not from who looks when.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from models.aggregate.record import Cause
from models.due import moment_of, turns
from models.economics import Economics
from models.scores import Look
from models.standing import NO_DAY, Standing
from models.timeline import NEVER

Pivot = tuple[int, Standing]
"""A moment, and what the customer is scored from then: other than days alone would make it."""


class Sight(NamedTuple):
    """A moment to look at a customer, its day, and how they stood on an earlier one."""

    moment: int
    day: int
    standing: Standing
    cause: Cause


class Silence:
    """The time in which nothing happened to a customer, up to an event or a sweep.

    base: when the customer was last scored because something happened, or of the last pivot;
    standing: then. at: a moment up to which there is nothing to look at. known: the ordinal of the
    day up to which no comparison turns that is not told. until: the end of the silence; times are
    in milliseconds since 1970. ends: whether something happens then. pivots: in order. following:
    when there may be another one, after that. offset: of the record that led to it. stays: when
    minimum stays may end. turns: the next moments, in order, at which a comparison turns; None: to
    be searched for. most: how often to look; None: as often as there is something to look at.
    refresh: a look whose value is published if no later one has been. refresh_at: when the value is
    to be published next, or NEVER.
    """

    __slots__ = (
        "at", "base", "ends", "following", "known", "looks", "most", "offset", "pivots",
        "refresh", "refresh_at", "standing", "stays", "turns", "until",
    )  # fmt: skip

    def __init__(
        self,
        base: int,
        standing: Standing,
        known: int,
        until: int,
        *,
        ends: bool,
        offset: int,
        at: int = 0,
        pivots: Iterable[Pivot] = (),
        following: int = NEVER,
        turns: list[int] | None = None,
    ) -> None:
        self.base = base
        self.at = max(base, at)
        self.standing = standing
        self.known = known
        self.until = until
        self.ends = ends
        self.offset = offset
        self.pivots = list(pivots)
        self.following = following
        self.stays: set[int] = set()
        self.most: int | None = None
        self.turns = turns
        self.looks: list[Look] = []
        self.refresh: Look | None = None
        self.refresh_at = NEVER

    def look(self, economics: Economics) -> Sight | None:
        """Go on to the next moment to look at; None if the silence ends before."""
        turn = self.turn
        moment = min([turn, *(end for end in self.stays if end > self.at)])
        if self.is_cut:
            return None
        if self.pivots and self.pivots[0][0] <= min(moment, self.until):
            return self._turn_round(economics)
        if moment > self.until:
            return None
        self.at, day = moment, economics.day(moment)
        if moment == turn:
            self.known = day
            self.turns = (self.turns or [])[1:] or None
        return Sight(moment, day, self.standing, "time")

    def _turn_round(self, economics: Economics) -> Sight:
        before = self.standing
        self.base, self.standing = self.pivots.pop(0)
        self.at, self.known, self.turns = self.base, economics.day(self.base), None
        cause: Cause = "time"
        if self.standing.model is not before.model:
            cause = "model"
        elif self.standing.rules is not before.rules:
            cause = "rules"
        return Sight(self.base, self.standing.day, self.standing, cause)

    @property
    def turn(self) -> int:
        """The next moment at which a comparison turns, or NEVER."""
        return self.turns[0] if self.turns else NEVER

    @property
    def next(self) -> int:
        """When to look again if nothing happens, but for minimum stays."""
        pivot = self.pivots[0][0] if self.pivots else self.following
        return min(self.turn, pivot, self.refresh_at)

    @property
    def is_cut(self) -> bool:
        """Whether there may be more to look at than the outbox has room for."""
        return self.most is not None and len(self.looks) >= self.most

    def turn_day(self, economics: Economics) -> int:
        """The ordinal of the day on which a comparison turns next, or NO_DAY; 0: not known."""
        if not self.turns:
            return 0
        return NO_DAY if self.turn == NEVER else economics.day(self.turn)


def search(silences: Sequence[Silence], economics: Economics) -> None:
    """Find when comparisons turn next in each silence for which it is not known."""
    unknown = [each for each in silences if each.turns is None]
    if not unknown:
        return
    found = turns(
        [each.standing for each in unknown],
        [each.known for each in unknown],
        [economics.day(each.until) if each.ends else NO_DAY for each in unknown],
        economics,
    )
    for each, days in zip(unknown, found, strict=True):
        each.turns = [moment_of(day, each.base, economics) for day in days]
        if each.ends or not days:
            each.turns.append(NEVER)


def stays_from(moment: int, stay_days: Iterable[int], economics: Economics) -> Iterator[int]:
    """Yield when minimum stays of so many days end that begin at a moment."""
    day = economics.day(moment)
    for days in stay_days:
        yield economics.day_begins(day + days)
