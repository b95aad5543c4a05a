"""Decide the segments of many customers at once; what a customer was before decides with them."""

from __future__ import annotations

from collections.abc import Callable

from models.segments.rules import Dimension, Rules
from models.segments.tables import Held

Day = Callable[[int], int]
"""The ordinal of a time's calendar day, in milliseconds since 1970."""


class Decisions:
    """The decisions of one dimension for all rows of a batch.

    first: the index of the first rule that holds for each row, whatever the customer was before.
    kept: for each segment with bounds to leave, that of its first rule that holds with them.
    With hysteresis and minimum stays the rest is decided one by one, by `decide`. suggested: the
    segment of the first rule; who is in it stays there, so that nothing has to be decided.
    """

    __slots__ = ("dimension", "first", "kept", "name", "segments", "stays", "suggested")

    def __init__(self, dimension: Dimension, first: list[int], kept: dict[str, list[int]]) -> None:
        self.dimension = dimension
        self.name = dimension.name
        self.segments = [rule.segment for rule in dimension.rules]
        self.first = first
        self.kept = kept
        self.stays = dimension.stays
        segments = self.segments
        self.suggested = [segments[index] for index in first]

    def decide(
        self, row: int, previous: str | None, since: int | None, as_of: int, day: Day
    ) -> int:
        """Return the index of the rule that decides.

        previous: the customer's segment so far. since: when they entered it, if known. as_of: the
        time of the decision; both in milliseconds since 1970.
        """
        index = self.first[row]
        if previous is None:
            return index
        if (kept := self.kept.get(previous)) is not None and kept[row] < index:
            index = kept[row]
        if since is not None:
            for place, days in self.stays.get(previous, ()):
                if place < index and day(as_of) - day(since) < days:
                    return place
        return index


def decisions(rules: Rules, held: Held) -> list[Decisions]:
    """Return the decisions of each dimension."""
    places: list[list[int]] = held.places.tolist()
    decided = [Decisions(*each, {}) for each in zip(rules.dimensions, places, strict=False)]
    groups = zip(rules.tables.kept, places[len(decided) :], strict=True)
    for (dimension, segment), kept in groups:
        decided[dimension].kept[segment] = kept
    return decided
