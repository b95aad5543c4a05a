"""What came of a soak: samples, breaks, memory, and whether all of it is clean."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from itertools import chain, pairwise
from typing import Any, NamedTuple

from streams.transport.lease import FENCED
from tests.faults.ends import Ended, told
from tests.faults.report import RunResult

MIB = 1024 * 1024
WARM_SECONDS = 60.0
"""A worker of this age has read its tables and made its buffers."""

JUMP = 4.0
"""MiB between two readings: partitions were read back, or an outage waited out. A leak creeps."""

FEWEST_MINUTES = 1.0
"""Of warm workers' lives; with fewer nobody can say whether they creep."""

MOST_CREEP = 2.0
"""MiB a minute by which warm workers may creep, jumps and breaks left out, in the mean."""

ROOM = 48.0
"""MiB by which the last third may lie above the first: a recovery fetches 4 MiB of each of four
partitions at once, which are held as bytes, as records and as what they become."""

SERVERS = ("broker", "redis", "disk")
"""Families of breaks in which a worker may end with an error: what it needs is away."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at the service. seconds: since the load began.

    memory: MiB of the largest worker. state: MiB of all customers' stored records. lag,
    behind_in_redis: -1 while nobody can say.
    """

    seconds: float
    memory: float
    state: float
    lag: int
    behind_in_redis: int


class Reading(NamedTuple):
    """One look at one worker: seconds since the load began, MiB beside the state."""

    seconds: float
    memory: float


@dataclass(slots=True)
class Broken:
    """A break that was made, when, how long it lasted, and how long until all was well again."""

    seconds: float
    kind: str
    family: str
    lasted: float = math.inf
    recovered_in: float = math.inf

    @property
    def is_over(self) -> bool:
        """Whether all was well again."""
        return math.isfinite(self.recovered_in)

    def covers(self, seconds: float) -> bool:
        """Whether something was broken then, or not yet recovered."""
        return self.seconds <= seconds <= self.seconds + self.lasted + self.recovered_in


@dataclass
class Soak:
    """What a soak came to.

    began: monotonic seconds. lives: readings of each worker's process that was warm.
    """

    seed: int
    began: float = 0.0
    events: int = 0
    samples: list[Sample] = field(default_factory=list)
    lives: dict[int, list[Reading]] = field(default_factory=dict)
    breaks: list[Broken] = field(default_factory=list)
    ends: list[Ended] = field(default_factory=list)
    result: RunResult = field(default_factory=lambda: RunResult("soak", 0, 0))

    def thirds(self) -> list[float]:
        """Median memory of the largest worker beside the state, in each third, in MiB."""
        third = len(self.samples) // 3
        parts = [self.samples[n * third : (n + 1) * third] for n in range(3)]
        return [
            statistics.median(s.memory - s.state for s in part) if part else 0.0 for part in parts
        ]

    @property
    def creep(self) -> float | None:
        """MiB a minute by which workers creep while nothing is broken; none: too short a time."""
        return creep(self.lives.values(), self.breaks)

    @property
    def memory_is_flat(self) -> bool:
        """Whether no worker creeps, and the last third has no more than the first, with room."""
        first, _, last = self.thirds()
        creeps = self.creep is None or self.creep > MOST_CREEP
        return not creeps and last <= first + ROOM

    @property
    def unexplained(self) -> list[Ended]:
        """Ends that nobody asked for, with an error, while nothing that a worker needs was away.

        A worker that the group gave up has to end; that it did is told, and no fault.
        """
        return [
            end
            for end in self.ends
            if not end.asked and end.status != FENCED and not self._is_explained(end)
        ]

    def _is_explained(self, end: Ended) -> bool:
        at = end.at - self.began
        return any(b.family in SERVERS and b.covers(at) for b in self.breaks)

    @property
    def ok(self) -> bool:
        """Whether nothing was lost, doubled, or went back, and no worker leaked or crashed."""
        return self.result.ok and self.memory_is_flat and not self.unexplained

    def table(self, rows: int = 20) -> str:
        """Samples in even steps, the breaks, and the verdict."""
        step = max(len(self.samples) // rows, 1)
        lines = [f"{'minutes':>8}{'MiB':>8}{'state':>8}{'lag':>8}{'behind in Redis':>17}"]
        lines += [
            f"{s.seconds / 60:8.1f}{s.memory:8.0f}{s.state:8.1f}{s.lag:8d}{s.behind_in_redis:17d}"
            for s in self.samples[::step]
        ]
        lines += [
            f"{b.seconds / 60:8.1f}  {b.kind:<22} "
            + (f"recovered in {b.recovered_in:.1f} s" if b.is_over else "not over")
            for b in self.breaks
        ]
        lines.append(self._memory_line())
        lines += [f"ended without a cause: {end}" for end in told(self.unexplained)]
        lines.append(self.result.line())
        lines.append("clean" if self.ok else "NOT CLEAN")
        return "\n".join(lines)

    def _memory_line(self) -> str:
        thirds = " / ".join(f"{memory:.0f}" for memory in self.thirds())
        crept = (
            "lived too shortly to say" if self.creep is None else f"{self.creep:.2f} MiB a minute"
        )
        return (
            f"memory of the largest worker beside the state, by thirds: {thirds} MiB; creep of "
            f"warm workers: {crept}; {'flat' if self.memory_is_flat else 'GROWING'}"
        )

    def as_json(self) -> dict[str, Any]:
        """Everything as JSON."""
        return {
            "seed": self.seed,
            "events": self.events,
            "clean": self.ok,
            "memory_by_thirds_mib": self.thirds(),
            "creep_mib_per_minute": self.creep,
            "memory_is_flat": self.memory_is_flat,
            "samples": [asdict(sample) for sample in self.samples],
            "lives": list(self.lives.values()),
            "breaks": [asdict(broken) for broken in self.breaks if broken.is_over],
            "ended_without_a_cause": told(self.unexplained),
            "result": self.result.as_json(),
        }


def creep(lives: Iterable[Sequence[Reading]], breaks: Sequence[Broken] = ()) -> float | None:
    """MiB a minute from reading to reading, in the mean of all lives, without jumps and breaks."""
    grown = minutes = 0.0
    for before, after in chain.from_iterable(map(pairwise, lives)):
        broken = any(b.covers(before.seconds) or b.covers(after.seconds) for b in breaks)
        if not broken and abs(after.memory - before.memory) <= JUMP:
            grown += after.memory - before.memory
            minutes += (after.seconds - before.seconds) / 60
    return grown / minutes if minutes >= FEWEST_MINUTES else None
