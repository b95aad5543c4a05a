"""What is replayed: a recording, or topics as they are at the broker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Protocol

from streams.recording.bounds import BEGINNING, END, Bound
from streams.recording.format import Recorded, RecordedTopic
from streams.recording.live import LiveSlice
from streams.recording.merge import Place
from streams.recording.reader import Recording

_AT_ONCE = 2_000
"""Records between two turns of the event loop."""


class ReplayFailed(Exception):
    """The service that was replayed to crashed, or does not go on; the text says why."""


class Source(Protocol):
    """Records in the order in which they are replayed; they can be read once or more."""

    @property
    def topics(self) -> tuple[RecordedTopic, ...]:
        """The topics of the records."""

    @property
    def pseudonyms(self) -> bool:
        """Whether ids are made up, and keys lie in other partitions than their own."""

    @property
    def total(self) -> int:
        """How far there is to go, about."""

    @property
    def done(self) -> int:
        """How far of that it is."""

    @property
    def given(self) -> int:
        """Records that were given, since they were last read from the beginning."""

    def records(self) -> AsyncIterator[Recorded]:
        """The records."""


class FromFile:
    """The records of a recording, or of a slice of it, once it was read whole and found whole.

    Errors: RecordingUnusable, OSError.
    """

    def __init__(
        self,
        recording: Recording,
        since: Bound = BEGINNING,
        until: Bound = END,
        progress: Callable[[int, int], None] | None = None,
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
        """The records, each partition's from the first one at or after `since`, up to `until`."""
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
    """The records of topics as they are at the broker; they can be read once."""

    pseudonyms = False

    def __init__(self, live: LiveSlice) -> None:
        self.topics = live.topics
        self.given = 0
        self._live = live

    @property
    def total(self) -> int:
        """Offsets there are."""
        return self._live.total

    @property
    def done(self) -> int:
        """Offsets read."""
        return self._live.done

    async def records(self) -> AsyncIterator[Recorded]:
        """The records; errors: KafkaError."""
        async for record in self._live.records():
            self.given += 1
            yield record
