"""Judge a worker's health from an observation: pure, without clock or I/O."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from streams.transport.changelog import RecoveryProgress

Status = Literal["ok", "degraded", "starting", "stalled"]
Phase = Literal["starting", "running", "stopping"]

FETCH_SILENCE = 30.0
"""Seconds without an answer to a fetch that are longer than any normal pause."""


@dataclass(frozen=True, slots=True)
class CacheState:
    """The state of the cache writer.

    away: for how many seconds writes have failed, None if they succeed. pending: waiting customers.
    catching_up: partitions of which Redis lacks updates, and how many; None: not known yet.
    problem: why the data in Redis may be wrong, and what to do.
    """

    away: float | None = None
    pending: int = 0
    catching_up: Mapping[int, int | None] = field(default_factory=dict)
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Observation:
    """What is known of a worker at one moment; all times are in seconds.

    recovered: the group has assigned partitions, possibly none, and the tables are restored. lags:
    records to process by topic-partition, None while unknown. broker_silent: for how long the
    broker has not answered, None if it answers. fetch_age: time since the last answer to a fetch,
    None before the first. standing_still: for how long work has waited and none was finished while
    the broker answered. store_problem: what is wrong with the copy on disk.
    """

    phase: Phase
    stall_timeout: float
    recovered: bool = False
    rebalancing: bool = False
    recovery: RecoveryProgress | None = None
    lags: Mapping[str, int | None] = field(default_factory=dict)
    in_work: int = 0
    standing_still: float = 0.0
    broker_silent: float | None = None
    fetch_age: float | None = None
    cache: CacheState = field(default_factory=CacheState)
    store_problem: str | None = None
    parameters: str | None = None
    counts: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""
    uptime: float = 0.0

    @property
    def lag(self) -> int | None:
        """Records that wait in all partitions of this worker, None while unknown."""
        if self.phase == "starting" or any(lag is None for lag in self.lags.values()):
            return None
        return sum(lag for lag in self.lags.values() if lag is not None)

    @property
    def waiting(self) -> str | None:
        """What work is waiting, in words; None if there is none, or the broker is silent."""
        if self.phase != "running" or self.broker_silent is not None:
            return None
        if self.recovery is not None and not self.recovered:
            return f"recovery: {self.recovery.text}"
        unknown = [name for name, lag in self.lags.items() if lag is None]
        if unknown:
            return f"the first fetch from {', '.join(sorted(unknown))}"
        if self.lag or self.in_work:
            return f"{self.lag:,} records wait and {self.in_work} batches are in work"
        if self.lags and self.fetch_age is not None and self.fetch_age > FETCH_SILENCE:
            return f"nothing was fetched for {self.fetch_age:.0f} s"
        return None

    @property
    def stalled(self) -> bool:
        """Whether the worker has stood still for so long that only a restart may help."""
        return self.waiting is not None and self.standing_still >= self.stall_timeout


@dataclass(frozen=True, slots=True)
class Health:
    """The health of a worker.

    reasons: why it is not ok. unready: why nothing is processed, or "".
    """

    status: Status
    reasons: tuple[str, ...]
    unready: str

    @property
    def ready(self) -> bool:
        """Whether the worker processes records, or has none to process."""
        return not self.unready


def assess(seen: Observation) -> Health:
    """Judge an observation."""
    unready = _unready(seen)
    reasons = [unready] if unready else []
    if seen.broker_silent is not None:
        reasons.append(f"the broker does not answer since {seen.broker_silent:.0f} s")
    if seen.cache.away is not None:
        reasons.append(
            f"Redis cannot be written since {seen.cache.away:.0f} s; "
            f"{seen.cache.pending:,} customers wait"
        )
    if seen.cache.problem is not None:
        reasons.append(f"Redis: {seen.cache.problem}")
    if seen.cache.catching_up:
        left = seen.cache.catching_up.values()
        known = sum(each for each in left if each is not None)
        reasons.append(
            f"Redis is behind in {len(left)} partitions and catches up; "
            + (f"{known:,} updates left" if None not in left else "how far is not known yet")
        )
    if seen.store_problem:
        reasons.append(f"the copy of the state on disk: {seen.store_problem}")
    if seen.phase == "running" and seen.parameters is None:
        reasons.append("no parameters are published: weak prior ones are used")
    if seen.stalled:
        status: Status = "stalled"
    elif unready and seen.phase != "stopping":
        status = "starting"
    else:
        status = "degraded" if reasons else "ok"
    return Health(status, tuple(reasons), unready)


def _unready(seen: Observation) -> str:
    if seen.phase == "stopping":
        return "stopping: what is in work is finished and committed"
    if seen.stalled:
        return f"stalled for {seen.standing_still:.0f} s: {seen.waiting}"
    if seen.phase == "starting":
        return "starting: topics and parameters are read"
    if not seen.recovered and seen.recovery is not None:
        return f"recovering: {seen.recovery.text}"
    if not seen.recovered or seen.rebalancing:
        return "waiting for the consumer group to share out the partitions"
    return ""


class StallClock:
    """How long work has been waiting without any being finished."""

    def __init__(self, now: float) -> None:
        self._since = now
        self._marker: Hashable = None

    def note(self, now: float, *, waiting: bool, marker: Hashable) -> float:
        """Return the seconds of standing still; marker: changes whenever work is finished.

        Time counts only while work is known to wait.
        """
        if not waiting or marker != self._marker:
            self._since, self._marker = now, marker
        return now - self._since
