"""A file of orders or a data set as a source, as if published when it happened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from functools import lru_cache
from itertools import count

from models.contracts import TYPES_OF_TOPIC
from models.contracts.clock import Tick
from streams.files.outgoing import OutgoingEvent
from streams.kafka.partitions import home_partition
from streams.recording.format import Recorded, RecordedTopic
from streams.recording.live import BEGINNING, END, Bound
from streams.simulation.clock import milliseconds

_ROLES = (*TYPES_OF_TOPIC, "clock")
_CLOCK = _ROLES.index("clock")


class FromOrders:
    """Each event is a record with its own time; a tick follows the last one.

    events: read anew for each replay, in their order: sorting could need too much memory. last:
    returns the time of the tick, at the end. partitions: of each topic. total: approximate number
    of events.
    """

    pseudonyms = False

    def __init__(
        self,
        events: Callable[[], Iterable[OutgoingEvent]],
        last: Callable[[], datetime],
        partitions: int,
        *,
        total: int = 0,
        since: Bound = BEGINNING,
        until: Bound = END,
    ) -> None:
        self.topics = tuple(RecordedTopic(role, role, partitions) for role in _ROLES)
        self.total = total
        self.done = 0
        self.given = 0
        """Events that were given, without the passing of time."""
        self.out_of_order = 0
        """Of those, how many are earlier than the one before them."""
        self._events = events
        self._last = last
        self._partitions = partitions
        self._since, self._until = since, until

    async def records(self) -> AsyncIterator[Recorded]:
        """The records; errors: InputFileError."""
        self.done = self.given = self.out_of_order = 0
        before: int | None = None
        numbers = {(topic, n): count() for topic in range(_CLOCK) for n in range(self._partitions)}
        home_of = lru_cache(maxsize=None)(home_partition)
        for event in self._events():
            self.done += 1
            home = home_of(event.key, self._partitions) if event.key else 0
            place = _ROLES.index(event.topic), home
            at, headers = milliseconds(event.time), tuple(event.headers)
            record = Recorded(*place, next(numbers[place]), at, event.key, event.value, headers)
            if self._since != BEGINNING and not self._since.reached_by(record):
                continue
            if not self._until.reached_by(record):
                self.given += 1
                self.out_of_order += before is not None and at < before
                before = at
                yield record
        last = self._last()
        value = Tick(as_of=last).model_dump_json(exclude_none=True).encode()
        for number in range(self._partitions):
            tick = Recorded(_CLOCK, number, 0, milliseconds(last), None, value)
            if not self._until.reached_by(tick):
                yield tick
