"""Counters of a worker."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, fields
from typing import Any

from models.outputs import Outputs


@dataclass(slots=True)
class Counts:
    """What this worker has done since it started."""

    records: int = 0
    accepted: int = 0
    duplicates: int = 0
    replayed: int = 0
    forgotten: int = 0
    rerouted: int = 0
    removed: int = 0
    updates: int = 0
    segment_changes: int = 0
    new_customers: int = 0
    ticks: int = 0
    dead_letters: Counter[str] = field(default_factory=Counter)
    notices: Counter[str] = field(default_factory=Counter)

    def add(self, outputs: Outputs, records: int) -> None:
        """Add the counts of a batch."""
        self.records += records
        self.accepted += outputs.accepted
        self.duplicates += outputs.duplicates
        self.replayed += outputs.replayed
        self.forgotten += outputs.forgotten
        self.rerouted += len(outputs.rerouted)
        self.add_published(outputs)

    def add_published(self, outputs: Outputs) -> None:
        """Add the counts of published outputs only."""
        self.removed += len(outputs.removed)
        self.updates += len(outputs.updates)
        self.segment_changes += len(outputs.segment_changes)
        self.new_customers += outputs.new_customers
        self.dead_letters += outputs.reasons()
        self.notices += outputs.notice_reasons()

    def document(self) -> dict[str, Any]:
        """Return the counts by name, those of dead letters and notices by reason."""
        # Not asdict: it makes a Counter of the pairs of another.
        counts = {each.name: getattr(self, each.name) for each in fields(self)}
        reasons = {"dead_letters": dict(self.dead_letters), "notices": dict(self.notices)}
        return counts | reasons
