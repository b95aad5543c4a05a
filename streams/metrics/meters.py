"""What a process counts and times as it works, per batch or per request.

Only the types of accepted events are noted one by one, by the engine: `Outputs.accepted_types`.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Final

from models.outputs import Outputs

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
"""Upper bounds of work that should take well below a second."""

WAITS: Final = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 3600.0)
"""Upper bounds of waits that an outage can make long."""

FITS: Final = (0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0)
"""Upper bounds of a refit: a million customers take some 20 s."""


class Histogram:
    """Observations counted by upper bound. bounds: increasing; the last is followed by infinity."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count a value; a bound belongs to those below it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


Sample = tuple[Sequence[str], float | Histogram]
"""The values of a metric's labels, in their order, and what was measured."""

Samples = Mapping[str, Sequence[Sample]]
"""Samples by the metric's name."""


def one(value: float) -> list[Sample]:
    """Return the sample of a metric without labels."""
    return [((), float(value))]


def info(version: str) -> list[Sample]:
    """Return the sample of a metric whose label is what it says."""
    return [((version,), 1.0)]


def _histograms(bounds: Sequence[float]) -> defaultdict[str, Histogram]:
    return defaultdict(partial(Histogram, bounds))


@dataclass(slots=True)
class WorkerMeters:
    """What a worker has done since it started, by the role of the topic that it read.

    records: by role and outcome. events: accepted ones, by type. engine: seconds of one call of the
    engine. batches: seconds from that call until all outputs were acknowledged. latency: seconds
    from when the oldest record of a batch was published until then. The last three have one
    observation per batch.
    """

    records: Counter[tuple[str, str]] = field(default_factory=Counter)
    events: Counter[str] = field(default_factory=Counter)
    engine: defaultdict[str, Histogram] = field(default_factory=partial(_histograms, SECONDS))
    batches: defaultdict[str, Histogram] = field(default_factory=partial(_histograms, WAITS))
    latency: defaultdict[str, Histogram] = field(default_factory=partial(_histograms, WAITS))

    def count(self, role: str, outputs: Outputs) -> None:
        """Add a batch of events."""
        counted = self.records
        counted[role, "accepted"] += outputs.accepted
        counted[role, "duplicate"] += outputs.duplicates
        counted[role, "replayed"] += outputs.replayed
        counted[role, "forgotten"] += outputs.forgotten
        counted[role, "rerouted"] += len(outputs.rerouted)
        counted[role, "refused"] += len(outputs.dead_letters)
        self.events.update(outputs.accepted_types)


@dataclass(slots=True)
class FitterMeters:
    """What a fitter has done since it started. refits: by outcome. seconds: of one refit."""

    refits: Counter[str] = field(default_factory=Counter)
    seconds: Histogram = field(default_factory=partial(Histogram, FITS))
