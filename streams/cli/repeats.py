"""Warnings and errors that repeat are logged at a bounded rate."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

MOST = 5
"""Equal lines that are logged within a window; further ones are counted."""

WINDOW_SECONDS = 60.0

MOST_KINDS = 10_000
"""Kinds of lines that are counted at once; beyond it lines are logged uncounted."""


class Line(NamedTuple):
    """What makes two lines equal: the logger, the level, and the event or message template."""

    logger: str
    level: int
    text: str


@dataclass(slots=True)
class _Window:
    """Equal lines since a time: how many."""

    since: float
    count: int = 0


class Repeats:
    """Decides which of the lines that repeat are logged; pure but for what it has counted."""

    def __init__(self, most: int = MOST, seconds: float = WINDOW_SECONDS) -> None:
        self._most, self._seconds = most, seconds
        self._windows: dict[Line, _Window] = {}

    def admit(self, line: Line, now: float) -> bool:
        """Whether a line is to be logged; call `ended` before."""
        window = self._windows.get(line)
        if window is None:
            if len(self._windows) >= MOST_KINDS:
                return True
            window = self._windows[line] = _Window(now)
        window.count += 1
        return window.count <= self._most

    def ended(self, now: float) -> Iterator[tuple[Line, int]]:
        """The lines whose window has ended since, and how many were left out, if any."""
        # Windows stand in the order in which they began.
        while self._windows:
            line, window = next(iter(self._windows.items()))
            if now - window.since < self._seconds:
                return
            del self._windows[line]
            if window.count > self._most:
                yield line, window.count - self._most

    def all(self) -> Iterator[tuple[Line, int]]:
        """As if all windows ended now."""
        yield from self.ended(float("inf"))


class BoundedHandler(logging.StreamHandler[Any]):
    """Writes what is logged, but of equal warnings and errors only the first of each minute.

    Lines below WARNING tell how work goes on, and those above ERROR why the worker ends, or what
    somebody has to look at: none of them is held back.
    """

    def __init__(
        self, stream: Any, *, clock: Callable[[], float] = time.monotonic, most: int = MOST
    ) -> None:
        super().__init__(stream)
        self._clock = clock
        self._repeats = Repeats(most)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless it repeats too often; and what was left out before."""
        now = self._clock()
        self._tell(self._repeats.ended(now))
        held = logging.WARNING <= record.levelno < logging.CRITICAL
        if not held or self._repeats.admit(_line(record), now):
            super().emit(record)

    def close(self) -> None:
        """Write what was left out and not told yet."""
        self._tell(self._repeats.all())
        super().close()

    def _tell(self, left_out: Iterator[tuple[Line, int]]) -> None:
        for line, count in left_out:
            record = logging.LogRecord(
                line.logger, line.level, __file__, 0,
                "%d more lines of this kind were left out within %d s: %s",
                (count, WINDOW_SECONDS, line.text), None,
            )  # fmt: skip
            super().emit(record)


def _line(record: logging.LogRecord) -> Line:
    # structlog's record has a dictionary for its message.
    text = record.msg.get("event") if isinstance(record.msg, dict) else record.msg
    return Line(record.name, record.levelno, str(text))
