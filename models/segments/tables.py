"""Rules as tables of indices, so that a few numpy calls evaluate all of them, also for one row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.features import Columns, Floats
from models.segments.comparisons import Comparisons, Quantiles, Texts, compared

if TYPE_CHECKING:
    from models.segments.rules import Rule

Indices = NDArray[np.intp]
Ranks = NDArray[np.unsignedinteger[Any]]

NEVER, ALWAYS = 0, -1
"""The line that never holds; the comparison that always does."""


class Lines(NamedTuple):
    """The lines of a rule, by what the customer was before; `NEVER` for one that it has not.

    entering: for everybody. leaving: with the bounds to leave. staying: with its minimum stay.
    """

    entering: int
    leaving: int
    staying: int


class Held(NamedTuple):
    """What holds for the rows of a batch.

    numbers: features × rows. texts: the column of each comparison of texts. limits: comparisons ×
    1 or × rows. ranks: lines × rows. highest, places: of the groups × rows, the highest rank, and
    the index of the rule that has it.
    """

    numbers: Floats
    texts: Texts
    limits: Floats
    ranks: Ranks
    highest: Ranks
    places: Indices


class Steady(NamedTuple):
    """For each segment of each dimension, the lines that tell whether a customer keeps it.

    dimension: its index. mine: of its rules, whatever the customer was before. own: of its rules,
    for who is in it. others: of all other rules.
    """

    dimension: Indices
    mine: Indices
    own: Indices
    others: Indices


class Tables:
    """The rules of some dimensions.

    A line is a list of comparisons that must all hold. Its rank is that of its rule, counted from
    the last one of the dimension, which has 1. Where a line does not hold its rank is 0: of a group
    of lines, the rule of the one with the highest rank decides.

    kept: the dimension and the segment of each group of rules with bounds to leave; these groups
    follow those of all rules of each dimension.
    """

    def __init__(self, dimensions: Sequence[Sequence[Rule]]) -> None:
        self._dimensions = dimensions
        self.comparisons = Comparisons(
            compared(each, leaving=leaving)
            for rules in dimensions
            for rule in rules
            for each in rule.conditions
            for leaving in (False, True)
        )
        self._alternatives: dict[tuple[int, ...], int] = {}
        """Comparisons any of which suffices, and the index of them together."""
        every: list[tuple[int, ...]] = [(ALWAYS,)]
        ranks = [0]

        def line(rank: int, comparisons: tuple[int, ...]) -> int:
            every.append(comparisons or (ALWAYS,))
            ranks.append(rank)
            return len(ranks) - 1

        self._lines = [
            [
                Lines(
                    line(rank, self._asked(rule, leaving=False)),
                    line(rank, self._asked(rule, leaving=True)) if rule.leaves else NEVER,
                    line(rank, ()) if rule.stay_days else NEVER,
                )
                for rank, rule in zip(range(len(rules), 0, -1), rules, strict=True)
            ]
            for rules in dimensions
        ]
        self._either = _padded(self._alternatives)
        self._every = _padded(every)
        self._ranks: Ranks = np.array(ranks, np.min_scalar_type(max(ranks))).reshape(-1, 1)
        kept = {
            (index, segment): [*(lines[place].leaving for place in places), lines[-1].entering]
            for index, segment, places, lines in self._segments()
            if any(lines[place].leaving for place in places)
        }
        self.kept = list(kept)
        entering = [[each.entering for each in lines] for lines in self._lines]
        self._groups = _padded([*entering, *kept.values()])
        lengths = [len(rules) for rules in dimensions]
        lengths += [lengths[index] for index, _ in kept]
        self._lengths = np.array(lengths, np.intp).reshape(-1, 1)

    def held(self, features: Columns, quantiles: Quantiles, size: int) -> Held:
        """Return what holds for so many rows."""
        numbers, texts = self.comparisons.columns(features, size)
        limits = self.comparisons.limits(quantiles)
        ranks = self.ranks(self.comparisons.each(numbers), texts, limits)
        highest = highest_of(ranks, self._groups)
        return Held(numbers, texts, limits, ranks, highest, self._lengths - highest)

    def ranks(self, numbers: Floats, texts: Texts, limits: Floats) -> Ranks:
        """Return the ranks of … × lines × rows of what is compared: … × comparisons × rows."""
        *more, _, size = numbers.shape
        count = len(self.comparisons.places)
        met = np.ones((*more, count + len(self._either) + 1, size), np.bool_)
        self.comparisons.meet(met, numbers, texts, limits)
        either = met.take(self._either, axis=-2)
        np.logical_or.reduce(either, axis=-2, out=met[..., count:-1, :])
        ranks: Ranks = np.logical_and.reduce(met.take(self._every, axis=-2), axis=-2) * self._ranks
        return ranks

    @cached_property
    def steady(self) -> Steady:
        """The lines that tell who keeps their segments."""
        of, mine, own, others = [], [], [], []
        for index, _, places, lines in self._segments():
            of.append(index)
            mine.append([line for place in places for line in lines[place]])
            own.append([line for place in places for line in lines[place][:2]])
            entering = [each.entering for at, each in enumerate(lines) if at not in places]
            others.append(entering or [NEVER])
        return Steady(np.array(of, np.intp), _padded(mine), _padded(own), _padded(others))

    def _segments(self) -> Iterator[tuple[int, str, tuple[int, ...], Sequence[Lines]]]:
        """Yield each dimension's segments: its index, the segment, its rules, and all lines."""
        for index, (rules, lines) in enumerate(zip(self._dimensions, self._lines, strict=True)):
            for segment, places in by_segment(rules).items():
                yield index, segment, places, lines

    def _asked(self, rule: Rule, *, leaving: bool) -> tuple[int, ...]:
        places, alternatives = self.comparisons.places, self._alternatives
        asked = tuple(places[compared(each, leaving=leaving)] for each in rule.all)
        if not rule.any:
            return asked
        either = tuple(places[compared(each, leaving=leaving)] for each in rule.any)
        return (*asked, alternatives.setdefault(either, len(places) + len(alternatives)))


def highest_of(ranks: Ranks, groups: Indices) -> Ranks:
    """Return the highest rank of each of groups of lines × rows."""
    highest: Ranks = np.maximum.reduce(ranks.take(groups, axis=0), axis=1)
    return highest


def by_segment(rules: Sequence[Rule]) -> dict[str, tuple[int, ...]]:
    """Return the indices of the rules that give each segment."""
    found: dict[str, tuple[int, ...]] = {}
    for place, rule in enumerate(rules):
        found[rule.segment] = (*found.get(rule.segment, ()), place)
    return found


def _padded(lists: Iterable[Sequence[int]]) -> Indices:
    """Return lists as the lines of a table, each filled with its first number."""
    given = list(lists)
    width = max(map(len, given), default=1)
    filled = [[*each, *[each[0]] * (width - len(each))] for each in given]
    return np.array(filled, np.intp).reshape(len(given), width)
