"""Where a slice begins and ends."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol


class Stamped(Protocol):
    """What is asked of a record."""

    @property
    def offset(self) -> int:
        """Offset within its partition."""

    @property
    def timestamp(self) -> int:
        """Milliseconds since 1970."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A place in every partition: the first record at or after a time, or an offset.

    time: milliseconds since 1970. words: as it was asked for. With neither it is the beginning
    where a slice begins, and the end where one ends.
    """

    words: str
    time: int | None = None
    offset: int | None = None

    def reached_by(self, record: Stamped) -> bool:
        """Whether a record is at or after it; False where there is neither time nor offset."""
        if self.time is not None:
            return record.timestamp >= self.time
        return self.offset is not None and record.offset >= self.offset


BEGINNING = Bound("the beginning")
END = Bound("the end")
