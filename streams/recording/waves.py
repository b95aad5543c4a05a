"""Which records may be worked on at the same time without its making a difference.

Topics have no order among themselves: a worker may take up a ticket before the order that came
first. So that a replay always comes to the same, records go in waves, each begun when the one
before has been worked off, and no wave has records of one customer on two topics.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from models.contracts.intake import IDENTITIES
from streams.recording.format import Recorded

ALONE = ("clock", "models", IDENTITIES)
"""Roles of topics of which each record has to do with many customers: what comes before it is done
before it, and it before what follows."""


def waves(roles: Sequence[str], records: Iterable[Recorded]) -> list[list[Recorded]]:
    """The records in waves; a customer's records keep their order.

    roles: of the topics, by their index. Ticks of one time make one wave.
    """
    found: list[list[Recorded]] = []
    floor = 0
    last: dict[bytes, tuple[int, int]] = {}
    ticks: bytes | None = None
    for record in records:
        role = roles[record.topic]
        if role in ALONE:
            same_tick = role == "clock" and ticks is not None and ticks == record.value
            if not same_tick:
                found.append([])
            found[-1].append(record)
            floor = len(found)
            ticks = record.value if role == "clock" else None
            last.clear()
            continue
        ticks = None
        wave = floor
        if record.key is not None:
            topic, wave = last.get(record.key, (record.topic, floor))
            if topic != record.topic:
                wave += 1
            last[record.key] = record.topic, wave
        while len(found) <= wave:
            found.append([])
        found[wave].append(record)
    return found
