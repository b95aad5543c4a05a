"""What may be found lost or changed at the broker, in words that say what to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from faust.types import TP

LOST: Final = 78
"""Exit status (EX_CONFIG) of a worker whose state does not fit Kafka: no restart helps."""


class Kind(StrEnum):
    """What kind of difference there is between the state and the broker.

    deleted: records before the committed offset's successor were deleted unread. cut: a log ends
    before what was processed of it. replaced: a topic was deleted and made anew. state: the
    changelog is gone, or a partition of it. partitions, currency, timezone: not those that the
    state was computed with.
    """

    DELETED = "deleted"
    CUT = "cut"
    REPLACED = "replaced"
    STATE = "state"
    PARTITIONS = "partitions"
    CURRENCY = "currency"
    TIMEZONE = "timezone"


ACCEPTABLE: Final = frozenset({Kind.DELETED, Kind.CUT, Kind.REPLACED, Kind.STATE})
"""What `clv accept-loss` resolves; the others have remedies that lose nothing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something lost or changed.

    place: "topic[partition]", or a topic or setting. lost: what, and how much. remedy: what to do.
    tp: the log it is about, if it is about one. go_on: the offset at which its reading can go on.
    """

    kind: Kind
    place: str
    lost: str
    remedy: str
    tp: TP | None = None
    go_on: int | None = None

    def __str__(self) -> str:
        return f"{self.place}: {self.lost}"


class BasisLost(Exception):
    """Kafka has lost or changed something that the state rests on; the worker does not go on.

    The text says what, where, how much, and what to do. Nothing is committed.
    """

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        super().__init__(told(self.findings))


def told(findings: Sequence[Finding]) -> str:
    """Findings as one text; each remedy once."""
    lost = "; ".join(map(str, findings))
    remedies = " ".join(dict.fromkeys(f"To do: {finding.remedy}." for finding in findings))
    return f"{lost}. {remedies}"


def place(tp: TP) -> str:
    """How a log is named: topic[partition]."""
    return f"{tp.topic}[{tp.partition}]"
