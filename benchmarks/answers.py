"""What a run has published: whether it is right, and how much it is."""

import json
from collections import Counter
from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any, Literal

from benchmarks.publishing import Totals
from models.contracts import money_units
from streams.kafka.connection import Broker
from streams.kafka.partitions import LogRecord, partitions_of
from streams.kafka.reading import log_bounds, read_logs
from streams.kafka.topics import partition_counts

FETCH_BYTES = 4 * 1024 * 1024

Answers = Literal["updates", "documents", "log"]


@dataclass
class Published:
    """What is in the topics of a run.

    last: the last update of each key. updates: how many there are. bytes: keys, values and headers
    by topic, without the run's name: what was sent, before any packing.
    """

    last: dict[bytes | None, bytes] = field(default_factory=dict)
    updates: int = 0
    dead_letters: int = 0
    bytes: Counter[str] = field(default_factory=Counter)


async def published(broker: str, app_id: str, inputs: Set[str]) -> Published:
    """Read what is committed in a run's topics, without its inputs, to their ends."""
    found = Published()
    where = Broker(broker)
    counts = await partition_counts(where)
    parts = partitions_of(
        {name: n for name, n in counts.items() if app_id in name and name not in inputs}
    )
    bounds = await log_bounds(where, parts)
    async for place, records in read_logs(where, bounds, max_partition_fetch_bytes=FETCH_BYTES):
        name = place.topic.replace(app_id, "").strip(".-_")
        for record in records:
            _count(found, record, name)
    return found


def _count(found: Published, record: LogRecord, name: str) -> None:
    size = len(record.key or b"") + len(record.value or b"")
    found.bytes[name] += size + sum(len(key) + len(value or b"") for key, value in record.headers)
    # Pathway publishes the former row again, as withdrawn.
    if name == "updates" and (b"-1" not in [v for k, v in record.headers if k == "pathway_diff"]):
        found.last[record.key] = record.value or b"null"
        found.updates += 1
    elif name == "dead-letters":
        found.dead_letters += 1


def totals(answers: Answers, last: dict[bytes | None, bytes], line: str) -> Totals:
    """Return what a contender came to, by the last update of each customer or by its last line."""
    if answers == "log":
        told = json.loads(line)
        return Totals(told["customers"], *_counted(told))
    found = Counter[str]()
    for value in last.values():
        document = json.loads(value)
        if answers == "documents":
            ours = document["data"]["totals"]
            document = {**ours, "revenue": ours["gross"]}
        for name, number in zip(Totals._fields[1:], _counted(document), strict=True):
            found[name] += number
    return Totals(len(last), *(found[name] for name in Totals._fields[1:]))


def _counted(document: dict[str, Any]) -> tuple[int, int, int, int]:
    return (
        document["orders"],
        money_units(f"{document['revenue']:.4f}"),
        money_units(f"{document['refunded']:.4f}"),
        document["contacts"],
    )
