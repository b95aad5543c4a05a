"""Barriers between records whose order matters.

Kafka keeps no order across topics: a worker may process a ticket before the order that came first.
To make replays deterministic, records are published in groups with a barrier between them. A group
begins when the previous one is processed, and no group has records of one customer from two topics.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TypeVar

from models.events.kinds import IDENTITIES
from streams.files.outgoing import OutgoingEvent
from streams.recording.format import Recorded

ALONE = ("clock", "models", IDENTITIES)
"""Roles of topics whose records concern many customers: each such record is a group of its own."""


_Record = TypeVar("_Record", Recorded, OutgoingEvent)


def between_barriers(
    records: Iterable[_Record], role_of: Callable[[_Record], str]
) -> list[list[_Record]]:
    """Group records by the barriers between them; each customer's records keep their order.

    role_of: returns the role of a record's topic. Ticks of the same time form one group.
    """
    groups: list[list[_Record]] = []
    floor = 0
    last: dict[bytes, tuple[str, int]] = {}
    ticks: bytes | None = None
    for record in records:
        role = role_of(record)
        if role in ALONE:
            same_tick = role == "clock" and ticks is not None and ticks == record.value
            if not same_tick:
                groups.append([])
            groups[-1].append(record)
            floor = len(groups)
            ticks = record.value if role == "clock" else None
            last.clear()
            continue
        ticks = None
        number = floor
        if record.key is not None:
            before, number = last.get(record.key, (role, floor))
            if before != role:
                number += 1
            last[record.key] = role, number
        while len(groups) <= number:
            groups.append([])
        groups[number].append(record)
    return groups
