"""Findings: what the broker has lost or changed, and what to do about it, in words."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from models.errors import ClvError
from streams.kafka.partitions import TopicPartition

LOST: Final = 78
"""Exit status (EX_CONFIG) of a worker whose state does not fit Kafka: no restart helps."""


class Kind(StrEnum):
    """The kind of a difference between the state and the broker.

    deleted: records were deleted before they were read. cut: a log ends before the last processed
    record. replaced: a topic was deleted and created again. state: the changelog is gone, or a
    partition of it. partitions, currency, timezone, complaint-topics: differ from those that the
    state was built on.
    """

    DELETED = "deleted"
    CUT = "cut"
    REPLACED = "replaced"
    STATE = "state"
    PARTITIONS = "partitions"
    CURRENCY = "currency"
    TIMEZONE = "timezone"
    COMPLAINT_TOPICS = "complaint-topics"


ACCEPTABLE: Final = frozenset({Kind.DELETED, Kind.CUT, Kind.REPLACED, Kind.STATE})
"""The kinds that `clv accept-loss` resolves; the others have remedies that lose nothing."""


@dataclass(frozen=True, slots=True)
class Finding:
    """Something lost or changed.

    place: "topic[partition]", or a topic or setting. lost: what, and how much. remedy: what to do.
    tp: the log, if the finding is about one. go_on: the offset from which it can be read on.
    """

    kind: Kind
    place: str
    lost: str
    remedy: str
    tp: TopicPartition | None = None
    go_on: int | None = None

    def __str__(self) -> str:
        return f"{self.place}: {self.lost}"


class BasisLost(ClvError):
    """Kafka has lost or changed something that the state was built on; the worker stops.

    The text says what, where, how much, and each remedy once. Nothing is committed.
    """

    def __init__(self, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        lost = "; ".join(map(str, findings))
        remedies = " ".join(dict.fromkeys(f"To do: {finding.remedy}." for finding in findings))
        super().__init__(f"{lost}. {remedies}")


def place(tp: TopicPartition) -> str:
    """Return the name of a log: topic[partition]."""
    return f"{tp.topic}[{tp.partition}]"


def distinct(findings: Iterable[Finding | None]) -> list[Finding]:
    """Return each finding once: those about topics occur once for each partition."""
    return list(dict.fromkeys(each for each in findings if each is not None))
