"""What a judgement consists of."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

DETAILS = 60


class KafkaRecord(Protocol):
    """A record as a consumer reads it."""

    partition: int
    offset: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


@dataclass
class Verdict:
    """What was found; everything but the last four counts must be zero.

    lost, doubled: orders, refunds and contacts that are missing or too many, by the worst store.
    wrong: values that differ though the counts are right, customers where none should be, times.
    disagreeing: customers of whom the stores hold different versions or documents. went_back:
    records, in the changelog or the updates, under an older version than one before that are no
    copies of earlier ones, and keys whose last record is not their newest. contradicted: updates
    that say something else than one of the same version. not_stored: updates of a version that the
    changelog never had. redis_faults: ranking, sets or totals that do not match the customers.
    missing_letters, wrong_letters: refusals without a letter, and letters that no refusal explains.
    broken_chains: segment changes that do not follow each other, or that change under one id.
    missing_changes, wrong_changes: segment changes that events or time must bring and nobody was
    told of, and those that nothing brings, or under another id; judged where time passes.
    traces: places where an erased customer is still found.
    republished, changes_again, letters_again: updates, changes and letters that were sent again as
    they were. optional_letters: letters of what may be refused or recognised as a duplicate.
    """

    customers: int = 0
    lost: int = 0
    doubled: int = 0
    wrong: int = 0
    disagreeing: int = 0
    went_back: int = 0
    redis_faults: int = 0
    missing_letters: int = 0
    wrong_letters: int = 0
    broken_chains: int = 0
    missing_changes: int = 0
    wrong_changes: int = 0
    traces: int = 0
    contradicted: int = 0
    not_stored: int = 0
    republished: int = 0
    changes_again: int = 0
    letters_again: int = 0
    optional_letters: int = 0
    by_store: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    details: list[str] = field(default_factory=list)

    FAULTS = (
        "lost", "doubled", "wrong", "disagreeing", "went_back", "redis_faults", "missing_letters",
        "wrong_letters", "broken_chains", "traces", "contradicted", "not_stored",
        "missing_changes", "wrong_changes",
    )  # fmt: skip

    @property
    def faults(self) -> dict[str, int]:
        """What must be zero and is not."""
        return {name: count for name in self.FAULTS if (count := getattr(self, name))}

    @property
    def ok(self) -> bool:
        """Whether nothing was lost, counted twice, or wrong in any other way."""
        return not self.faults

    def note(self, what: str, text: str, count: int = 1) -> None:
        """Count a fault, and say where; the first of them are kept in words."""
        setattr(self, what, getattr(self, what) + count)
        self.tell(f"{what}: {text}")

    def tell(self, text: str) -> None:
        """Say what is wrong; the first of them are kept."""
        if len(self.details) < DETAILS:
            self.details.append(text)

    def __str__(self) -> str:
        found = self.faults or "nothing lost, nothing counted twice, nothing wrong"
        also = (
            f"sent again as they were: {self.republished} updates, {self.changes_again} changes, "
            f"{self.letters_again} letters"
        )
        return "\n".join([f"{self.customers} customers: {found} ({also})", *self.details])


def where(record: KafkaRecord) -> str:
    """Partition and offset of a record, as in "[0]@17"."""
    return f"[{record.partition}]@{record.offset}"
