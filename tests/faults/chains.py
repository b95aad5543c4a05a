"""Segment changes: whether each begins where the one before it ended."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from tests.faults.reckoner import Expected
from tests.faults.verdict import KafkaRecord, Verdict, where

CHANGED = "clv.segment-changed"
"""The topic also has notices of customers who are gone."""


class Change(NamedTuple):
    """One change of one dimension of one customer."""

    version: int
    previous: str | None
    current: str


def check_chains(
    expected: Expected,
    records: Iterable[KafkaRecord],
    current: Mapping[str, Mapping[str, str]],
    verdict: Verdict,
) -> None:
    """Follow each customer's changes to the segments they have now.

    records: in order. A change under an id that was there is a repetition. One with no greater
    version than the last was worked out again after a crash, and takes the place of those after the
    one that it continues. An erased customer may begin anew.
    """
    seen: set[str] = set()
    chains: defaultdict[tuple[str, str], list[Change]] = defaultdict(list)
    for record in records:
        document = json.loads(record.value or b"{}")
        if document.get("type") != CHANGED:
            continue
        data = document["data"]
        customer = data["customer_id"]
        if document["id"] in seen or not customer.startswith(expected.prefix):
            continue
        seen.add(document["id"])
        change = Change(data["version"], data["previous"], data["current"])
        chain = chains[customer, data["dimension"]]
        if not _continues(chain, change, verdict, new_life=customer in expected.forgotten):
            end = chain[-1].current if chain else None
            text = f"{document['id']} {where(record)}: from {change.previous!r}, but was {end!r}"
            verdict.note("broken_chains", text)
        chain.append(change)
    for customer, segments in current.items():
        for dimension, segment in segments.items():
            chain = chains.get((customer, dimension), [])
            end = chain[-1].current if chain else None
            if end != segment:
                text = f"{customer} {dimension}: the changes end in {end!r}, it is {segment!r}"
                verdict.note("broken_chains", text)


def _continues(chain: list[Change], change: Change, verdict: Verdict, *, new_life: bool) -> bool:
    end = chain[-1].current if chain else None
    if change.previous == end or (new_life and change.previous is None):
        return True
    if not chain or change.version > chain[-1].version:
        return False
    while chain and (chain[-1].version >= change.version or chain[-1].current != change.previous):
        chain.pop()
    verdict.rewound += 1
    return bool(chain) or change.previous is None
