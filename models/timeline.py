"""What is in force when: parameters and rules, each from the time that it says."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import Final, Generic, Protocol, TypeVar

from models.calendar import milliseconds

_EVER: Final = -(2**63)

NEVER: Final = 2**62
"""A time that does not come, in milliseconds since 1970."""


class Versioned(Protocol):
    """Something published under a version, that holds from a time."""

    @property
    def version(self) -> str:
        """Its name; nothing else of its kind has it."""

    @property
    def holds_from(self) -> datetime | None:
        """Since when; None: it has always held."""


Published = TypeVar("Published", bound=Versioned)


@dataclass(frozen=True)
class Timeline(Generic[Published]):
    """Published parameters, or rules, in the order of time from which they hold; immutable.

    Those that do not say from when they hold have always held. Of several that hold from the same
    time, those published last do.
    """

    published: tuple[Published, ...] = field(default=())

    @cached_property
    def _starts(self) -> list[int]:
        return [_start(each) for each in self.published]

    @cached_property
    def by_version(self) -> dict[str, Published]:
        """Those that hold at some time, by version."""
        return {each.version: each for each in self.published}

    def with_(self, published: Published) -> Timeline[Published]:
        """Return a timeline that has these too."""
        start = _start(published)
        before = bisect_right(self._starts, start)
        kept = self.published[:before]
        if before and self._starts[before - 1] == start:
            kept = kept[:-1]
        return Timeline((*kept, published, *self.published[before:]))

    def unless_taken(self, published: Published) -> Timeline[Published]:
        """Return a timeline that has these too, unless there are others from the same time."""
        start = _start(published)
        return self if start in self._starts else self.with_(published)

    def at(self, moment: int) -> Published | None:
        """Return those in force at a time, in milliseconds since 1970; None before the first."""
        before = bisect_right(self._starts, moment)
        return self.published[before - 1] if before else None

    def next_start(self, moment: int) -> int:
        """Return when others come into force after a time, in milliseconds since 1970; or NEVER."""
        after = bisect_right(self._starts, moment)
        return self._starts[after] if after < len(self._starts) else NEVER

    @property
    def last_start(self) -> int:
        """When any come into force for the last time, in milliseconds since 1970."""
        return self._starts[-1] if self._starts else _EVER

    @property
    def latest(self) -> Published | None:
        """Those that hold last."""
        return self.published[-1] if self.published else None


def timeline_of(given: Published | Timeline[Published] | None) -> Timeline[Published]:
    """Return a timeline of parameters or rules, if there are any, that hold as they say."""
    if isinstance(given, Timeline):
        return given
    return Timeline() if given is None else Timeline((given,))


def _start(published: Versioned) -> int:
    since = published.holds_from
    return _EVER if since is None else milliseconds(since)
