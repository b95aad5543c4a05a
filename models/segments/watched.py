"""The comparisons of rules that may turn while nothing happens to a customer."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

from models.features import FEATURES, Feature, Silence
from models.segments.conditions import Quantile

PERCENTILES: Final = frozenset({"expected_low", "expected_high"})


class Watched(NamedTuple):
    """What to watch while nothing happens.

    daily: features that move daily. compared: for each comparison the place of its feature among
    them, and the bound. read: for each of them the place among what is read from the state, or -1.
    steps: features that move in steps. spread: whether percentiles are among them.
    """

    daily: tuple[Feature, ...]
    compared: tuple[tuple[int, float | Quantile], ...]
    read: tuple[int, ...]
    steps: tuple[Feature, ...]
    spread: bool


def watched(read: Sequence[Feature], limits: Iterable[tuple[str, float | str]]) -> Watched:
    """Return what to watch.

    read: the features that are read from the state. limits: features and their bounds.
    """
    each_once = dict.fromkeys(limits)
    features = {name: FEATURES[name] for name, _ in each_once}
    daily = [name for name, each in features.items() if each.silence is Silence.DAILY]
    return Watched(
        tuple(FEATURES[name] for name in daily),
        tuple(
            (daily.index(name), Quantile(name, bound) if isinstance(bound, str) else bound)
            for name, bound in each_once
            if name in daily
        ),
        tuple(read.index(FEATURES[name]) if FEATURES[name].read else -1 for name in daily),
        tuple(each for each in features.values() if each.silence is Silence.STEPS),
        not PERCENTILES.isdisjoint(daily),
    )
