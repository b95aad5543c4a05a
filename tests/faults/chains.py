"""Segment changes: whether each begins where the one before it ended."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

from tests.faults.reckoner import Expected
from tests.faults.verdict import KafkaRecord, Verdict, where

CHANGED = "clv.segment-changed"
REMOVED = "clv.customer-removed"
VALUES = {"reason", "clv_before", "clv_after"}


def check_chains(
    expected: Expected,
    records: Iterable[KafkaRecord],
    current: Mapping[str, Mapping[str, str]],
    verdict: Verdict,
    *,
    new_parameters: bool = False,
) -> None:
    """Follow each customer's changes to the segments they have now.

    records: in order. A record under an id that was there must be the same to the last byte, and is
    passed over; a chain begins at nothing, and again after the notice that the customer is gone.
    new_parameters: with others the values in it may be others.
    """
    chains: dict[tuple[str, str], str] = {}
    for record in _told_first(expected, records, verdict, new_parameters):
        document = json.loads(record.value or b"")
        customer, data = document["subject"], document["data"]
        if document["type"] == REMOVED:
            for chain in [chain for chain in chains if chain[0] == customer]:
                del chains[chain]
            continue
        chain = customer, data["dimension"]
        if data["previous"] != chains.get(chain):
            verdict.note(
                "broken_chains",
                f"{document['id']} {where(record)}: from {data['previous']!r}, "
                f"but was {chains.get(chain)!r}",
            )
        chains[chain] = data["current"]
    due = {
        (c, dimension): s for c, segments in current.items() for dimension, s in segments.items()
    }
    for customer, dimension in chains.keys() | due.keys():
        end, segment = chains.get((customer, dimension)), due.get((customer, dimension))
        if end != segment:
            text = f"{customer} {dimension}: the changes end in {end!r}, it is {segment!r}"
            verdict.note("broken_chains", text)


def _told_first(
    expected: Expected, records: Iterable[KafkaRecord], verdict: Verdict, new_parameters: bool
) -> Iterable[KafkaRecord]:
    """The records of this run's customers without repetitions."""
    told: dict[str, KafkaRecord] = {}
    for record in records:
        document = json.loads(record.value or b"{}")
        if document.get("type") not in (CHANGED, REMOVED):
            verdict.note("wrong", f"segment changes {where(record)}: {record.value!r} is no change")
            continue
        if not document["subject"].startswith(expected.prefix):
            continue
        first = told.setdefault(document["id"], record)
        if first is record:
            yield record
            continue
        verdict.changes_again += 1
        same = (first.key, first.value) == (record.key, record.value)
        if not same and not (new_parameters and _says(first) == _says(record)):
            text = f"{document['id']} {where(record)}: not what it was at {where(first)}"
            verdict.note("broken_chains", text)


def _says(record: KafkaRecord) -> object:
    """What a record says beside values, which follow from the parameters."""
    data = json.loads(record.value or b"")["data"]
    return record.key, {name: data[name] for name in data.keys() - VALUES}
