"""What a worker logs of refused records and of notices: counted by reason, at a bounded rate."""

from __future__ import annotations

import math
from dataclasses import dataclass

import structlog

from models.contracts import NOTICES, Reason, Refused

log = structlog.get_logger(__name__)

SECONDS_BETWEEN = 60.0
"""Least time between two lines about one reason, unless the worker stops."""

WITHOUT_DATA = frozenset(
    {
        Reason.EMPTY,
        Reason.FUTURE,
        Reason.MISSING_CUSTOMER,
        Reason.MISSING_FIELD,
        Reason.NO_EXCHANGE_RATE,
        Reason.PLACEHOLDER_ID,
        Reason.WRONG_TOPIC,
    }
)
"""Reasons whose detail quotes no text of the record but names, currencies and times."""


@dataclass(frozen=True, slots=True)
class _Example:
    """A refused record: why, and where it was published."""

    refused: Refused
    topic: str
    partition: int
    offset: int


@dataclass(slots=True)
class _Refusals:
    """Of one reason: how many since the last line, the first of them, and when that line was."""

    count: int = 0
    example: _Example | None = None
    told: float = -math.inf


class RefusalLog:
    """Counts refusals, and logs a line for each reason when it is due."""

    def __init__(self) -> None:
        self._reasons: dict[Reason, _Refusals] = {}

    def note(self, refused: Refused, topic: str, partition: int, offset: int) -> None:
        """Count a refusal; the place is that of the record."""
        refusals = self._reasons.setdefault(refused.reason, _Refusals())
        refusals.count += 1
        if refusals.example is None:
            refusals.example = _Example(refused, topic, partition, offset)

    def tell(self, now: float) -> None:
        """Log the reasons that are due; now: seconds of a monotonic clock."""
        for reason, refusals in self._reasons.items():
            if refusals.example is None or now - refusals.told < SECONDS_BETWEEN:
                continue
            _tell(reason, refusals.count, refusals.example)
            refusals.count, refusals.example, refusals.told = 0, None, now

    def tell_all(self) -> None:
        """Log all that was not told yet."""
        self.tell(math.inf)


def _tell(reason: Reason, count: int, example: _Example) -> None:
    look = f"clv dead-letters list --reason {reason}"
    refused = example.refused
    # The reason is in the text too: the log bounds lines of the same text.
    log.warning(
        f"records {'accepted with a notice' if reason in NOTICES else 'refused'}: {reason}",
        reason=reason.value,
        count_since_last_line=count,
        topic=example.topic,
        partition=example.partition,
        offset=example.offset,
        field=refused.field,
        detail=refused.detail if reason in WITHOUT_DATA else "not logged: it may quote the record",
        remedy=f"{look} shows them, and docs/dead-letters.md says what to do",
    )
