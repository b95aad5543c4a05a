"""A file of orders, or a data set, as it would have been published when it happened."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime
from itertools import count

from models.contracts import TYPES_OF_TOPIC
from models.contracts.clock import Tick
from streams.files.outgoing import OutgoingEvent
from streams.recording.bounds import BEGINNING, END, Bound
from streams.recording.format import Recorded, RecordedTopic
from streams.testing.clock import milliseconds
from streams.topics import home_partition

_ROLES = (*TYPES_OF_TOPIC, "clock")
_CLOCK = _ROLES.index("clock")


class FromOrders:
    """Each event is a record of its own time; at the end time passes for everybody.

    events: kept in the order they are given in, which should be that of their times (sorting could
    need more memory than there is); they are read anew each time. last: up to when time passes,
    asked for at the end. partitions: of each topic. total: how many events there are, about.
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
        homes: dict[bytes, int] = {}
        for event in self._events():
            self.done += 1
            key = event.key or b""
            home = homes.get(key)
            if home is None:
                home = homes[key] = home_partition(key, self._partitions) if key else 0
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
