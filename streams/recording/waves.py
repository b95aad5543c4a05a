"""Which records may be worked on at the same time without its making a difference.

Topics have no order among themselves: a worker may take up a ticket before the order that came
first. So that a replay always comes to the same, records go in waves, each begun when the one
before has been worked off, and no wave has records of one customer on two topics.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from streams.recording.format import Recorded

_ALONE = ("clock", "models")
_ACROSS = (b"customer.merged", b"customer.erased")
"""Types of events that have to do with customers of other partitions."""
_ACROSS_TEXT = frozenset(kind.decode() for kind in _ACROSS)


class _Typed(msgspec.Struct):
    type: Any = None


_decode = msgspec.json.Decoder(_Typed).decode


def is_alone(role: str, record: Recorded) -> bool:
    """Whether what comes before a record must be done before it, and it before what follows."""
    if role in _ALONE:
        return True
    if role != "customers":
        return False
    value = record.value or b""
    # JSON is read only where it could write the letters of a type in another way.
    return any(
        kind in value or any(kind == content for _, content in record.headers) for kind in _ACROSS
    ) or (b"\\u" in value and _is_across(value))


def _is_across(value: bytes) -> bool:
    """Whether JSON tells of such an event, or is read differently by different programs."""
    try:
        return str(_decode(value).type) in _ACROSS_TEXT
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return True


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
        if is_alone(role, record):
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
