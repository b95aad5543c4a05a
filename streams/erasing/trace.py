"""What is left of a customer, and the verdict on it: pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from streams.basis.judge import moment
from streams.erasing.lifetime import Until


@dataclass(frozen=True, slots=True)
class Trace:
    """One place where an id stands.

    place: "topic[partition]@offset", a file, or a key of Redis. what: in words. until: when it is
    gone at latest. ids: which of the customer's.
    """

    place: str
    what: str
    until: Until
    ids: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "place": self.place,
            "ids": list(self.ids),
            "what": self.what,
            "until": None if self.until.at is None else moment(self.until.at),
            "why": self.until.why,
        }


@dataclass(slots=True)
class Proof:
    """Everything that was looked into for a customer, and what is left.

    ids: the customer's own first, then those merged with it. looked: the stores, in words.
    remembered: whether late events are known to be of somebody erased. at: when the last look was,
    in milliseconds since 1970. skipped: what could not be looked into, and why.
    """

    ids: Sequence[str]
    looked: list[str] = field(default_factory=list)
    traces: list[Trace] = field(default_factory=list)
    remembered: bool = False
    at: int = 0
    skipped: list[str] = field(default_factory=list)

    @property
    def stays(self) -> list[Trace]:
        """What does not go by itself."""
        return [trace for trace in self.traces if trace.until.at is None]

    @property
    def is_clean(self) -> bool:
        """Whether nothing is left but what goes by itself, and everything was looked into."""
        return not self.stays and not self.skipped

    @property
    def verdict(self) -> str:
        """When the last trace goes."""
        if self.skipped:
            return "not proven: not everything could be looked into"
        if not self.traces:
            return f"gone: nothing was left at {moment(self.at)}"
        if self.stays:
            return f"not gone: {len(self.stays)} of {len(self.traces)} traces stay"
        last = max(trace.until.at or 0 for trace in self.traces)
        return f"goes by {moment(last)}"

    def document(self) -> dict[str, Any]:
        """As `--json` prints it."""
        return {
            "ids": list(self.ids),
            "verdict": self.verdict,
            "at": moment(self.at),
            "clean": self.is_clean,
            "remembered": self.remembered,
            "looked_into": self.looked,
            "skipped": self.skipped,
            "traces": [trace.document() for trace in self.traces],
        }
