"""Which letters a command is about."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from streams.dead_letters.letter import Letter, glance

_SHORT = re.compile(r"([0-9]+)/([0-9]+)")
_LONG = re.compile(r"(.+)\[([0-9]+)\]@([0-9]+)")


@dataclass(frozen=True, slots=True)
class Selection:
    """Which letters are meant; None: any.

    topic: where the record came from. places: partition and offset of the letters; empty: any.
    """

    reason: str | None = None
    topic: str | None = None
    customer: str | None = None
    since: datetime | None = None
    places: frozenset[tuple[int, int]] = frozenset()

    def __contains__(self, letter: Letter) -> bool:
        topic = None if letter.refused is None else letter.refused.topic
        return (
            (not self.places or letter.place in self.places)
            and (self.reason is None or letter.reason == self.reason)
            and (self.topic is None or topic == self.topic)
            and (self.since is None or letter.time >= self.since)
            and (self.customer is None or glance(letter).customer == self.customer)
        )


def split_where(text: str) -> tuple[str, int, int]:
    """Topic, partition and offset in "topic[partition]@offset"; ValueError."""
    found = _LONG.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is not topic[partition]@offset")
    return found[1], int(found[2]), int(found[3])


def parse_place(text: str, topic: str) -> tuple[int, int]:
    """Partition and offset in "partition/offset" or "topic[partition]@offset"; ValueError."""
    if found := _SHORT.fullmatch(text):
        return int(found[1]), int(found[2])
    found = _LONG.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no letter: write partition/offset, such as 0/17")
    if found[1] != topic:
        raise ValueError(f"{text!r} is in another topic; dead letters are in {topic}")
    return int(found[2]), int(found[3])
