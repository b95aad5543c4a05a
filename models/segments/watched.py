"""The comparisons of rules that may turn while nothing happens to a customer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, NamedTuple

from models.features import FEATURES, Feature, Silence
from models.segments.conditions import Quantile

PERCENTILES: Final = frozenset({"expected_low", "expected_high"})

EXPECTATIONS: Final = PERCENTILES | {
    "expected_purchases", "expected_revenue", "expected_margin", "expected_contacts",
    "expected_support_cost", "expected", "clv",
}  # fmt: skip
"""Features that take expected purchases or contacts to compute; all others take a fraction of the
time."""


class Compared(NamedTuple):
    """A comparison: the place of its feature among those that move daily, and the bound.

    strictly: whether it is met above the bound, or not met at it; else the bound belongs above.
    """

    feature: int
    bound: float | Quantile
    strictly: bool


class Watched(NamedTuple):
    """What to watch while nothing happens.

    daily: features that move daily. compared: their comparisons. read: for each of them the place
    among what is read from the state, or -1. steps: features that move in steps. spread: whether
    percentiles are among them. expected: which comparisons take expectations to compute.
    """

    daily: tuple[Feature, ...]
    compared: tuple[Compared, ...]
    read: tuple[int, ...]
    steps: tuple[Feature, ...]
    spread: bool
    expected: tuple[bool, ...]


def watched(read: Sequence[Feature], limits: Sequence[tuple[str, str, float | str]]) -> Watched:
    """Return what to watch.

    read: the features that are read from the state. limits: features, how they are compared, and
    bounds.
    """
    names = dict.fromkeys(name for name, *_ in limits)
    features = {name: FEATURES[name] for name in names}
    daily = [name for name, each in features.items() if each.silence is Silence.DAILY]
    compared = dict.fromkeys(
        Compared(
            daily.index(name),
            Quantile(name, bound) if isinstance(bound, str) else bound,
            how in ("above", "at most"),
        )
        for name, how, bound in limits
        if name in daily
    )
    return Watched(
        tuple(FEATURES[name] for name in daily),
        tuple(compared),
        tuple(read.index(FEATURES[name]) if FEATURES[name].read else -1 for name in daily),
        tuple(each for each in features.values() if each.silence is Silence.STEPS),
        not PERCENTILES.isdisjoint(daily),
        tuple(daily[each.feature] in EXPECTATIONS for each in compared),
    )
