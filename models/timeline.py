"""Which parameters are in force when: a score as of a time uses those that held then."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from models.calendar import milliseconds
from models.contracts.parameters import Parameters

_EVER: Final = -(2**63)


@dataclass(frozen=True)
class Timeline:
    """Published parameters in the order of time from which they hold; immutable.

    Parameters that do not say from when they hold have always held. Of several that hold from the
    same time, those published last do.
    """

    published: tuple[Parameters, ...] = field(default=())

    @cached_property
    def _starts(self) -> list[int]:
        return [_start(each) for each in self.published]

    def with_(self, parameters: Parameters) -> Timeline:
        """Return a timeline that has these too."""
        start = _start(parameters)
        before = bisect_right(self._starts, start)
        kept = self.published[:before]
        if before and self._starts[before - 1] == start:
            kept = kept[:-1]
        return Timeline((*kept, parameters, *self.published[before:]))

    def at(self, moment: int) -> Parameters | None:
        """Return those in force at a time, in milliseconds since 1970; None before the first."""
        before = bisect_right(self._starts, moment)
        return self.published[before - 1] if before else None

    @property
    def latest(self) -> Parameters | None:
        """Those that hold last."""
        return self.published[-1] if self.published else None


def timeline_of(parameters: Parameters | Timeline | None) -> Timeline:
    """Return a timeline of parameters, if there are any, that hold as they say."""
    if isinstance(parameters, Timeline):
        return parameters
    return Timeline() if parameters is None else Timeline((parameters,))


def _start(parameters: Parameters) -> int:
    since = parameters.holds_from
    return _EVER if since is None else milliseconds(since)
