"""The pace of sweeps: how many customers a step takes, and how long live events have after it.

Nothing in it reads a clock: times are seconds of a clock that only goes on.
"""

from __future__ import annotations

STEP_SECONDS = 0.03
"""How long the engine may take for a step: live events wait for it."""

FIRST, MOST = 100, 1_000
"""Customers of the first step, and of any step at most. How many a step has follows from how long
the one before took."""

DUE_A_SECOND = 1_000
"""How many due customers are looked at a second, unless that would take `MOST_SECONDS`."""

MOST_SECONDS = 50.0
"""In which all who are due at once are looked at, if the machine can: within a minute of being due,
all must be told."""

LIVE_SECONDS = 1.0
"""Without live events for so long, a sweep does not rest between its steps."""

LEAST_REST = 0.25
"""A rest after a step in a sweep that is late, as a share of what the step took."""


class Pace:
    """How many customers a step has, so that the engine takes `step_seconds` for it."""

    def __init__(self, step_seconds: float) -> None:
        self._step_seconds = step_seconds
        self._customers = FIRST

    @property
    def customers(self) -> int:
        """For the next step."""
        return min(self._customers, MOST)

    def note(self, customers: int, seconds: float) -> None:
        """Go by how long the engine took for so many; no more than twice or half as many next."""
        if customers < self.customers:
            # The last ones of a sweep.
            return
        fit = customers * self._step_seconds / max(seconds, 1e-6)
        self._customers = max(1, customers // 2, int(min(fit, 2 * customers, MOST)))


def rest_of_all(took: float) -> float:
    """Return how long to rest after a step of a sweep over everybody, which took so long.

    On a busy machine a step takes longer than it should, but live events no longer to pass.
    """
    return min(took, STEP_SECONDS) / 2


class Schedule:
    """When those who are due are to be looked at: no faster than needed.

    It is of all partitions, whose sweeps follow each other. A sweep that is late catches up.
    """

    def __init__(self) -> None:
        self._left = 0
        self._ends = self._each = 0.0

    def begin(self, customers: int, now: float) -> None:
        """Note that a sweep begins. customers: who are due, in all partitions."""
        if customers > self._left or now >= self._ends:
            # Others than those who are left of the plan before.
            self._ends = max(self._ends, now + min(customers / DUE_A_SECOND, MOST_SECONDS))
            self._each = (self._ends - now) / max(customers, 1)
        self._left = customers

    def rest(self, customers: int, took: float, now: float) -> float:
        """Return how long to rest after a step of so many, which took so long, and ends now."""
        self._left = max(0, self._left - customers)
        return max(self._ends - self._left * self._each - now, LEAST_REST * took)
