"""Sources of a replay: a recording, or the topics of a broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Protocol

from models.errors import ClvError
from streams.recording.format import Place, Progress, Recorded, RecordedTopic
from streams.recording.live import BEGINNING, END, Bound, LiveSlice
from streams.recording.reader import Recording

_AT_ONCE = 2_000
"""Records between two turns of the event loop."""


class ReplayFailed(ClvError):
    """The service crashed or made no progress during a replay; the text says why."""


class Source(Protocol):
    """Records in the order of the replay, and how far it has come.

    pseudonyms: whether ids are pseudonyms, so that keys are not in the partitions they hash to.
    total: approximate length; done: how much of it has been read. given: records given since
    reading last began.
    """

    topics: tuple[RecordedTopic, ...]
    pseudonyms: bool
    total: int
    done: int
    given: int

    def records(self) -> AsyncIterator[Recorded]:
        """The records."""


def most_partitions(source: Source) -> int:
    """The greatest number of partitions of its topics, leaving out that of the parameters."""
    return max((t.partitions for t in source.topics if t.role != "models"), default=1)


def counts_by_role(source: Source, partitions: int) -> dict[str, int]:
    """Numbers of partitions of its topics by role: so many, but one for the parameters."""
    return {t.role: 1 if t.role == "models" else partitions for t in source.topics}


class FromFile:
    """The records of a slice of a recording, verified first; RecordingUnusable, OSError."""

    def __init__(
        self,
        recording: Recording,
        since: Bound = BEGINNING,
        until: Bound = END,
        progress: Progress = lambda _done, _total: None,
    ) -> None:
        self.end = recording.verify(progress)
        self.topics = recording.head.topics
        self.pseudonyms = recording.head.pseudonyms
        self.total = self.end.records
        self.done = 0
        self.given = 0
        self._recording = recording
        self._since, self._until = since, until

    async def records(self) -> AsyncIterator[Recorded]:
        """The records; each partition's from the first at or after `since` up to `until`."""
        self.done = self.given = 0
        begun: set[Place] = set()
        over: set[Place] = set()
        for record in self._recording.records():
            self.done += 1
            if self.done % _AT_ONCE == 0:
                await asyncio.sleep(0)
            place = Place(record.topic, record.partition)
            if place in over:
                continue
            if self._until.reached_by(record):
                over.add(place)
                continue
            if place not in begun:
                if self._since != BEGINNING and not self._since.reached_by(record):
                    continue
                begun.add(place)
            self.given += 1
            yield record


class FromTopics:
    """The records of a broker's topics; they can be read once."""

    pseudonyms = False

    def __init__(self, live: LiveSlice) -> None:
        self.topics = live.topics
        self.total = live.total
        self.done = 0
        self.given = 0
        self._live = live
        live.progress = self._noted

    async def records(self) -> AsyncIterator[Recorded]:
        """The records; errors: KafkaError."""
        async for record in self._live.records():
            self.given += 1
            yield record

    def _noted(self, done: int, _total: int) -> None:
        self.done = done
