"""Decide the segments of many customers at once; what a customer was before decides with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np

from models.features import Columns, Floats
from models.segments.conditions import Quantile
from models.segments.rules import Dimension

Day = Callable[[int], int]
"""The ordinal of a time's calendar day, in milliseconds since 1970."""


class Decisions:
    """The decisions of one dimension for all rows of a batch.

    first: the index of the first rule that holds for each row, whatever the customer was before.
    With hysteresis and minimum stays the rest is decided one by one, by `decide`. suggested: the
    segment of that rule; who is in it stays there, so that nothing has to be decided. first_of,
    kept_of: the same as columns.
    """

    __slots__ = (
        "dimension", "first", "first_of", "kept", "kept_of", "name", "segments", "stays",
        "suggested",
    )  # fmt: skip

    def __init__(
        self,
        dimension: Dimension,
        features: Columns,
        quantiles: Mapping[Quantile, Floats],
        size: int,
    ) -> None:
        rules = dimension.rules
        last = len(rules) - 1
        first = np.full(size, last, dtype=np.intp)
        kept: dict[str, np.ndarray[tuple[int], np.dtype[np.intp]]] = {}
        for index in range(last - 1, -1, -1):
            rule = rules[index]
            first[rule.holds(features, quantiles, size)] = index
            if rule.leaves:
                mine = kept.setdefault(rule.segment, np.full(size, last, dtype=np.intp))
                mine[rule.holds(features, quantiles, size, leaving=True)] = index
        self.dimension = dimension
        self.name = dimension.name
        self.segments = [rule.segment for rule in rules]
        self.first_of = first
        self.kept_of = kept
        self.first: list[int] = first.tolist()
        self.kept: dict[str, list[int]] = {name: each.tolist() for name, each in kept.items()}
        self.stays = dimension.stays
        segments = self.segments
        self.suggested = [segments[index] for index in self.first]

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
