"""What a worker has done since it started, in numbers."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

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

    def add(self, outputs: Outputs, records: int) -> None:
        """Count what came of a batch."""
        self.records += records
        self.accepted += outputs.accepted
        self.duplicates += outputs.duplicates
        self.replayed += outputs.replayed
        self.forgotten += outputs.forgotten
        self.rerouted += len(outputs.rerouted)
        self.add_published(outputs)

    def add_published(self, outputs: Outputs) -> None:
        """Count what comes out, whatever it came of."""
        self.removed += len(outputs.removed)
        self.updates += len(outputs.updates)
        self.segment_changes += len(outputs.segment_changes)
        self.new_customers += outputs.new_customers
        self.dead_letters += outputs.reasons()
