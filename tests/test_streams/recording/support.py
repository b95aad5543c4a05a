"""Small recordings, made without a broker."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import datetime
from functools import cache
from pathlib import Path

from models.contracts import TYPES_OF_TOPIC
from models.contracts.clock import Tick
from models.contracts.parameters import Parameters
from streams.datasets import DATASETS
from streams.datasets.simulate import with_simulation
from streams.files.outgoing import OutgoingEvent
from streams.kafka.partitions import home_partition
from streams.recording import Head, Recorded, RecordedTopic
from streams.recording.writer import recording_writer

ROLES = ("models", *TYPES_OF_TOPIC, "clock")


def topics(partitions: int, prefix: str = "x.") -> tuple[RecordedTopic, ...]:
    """The topics of a service with so many partitions."""
    return tuple(
        RecordedTopic(role, prefix + role, 1 if role == "models" else partitions) for role in ROLES
    )


def head(partitions: int = 2, **given: object) -> Head:
    """A head with all topics."""
    return Head(recorded_at=0, topics=topics(partitions), spans=(), **given)


class Making:
    """Numbers the records of a recording as a broker would."""

    def __init__(self, partitions: int) -> None:
        self.partitions = partitions
        self._ends: Counter[tuple[int, int]] = Counter()

    def record(
        self,
        role: str,
        partition: int,
        timestamp: int,
        key: bytes | None,
        value: bytes | None,
        headers: Sequence[tuple[str, bytes | None]] = (),
    ) -> Recorded:
        """The next record of a partition."""
        topic = ROLES.index(role)
        offset = self._ends[topic, partition]
        self._ends[topic, partition] += 1
        return Recorded(topic, partition, offset, timestamp, key, value, tuple(headers))

    def event(self, event: OutgoingEvent) -> Recorded:
        """The record of an event, which arrived when it happened."""
        home = 0 if event.key is None else home_partition(event.key, self.partitions)
        at = milliseconds(event.time)
        return self.record(event.topic, home, at, event.key, event.value, event.headers)

    def ticks(self, tick: Tick) -> list[Recorded]:
        """A tick, one for each partition."""
        value = tick.model_dump_json(exclude_none=True).encode()
        at = milliseconds(tick.as_of)
        return [self.record("clock", n, at, None, value) for n in range(self.partitions)]


def milliseconds(moment: datetime) -> int:
    """Milliseconds since 1970."""
    return round(moment.timestamp() * 1000)


def write(path: Path, records: Iterable[Recorded], partitions: int = 2, **given: object):
    """Write a recording; returns its end."""
    with recording_writer(path, head(partitions, **given)) as writer:
        for record in records:
            writer.add(record)
        return writer.finish()


def write_events(
    path: Path,
    events: Sequence[OutgoingEvent],
    tick: Tick,
    parameters: Parameters | None = None,
    partitions: int = 2,
):
    """Write a recording of parameters, events and a tick at the end; returns its end."""
    making = Making(partitions)
    records = []
    if parameters is not None:
        first = milliseconds(events[0].time)
        value = parameters.model_dump_json().encode()
        records.append(making.record("models", 0, first, parameters.version.encode(), value))
    records += [making.event(event) for event in events]
    return write(path, [*records, *making.ticks(tick)], partitions)


PARAMETERS = Parameters.model_validate(
    {
        "version": "published",
        "time_unit": "week",
        "currency": "USD",
        "fitted_until": "1997-09-30T00:00:00Z",
        "customers": 2_357,
        "log_likelihood": -9582.429,
        # Fader, Hardie and Lee (2005), CDNOW.
        "purchases": {"r": 0.2426, "alpha": 4.4136, "a": 0.7929, "b": 2.4259},
        "order_value": {"p": 6.25, "q": 3.74, "v": 15.44},
        "contacts": {"shape": 0.5, "rate": 20.0},
        "refund_rate": 0.05,
        "tiers": {"gold": 60.0, "silver": 20.0},
    }
)

TICK = Tick(as_of=DATASETS["cdnow"].as_of, parameters=PARAMETERS.version)


def some_events(seed: int, customers: int = 60) -> list[OutgoingEvent]:
    """The events of some of CDNOW's customers, with what is simulated of them."""
    return [*_some_events(seed, customers)]


@cache
def _some_events(seed: int, customers: int) -> tuple[OutgoingEvent, ...]:
    events = list(with_simulation(DATASETS["cdnow"], seed=seed))
    chosen = {each.key for each in events[: customers * 7 : 7]}
    return tuple(each for each in events if each.key in chosen)
