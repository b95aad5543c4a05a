"""How quickly records are replayed."""

from __future__ import annotations

import asyncio
from time import monotonic


class Pace:
    """Waits until it is a record's turn, by the timestamps.

    speed: times as fast as it was; None: as fast as it goes.
    """

    def __init__(self, speed: float | None) -> None:
        self._speed = speed
        self._start: tuple[float, int] | None = None

    def wait_for(self, timestamp: int) -> float:
        """Seconds until it is the turn of a record; 0 where it is already."""
        if self._speed is None:
            return 0.0
        if self._start is None:
            self._start = monotonic(), timestamp
        began, first = self._start
        due = began + (timestamp - first) / 1000 / self._speed
        return max(0.0, due - monotonic())

    async def reach(self, timestamp: int) -> None:
        """Return when it is the turn of a record."""
        if (seconds := self.wait_for(timestamp)) > 0.0:
            await asyncio.sleep(seconds)
