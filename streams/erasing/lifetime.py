"""Until when a record stays in its topic, from the topic's configuration: pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final, NamedTuple

HOUR_MS: Final = 3_600_000
"""How late a cleaner or a retention check may be done."""

_SEGMENT_MS: Final = 7 * 24 * HOUR_MS
"""Kafka's own default."""

_DAY_MS: Final = 24 * HOUR_MS
_NEVER_MS: Final = 100 * 365 * _DAY_MS
"""Kafka has no word for "no limit" where 2**63 - 1 is the default."""


class Until(NamedTuple):
    """When something is gone at latest, in milliseconds since 1970; None: never by itself.

    why: in words; for what never goes also what to do.
    """

    at: int | None
    why: str


class Lifetimes:
    """How long records stay in one topic; config: as the broker tells it, None if it does not."""

    def __init__(self, topic: str, config: Mapping[str, str | None] | None) -> None:
        self.topic = topic
        self._config = config or {}
        self.is_told = bool(config)

    @property
    def is_compacted(self) -> bool:
        """Whether a later record of a key takes the place of a former one."""
        return "compact" in (self._config.get("cleanup.policy") or "")

    def replaced(self, by_timestamp: int) -> Until:
        """Of a record of a compacted topic, whose key has a later record of this time."""
        lag = self._lag()
        if lag is None:
            return self._no_lag()
        return Until(by_timestamp + lag + HOUR_MS, _compaction(lag))

    def tombstone(self, timestamp: int) -> Until:
        """Of a tombstone: compacted once, kept for `delete.retention.ms`, and compacted again."""
        lag = self._lag()
        if lag is None:
            return self._no_lag()
        kept = self._number("delete.retention.ms", _DAY_MS)
        # The second compaction may come just too early for it; then it is the third.
        rounds = 2 + (math.ceil(kept / lag) if lag else 0)
        until = timestamp + max(rounds * lag, kept + lag) + HOUR_MS
        return Until(
            until, f"the tombstone stays {_span(kept)} after a compaction; {_compaction(lag)}"
        )

    def expires(self, newest_timestamp: int) -> Until:
        """Of a record of a topic with retention; newest: of all records up to this one."""
        if not self.is_told:
            return Until(None, f"the broker does not tell the configuration of {self.topic}")
        retention = self._number("retention.ms", _SEGMENT_MS)
        if not 0 <= retention < _NEVER_MS:
            return Until(None, f"kept for ever: set retention.ms on {self.topic}")
        segment = min(self._number("segment.ms", _SEGMENT_MS), _NEVER_MS)
        why = f"retention.ms is {_span(retention)}, and a segment takes up to {_span(segment)}"
        return Until(newest_timestamp + retention + segment + HOUR_MS, why)

    def _lag(self) -> int | None:
        lag = self._number("max.compaction.lag.ms", 2**63 - 1)
        return lag if 0 <= lag < _NEVER_MS else None

    def _no_lag(self) -> Until:
        if not self.is_told:
            return Until(None, f"the broker does not tell the configuration of {self.topic}")
        return Until(
            None, f"nothing says when it is compacted: set max.compaction.lag.ms on {self.topic}"
        )

    def _number(self, name: str, otherwise: int) -> int:
        value = self._config.get(name)
        return otherwise if value is None else int(value)


def _compaction(lag: int) -> str:
    return (
        f"max.compaction.lag.ms is {_span(lag)}, and the partition must be written to after it, "
        "as `clv tick` does"
    )


def _span(milliseconds: int) -> str:
    if milliseconds >= _DAY_MS:
        return f"{milliseconds / _DAY_MS:g} days"
    if milliseconds >= HOUR_MS:
        return f"{milliseconds / HOUR_MS:g} h"
    return f"{milliseconds / 1000:g} s"
