"""What happened to customers, in words: for the report of a test that failed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from operator import itemgetter
from typing import Any

from pydantic import ValidationError

from models.contracts import NOTICES, Refused, decode
from models.contracts.dead_letters import DeadLetter, split_headers
from streams.kafka.partitions import home_partition
from streams.settings import Settings
from streams.transport.memory.broker import Record

MOST_CUSTOMERS = 5
MOST_LINES = 40


def history(
    read: Callable[[str], Sequence[Record]],
    settings: Settings,
    partitions: int,
    customers: Sequence[str],
) -> str:
    """The events of customers in the order of each topic, and what came of them.

    read: gives all records of a topic.
    """
    if not customers:
        return "no customer was touched"
    topics = settings.topics
    letters = _letters(read(topics.dead_letters))
    inputs = [record for topic in topics.inputs for record in read(topic)]
    ticks = read(topics.clock)
    updates = read(topics.updates)
    changes = read(topics.segment_changes)
    parts = []
    for customer in customers[:MOST_CUSTOMERS]:
        key = customer.encode()
        home = home_partition(key, partitions)
        events = [record for record in inputs if _is_of(record, customer)]
        mine = [tick for tick in ticks if tick.partition == home] if events else []
        lines = [f"customer {customer!r}, partition {home}"]
        lines += _shortened(
            [_event_line(record, letters) for record in (*events, *mine)], "no event"
        )
        lines.append("  published:")
        published = [r for r in (*updates, *changes) if r.key == key]
        lines += _shortened(_outcomes(published), "nothing")
        parts.append("\n".join(lines))
    if len(customers) > MOST_CUSTOMERS:
        parts.append(f"and {len(customers) - MOST_CUSTOMERS} customers more")
    return "\n".join(parts)


def shown(key: bytes) -> str:
    """A key as text, whatever it is."""
    return key.decode("utf-8", "backslashreplace")


def _shortened(lines: list[str], none: str) -> list[str]:
    if not lines:
        return [f"    {none}"]
    left = len(lines) - MOST_LINES
    shown = lines if left <= 0 else [f"({left} more before these)", *lines[left:]]
    return [f"    {line}" for line in shown]


def _letters(records: Iterable[Record]) -> dict[str, DeadLetter]:
    """Dead letters by where the record was."""
    found = {}
    for record in records:
        if split_headers(record.headers) is None:
            continue
        try:
            letter = DeadLetter.from_headers(record.headers)
        except ValidationError:
            # The test's own: nothing says which record it is about.
            continue
        found[f"{letter.topic}[{letter.partition}]@{letter.offset}"] = letter
    return found


def _is_of(record: Record, customer: str) -> bool:
    """Whether a record is keyed by a customer, or speaks of them."""
    if record.key == customer.encode():
        return True
    data = _read(record.value).get("data")
    return isinstance(data, dict) and customer in (
        data.get("customer_id"),
        data.get("merged_from"),
    )


def _event_line(record: Record, letters: dict[str, DeadLetter]) -> str:
    refused = letters.get(record.where)
    what = "notice" if refused and refused.reason in NOTICES else "refused"
    end = f"  {what}, {refused.reason}: {refused.message}" if refused else ""
    return f"{_said(record)}  {record.where}{end}"


def _said(record: Record) -> str:
    """Time, type, ids and amounts of an event; or the beginning of what is none."""
    document = _read(record.value)
    if "as_of" in document:
        return f"{document['as_of']}  the clock"
    try:
        event = decode(record.key, record.value, record.headers)
    except Refused:
        return f"{(record.value or b'')[:60]!r}"
    data = event.data.model_dump(mode="json", exclude_none=True)
    time = data.pop(event.data.time_field)
    said = " ".join(f"{name}={value}" for name, value in data.items() if type(value) is not list)
    return f"{time}  {event.type}  {said}  id={event.id}"


def _outcomes(records: Iterable[Record]) -> list[str]:
    """What was published, by version; at the end what the service does not publish like that."""
    found: list[tuple[int, int, str]] = []
    others = []
    for record in records:
        try:
            found.append(_outcome(record))
        except (AttributeError, KeyError, TypeError, ValueError):
            others.append(f"{(record.value or b'')[:60]!r}  {record.where}")
    return [said for *_, said in sorted(found, key=itemgetter(0, 1))] + others


def _outcome(record: Record) -> tuple[int, int, str]:
    """Version, place among those of that version, and what it says; errors: of a foreign one."""
    if record.value is None:
        version = int(dict(record.headers).get("clv-version", b"0"))
        return version, 2, f"version {version}: removed  {record.where}"
    document = _read(record.value)
    kind, data = document["type"], document["data"]
    version = int(data["version"])
    if kind == "clv.updated":
        said = (
            f"version {version}, as of {data['as_of']}: clv {data['clv']:.2f} "
            f"{data['currency']}  {record.where}"
        )
        return version, 0, said
    if kind == "clv.segment-changed":
        said = (
            f"version {version}, as of {data['as_of']}: {data['dimension']} "
            f"{data['previous']} -> {data['current']} (clv {data['clv_after']:.2f})"
        )
        return version, 1, said
    if kind == "clv.customer-removed":
        into = f" into {data['merged_into']!r}" if data["merged_into"] else ""
        return version, 3, f"version {version}: {data['reason']}{into}"
    raise ValueError(f"{kind!r} is no type that the service publishes")


def _read(value: bytes | None) -> dict[str, Any]:
    try:
        document = json.loads(value or b"{}")
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}
