"""What the demo tells at its end: for people, and as a document that checks itself."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from rich.table import Table

from models.contracts.parameters import Parameters
from streams.cli.sources import SIMULATED_NOTE, Source
from streams.cli.tables import (
    Data,
    Totals,
    changes_table,
    pairs,
    segments_document,
    segments_table,
    top_table,
)
from streams.counts import Counts


@dataclass(frozen=True, slots=True)
class Report:
    """One run of the demo; seconds: from the first to the last processed event.

    silence: the changes of the customer who bought last, if they fell silent.
    """

    source: Source
    events: int
    counts: Counts
    cached_customers: int
    seconds: float
    parameters: Parameters
    totals: Totals
    top: Sequence[Data]
    changes: Sequence[Data]
    silence: Sequence[Data]
    broker: str
    redis: str

    @property
    def dead_letters(self) -> int:
        """Events that were refused."""
        return self.counts.dead_letters.total()

    def problems(self) -> list[str]:
        """What does not add up; empty when the run was right."""
        counts = self.counts
        found = []
        if counts.accepted + counts.duplicates + self.dead_letters != self.events:
            found.append(
                f"{counts.accepted} accepted + {counts.duplicates} duplicates + "
                f"{self.dead_letters} dead letters are not the {self.events} events published"
            )
        if self.cached_customers != counts.new_customers:
            found.append(
                f"{self.cached_customers} customers are cached, {counts.new_customers} were seen"
            )
        return found

    def document(self) -> dict[str, Any]:
        """The report as a document."""
        counts = self.counts
        return {
            "dataset": self.source.name,
            "simulated": self.source.simulated,
            "currency": self.source.economics.currency,
            "events": self.events,
            "accepted": counts.accepted,
            "duplicates": counts.duplicates,
            "replayed": counts.replayed,
            "rerouted": counts.rerouted,
            "dead_letters": self.dead_letters,
            "dead_letters_by_reason": dict(counts.dead_letters),
            "notices": dict(counts.notices),
            "customers": counts.new_customers,
            "updates": counts.updates,
            "segment_changes": counts.segment_changes,
            "cached_customers": self.cached_customers,
            "seconds": round(self.seconds, 3),
            "events_per_second": round(self.events / self.seconds, 1),
            "parameters": self.parameters.version,
            "segments": segments_document(self.totals),
            "top": [{"customer_id": data["customer_id"], "clv": data["clv"]} for data in self.top],
            "silence": [
                {name: data[name] for name in ("customer_id", "as_of", "dimension", "current")}
                for data in self.silence
            ],
            "broker": self.broker,
            "redis": self.redis,
            "ok": not self.problems(),
        }


def report_tables(report: Report) -> Iterator[Table]:
    """The report for people."""
    note = f"Only the orders are real: {SIMULATED_NOTE}." if report.source.simulated else ""
    yield segments_table(report.totals, report.source.economics.currency, note)
    yield top_table(report.top, f"Top {len(report.top)} customers by value", note)
    yield changes_table(report.changes, "Latest segment changes", note)
    if report.silence:
        title = "If the customer who bought last falls silent: what is published, and when"
        yield changes_table(report.silence, title, note)
    yield _summary(report)


def _summary(report: Report) -> Table:
    counts = report.counts
    simulated = " (partly simulated)" if report.source.simulated else ""
    rows = [
        (f"events published{simulated}", f"{report.events:,}"),
        ("accepted", f"{counts.accepted:,}"),
        ("duplicates", f"{counts.duplicates:,}"),
        ("dead letters", f"{report.dead_letters:,}"),
        *((f"  {reason}", f"{count:,}") for reason, count in counts.dead_letters.most_common()),
        *((f"notices: {reason}", f"{count:,}") for reason, count in counts.notices.most_common()),
        ("customers", f"{counts.new_customers:,}"),
        ("customers in Redis", f"{report.cached_customers:,}"),
        ("value updates published", f"{counts.updates:,}"),
        ("segment changes published", f"{counts.segment_changes:,}"),
        ("seconds, first to last event", f"{report.seconds:.1f}"),
        ("events a second", f"{report.events / report.seconds:,.0f}"),
    ]
    return pairs(rows, f"{report.source.name}: what happened")
