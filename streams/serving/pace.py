"""How many events a second come and are processed, from offsets that are looked at now and then."""

from __future__ import annotations

from collections import deque
from typing import Final, NamedTuple

WINDOW: Final = 30.0
"""Seconds over which a rate is measured."""


class Pace(NamedTuple):
    """Events a second; None before two looks. still: seconds without progress while some wait."""

    processed: float | None
    published: float | None
    still: float


class _Look(NamedTuple):
    at: float
    published: int
    processed: int


class Pacer:
    """Turns sums of offsets into a pace."""

    def __init__(self) -> None:
        self._looks: deque[_Look] = deque()
        self._moved_at = 0.0

    def at(self, now: float, *, published: int, behind: int) -> Pace:
        """Return the pace as of a look. now: seconds of a monotonic clock.

        published: the sum of the ends of all inputs; behind: records of these to process.
        """
        look = _Look(now, published, published - behind)
        last = self._looks[-1] if self._looks else None
        if last and (look.processed < last.processed or look.published < last.published):
            # Topics were made anew, or the group's offsets were set back.
            self._looks.clear()
            last = None
        if last is None or not behind or look.processed > last.processed:
            self._moved_at = now
        self._looks.append(look)
        while len(self._looks) > 2 and now - self._looks[1].at >= WINDOW:
            self._looks.popleft()
        first, still = self._looks[0], now - self._moved_at
        if first.at == now:
            return Pace(None, None, still)
        seconds = now - first.at
        return Pace(
            (look.processed - first.processed) / seconds,
            (look.published - first.published) / seconds,
            still,
        )
