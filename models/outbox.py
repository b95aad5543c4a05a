"""The outbox of a customer: segment changes and removals that are stored but not yet delivered.

A record is stored before its outputs are published. It holds them as outbox entries, so that a
worker that takes over after a crash publishes the same ones.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from enum import Enum
from typing import Final

import msgspec

from models.aggregate.record import Change, CustomerRecord, Evidence, OutboxEntry
from models.errors import ClvError
from models.scores import Decided, Evaluation, Look, RemovalStep, Scores
from models.segments.deciding import Day

OUTBOX_BYTES: Final = 200 * 1024
"""How much of a customer's outbox may be in flight before a batch has to wait.

After a crash, each of the eight input topics may have left this much in a record. With the
aggregate and the merged customers it must fit the changelog's 4 MiB.
"""

_ENTRY_BYTES: Final = 530
"""An outbox entry without its changes: five numbers, an origin of up to 256 bytes, and the versions
of rules and parameters, of up to 100 bytes each."""

WithEvidence = tuple[OutboxEntry, tuple[Evidence, ...]]
"""An outbox entry with the evidence of each of its changes."""


class Overfull(ClvError):
    """What silence brings to a customer exceeds what may be in flight of their outbox."""


class DeliveryState(Enum):
    """Whether an outbox entry was delivered, is being sent now, or is unknown after a crash."""

    DELIVERED = "delivered"
    IN_FLIGHT = "in flight"
    UNKNOWN = "unknown"


DeliveryLookup = Callable[[str, int], DeliveryState]
"""Look up the delivery state of the entries that the record at "topic/partition", offset caused."""


def all_delivered(_origin: str, _offset: int) -> DeliveryState:
    """Report every entry as delivered: nothing has crashed, and nothing is in flight."""
    return DeliveryState.DELIVERED


def most_in_flight(entry_bytes: int) -> int:
    """Return how many outbox entries of one customer may be in flight; at least one.

    entry_bytes: the largest size of the changes of one entry.
    """
    return max(OUTBOX_BYTES // (_ENTRY_BYTES + entry_bytes), 1)


def removal_entry(
    record: CustomerRecord, origin: str, step: RemovalStep, as_of: int
) -> WithEvidence:
    """Return the entry of a removal as of a time, and clear the record's segments and value."""
    record.version += 1
    entry = OutboxEntry(
        record.version,
        as_of,
        origin,
        step.offset,
        record.clv,
        removal=step.reason,
        into=step.into,
    )
    record.segments = {}
    record.since = {}
    record.clv = None
    return entry, ()


def changes_entry(
    record: CustomerRecord, origin: str, step: Evaluation | Look, scores: Scores, day: Day
) -> WithEvidence | None:
    """Return the entry of an evaluation's segment changes, or None; update the record.

    A look that finds no change leaves the record as it is. day: returns the shop's calendar day of
    a time.
    """
    silent = True
    if isinstance(step, Evaluation):
        silent = False
        record.version += 1
        record.silent = False
        record.refreshed, record.told = 0, None
        if step.backfill:
            return None
    row, segments, since, before = step.row, record.segments, record.since, record.clv
    after = scores.clv[row]
    decided = scores.decided(row)
    changes: list[Change] = []
    evidence: list[Evidence] = []
    for decisions in decided.dimensions:
        name = decisions.name
        previous = segments.get(name)
        if decisions.suggested[row] == previous:
            continue
        index = decisions.decide(row, previous, since.get(name), step.as_of, day)
        current = decisions.segments[index]
        if current != previous:
            dimension = decisions.dimension
            rule = dimension.rules[index].id
            changes.append(Change(name, previous, current, "" if rule == current else rule))
            evidence.append(decided.evidence(dimension, index, row))
            segments[name] = current
            since[name] = step.as_of
    if len(segments) > len(decided.dimensions):
        for name in sorted(segments.keys() - decided.rules.by_name.keys()):
            changes.append(Change(name, segments.pop(name), None))
            evidence.append({})
            since.pop(name, None)
    if changes or not silent:
        record.clv = after
    if not changes:
        return None
    if silent:
        record.silent = True
        record.as_of = max(record.as_of, step.as_of)
        record.refreshed, record.told = 0, None
    entry = OutboxEntry(
        record.version,
        step.as_of,
        origin,
        step.offset,
        before,
        after,
        tuple(changes),
        cause=step.cause,
        rules=decided.rules.version,
        model=scores.models[row].version,
        silent=silent,
    )
    return entry, tuple(evidence)


def outbox(entries: Iterable[WithEvidence], version: int, as_of: int) -> tuple[OutboxEntry, ...]:
    """Return the entries to store, without evidence that can be computed from the record itself.

    An erasure drops all earlier entries.
    """
    kept: list[OutboxEntry] = []
    for entry, evidence in entries:
        if entry.removal == "erased":
            kept.clear()
        own = (entry.version == version and entry.as_of == as_of) or entry.removal
        kept.append(entry if own else msgspec.structs.replace(entry, evidence=evidence))
    return tuple(kept)


def with_evidence(
    entries: Iterable[OutboxEntry], row: int | None, scores: Scores
) -> Iterator[WithEvidence]:
    """Yield stored entries with their evidence; row: of the customer as stored, if present."""
    for entry in entries:
        evidence = entry.evidence
        if evidence is None and row is not None:
            decided = scores.decided(row)
            evidence = tuple(_evidence(change, decided, row) for change in entry.changes)
        yield entry, evidence or ()


def _evidence(change: Change, decided: Decided, row: int) -> Evidence:
    dimension = decided.rules.by_name.get(change.dimension)
    index = None if dimension is None else dimension.places.get(change.rule)
    if dimension is None or index is None:
        return {}
    return decided.evidence(dimension, index, row)
