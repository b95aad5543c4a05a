"""What came of runs: a line for each, a table of kinds, JSON."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.health.watchdog import FROZEN, STALLED, STOP_HUNG
from tests.faults.ends import Ended, told
from tests.faults.verdict import Verdict

HUNG = (STALLED, STOP_HUNG, FROZEN)
BESIDES = ("lost", "doubled", "went_back")
"""Faults with a column of their own; the rest of a verdict is added up as wrong."""


@dataclass
class RunResult:
    """One run of one kind.

    seconds: from the end of the break until all that was published by then is committed and in
    Redis; none, if that never came. went_back_in_redis: versions that fell. exits: statuses of
    workers that ended, negative for signals. ends: those that nobody asked for, a line for each
    kind. peak: MiB that a worker held at most; most_memory: that it may. failure: why the run could
    not be judged. again: the command that runs it once more.
    """

    kind: str
    seed: int
    events: int
    seconds: float | None = None
    took: float = 0.0
    repeated: int = 0
    verdict: Verdict | None = None
    went_back_in_redis: list[str] = field(default_factory=list)
    exits: list[int] = field(default_factory=list)
    ends: list[str] = field(default_factory=list)
    peak: float = 0.0
    most_memory: float | None = None
    failure: str = ""
    again: str = ""

    def note_ends(self, ends: Sequence[Ended]) -> None:
        """Take note of workers that ended."""
        self.exits = [end.status for end in ends]
        self.ends = told(ends)

    @property
    def hung(self) -> int:
        """Workers whose watchdog had to end them; no break lasts as long as it waits."""
        return sum(status in HUNG for status in self.exits)

    @property
    def ok(self) -> bool:
        """Whether everything that must be zero is."""
        judged = self.verdict is not None and self.verdict.ok
        clean = judged and not self.went_back_in_redis and not self.failure
        return clean and not self.hung and not self.is_too_large

    @property
    def is_too_large(self) -> bool:
        """Whether a worker held more memory than it may."""
        return self.most_memory is not None and self.peak > self.most_memory

    def counts(self) -> dict[str, int]:
        """Lost, doubled, gone back in a log and in Redis, and wrong in any other way."""
        faults = {} if self.verdict is None else self.verdict.faults
        return {
            **{name: faults.get(name, 0) for name in BESIDES},
            "went_back_in_redis": len(self.went_back_in_redis),
            "wrong": sum(count for name, count in faults.items() if name not in BESIDES),
            "hung": self.hung,
            "too_large": int(self.is_too_large),
        }

    def line(self) -> str:
        """The run in one line, and if it is not clean what is known of it below."""
        recovered = "   never" if self.seconds is None else f"{self.seconds:6.1f} s"
        exits = ",".join(map(str, self.exits)) or "-"
        text = (
            f"{self.kind:<20} seed {self.seed:<10} {self.events:>5} events  "
            f"recovered in {recovered}  exits {exits:<12} took {self.took:5.1f} s  "
        )
        lines = [text + ("ok" if self.ok else "NOT CLEAN")]
        lines += [f"ended by themselves: {end}" for end in self.ends]
        if self.failure:
            lines.append(self.failure)
        if self.verdict is not None and not self.verdict.ok:
            lines.append(str(self.verdict))
        if self.hung:
            lines.append(f"workers that stood still until their watchdog ended them: {self.hung}")
        if self.is_too_large:
            lines.append(f"a worker held {self.peak:.0f} MiB, more than {self.most_memory:.0f}")
        if self.went_back_in_redis:
            lines.append(f"went back in Redis: {self.went_back_in_redis[:10]}")
        if not self.ok and self.again:
            lines.append(f"once more: {self.again}")
        return "\n    ".join("\n".join(lines).splitlines())

    def as_json(self) -> dict[str, Any]:
        """The run as JSON."""
        return {
            "kind": self.kind,
            "seed": self.seed,
            "events": self.events,
            "recovered_in_seconds": self.seconds,
            "took_seconds": round(self.took, 2),
            "published_again": self.repeated,
            "worker_exits": self.exits,
            "ended_by_themselves": self.ends,
            **self.counts(),
            "peak_mib": round(self.peak, 1),
            "failure": self.failure,
            "again": self.again,
            "details": [] if self.verdict is None else self.verdict.details,
            "republished": 0 if self.verdict is None else self.verdict.republished,
        }


COLUMNS = (
    ("kind", 20), ("runs", 5), ("clean", 6), ("events", 8), ("lost", 6), ("doubled", 8),
    ("back", 5), ("Redis back", 11), ("wrong", 6), ("hung", 5), ("exits", 6), ("median s", 9),
    ("max s", 7), ("seeds", 0),
)  # fmt: skip


def summary(results: Iterable[RunResult]) -> list[dict[str, Any]]:
    """One row for each kind, in the order in which they came."""
    kinds: defaultdict[str, list[RunResult]] = defaultdict(list)
    for result in results:
        kinds[result.kind].append(result)
    return [_row(kind, runs) for kind, runs in kinds.items()]


def _row(kind: str, runs: Sequence[RunResult]) -> dict[str, Any]:
    seconds = [run.seconds for run in runs if run.seconds is not None]
    counts = [run.counts() for run in runs]
    return {
        "kind": kind,
        "runs": len(runs),
        "clean": sum(run.ok for run in runs),
        "events": sum(run.events for run in runs),
        **{name: sum(count[name] for count in counts) for name in counts[0]},
        "peak_mib": round(max(run.peak for run in runs), 1),
        "worker_exits": sum(len(run.exits) for run in runs),
        "median_seconds": statistics.median(seconds) if seconds else None,
        "max_seconds": max(seconds, default=None),
        "seeds": [run.seed for run in runs],
        "failures": [run.seed for run in runs if not run.ok],
    }


def table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows for people to read."""
    lines = ["".join(_cell(name, width, name) for name, width in COLUMNS).rstrip()]
    for row in rows:
        seeds = row["seeds"]
        cells = [
            row["kind"], row["runs"], row["clean"], row["events"], row["lost"], row["doubled"],
            row["went_back"], row["went_back_in_redis"], row["wrong"], row["hung"],
            row["worker_exits"],
            _seconds(row["median_seconds"]), _seconds(row["max_seconds"]),
            f"{seeds[0]}-{seeds[-1]}" if len(seeds) > 1 else seeds[0],
        ]  # fmt: skip
        lines.append(
            "".join(_cell(c, width, name) for c, (name, width) in zip(cells, COLUMNS, strict=True))
        )
    return "\n".join(lines)


def _cell(content: object, width: int, name: str) -> str:
    if name == "kind":
        return f"{content!s:<{width}}"
    return f"  {content}" if name == "seeds" else f"{content!s:>{width}}"


def _seconds(value: float | None) -> str:
    return "never" if value is None else f"{value:.1f}"
