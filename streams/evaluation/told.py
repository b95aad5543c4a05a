"""What an evaluation is told: events in their order, or the states that a service holds."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol

from models.aggregate.past import known_before, times_of
from models.aggregate.record import CustomerRecord, customers, encode_record
from models.aggregate.state import Aggregate
from models.calendar import milliseconds
from models.context import Context
from models.economics import Economics
from streams.batch import BatchResult, Progress, fold_in_steps
from streams.files.outgoing import OutgoingEvent


class Told(Protocol):
    """Where customers' states come from, as they were at some times."""

    @property
    def left_out(self) -> int:
        """How many customers are not in it."""
        ...

    def steps(self, economics: Economics, cuts: Sequence[datetime]) -> Iterator[BatchResult]:
        """Yield the states before each cut, which are in order of time.

        It is the same result each time; a state that has not changed is the same object.
        """
        ...


@dataclass(frozen=True)
class Events:
    """Events of a file or of a recording, in any order."""

    events: Iterable[OutgoingEvent]
    progress: Progress | None = None
    left_out: int = 0

    def steps(self, economics: Economics, cuts: Sequence[datetime]) -> Iterator[BatchResult]:
        """Fold the events until each cut."""
        return fold_in_steps(self.events, Context(economics), cuts, self.progress)


class _Customer(NamedTuple):
    key: bytes
    state: Aggregate
    times: list[int]


class States:
    """The customers of a service as they are now, by key.

    An order counts from the time it was placed, with the version that is known now, even where that
    was said later. Customers with compacted registers are left out.
    """

    def __init__(self, states: Mapping[bytes, bytes], progress: Progress | None = None) -> None:
        self._customers: list[_Customer] = []
        self.left_out = 0
        self._progress = progress
        for key, record in customers(states):
            if record.aggregate.compacted is None:
                times = sorted(times_of(record.aggregate))
                self._customers.append(_Customer(key, record.aggregate, times))
            else:
                self.left_out += 1

    def steps(self, economics: Economics, cuts: Sequence[datetime]) -> Iterator[BatchResult]:
        """Look at every customer as of each cut; economics decide nothing here."""
        del economics
        result, before = BatchResult(), 0
        for cut in cuts:
            time = milliseconds(cut)
            for key, state, times in self._customers:
                news = bisect_left(times, time) - bisect_left(times, before)
                if news:
                    known = CustomerRecord(known_before(state, time))
                    result.states[key] = encode_record(known)
            if self._progress is not None:
                self._progress(1)
            before = time
            yield result
