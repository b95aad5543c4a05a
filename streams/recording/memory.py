"""Replaying in memory: the service itself, over a simulated broker."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any, NamedTuple, Protocol

import msgspec
from faust.types import TP
from pydantic import ValidationError

from models.contracts.parameters import Parameters
from streams.recording.format import Recorded
from streams.recording.pace import Pace
from streams.recording.placing import Placing
from streams.recording.source import ReplayFailed, Source
from streams.recording.waves import waves
from streams.settings import Settings
from streams.testing.clock import milliseconds
from streams.testing.errors import NotSettled, WorkerCrashed
from streams.testing.topology import Topology, running_topology
from streams.topics import changelog_topic

_encode = msgspec.msgpack.Encoder().encode

_AT_ONCE = 5_000
_SETTLE_SECONDS = 120.0
_LAST_YEAR = milliseconds(datetime(9999, 1, 1, tzinfo=UTC))


class Sink(Protocol):
    """Takes what comes out, each partition's in its order."""

    def state(self, key: bytes, data: bytes | None) -> None:
        """A record of the changelog."""

    def update(self, key: bytes, document: bytes | None) -> None:
        """A value update, or that the customer is gone."""

    def change(self, key: bytes, document: bytes) -> None:
        """A change of segment, or a notice of a customer who is gone."""

    def letter(self, headers: Any) -> None:
        """A dead letter's headers."""


class Came(NamedTuple):
    """What came of some records: name of the topic's role, key, value, and headers."""

    role: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class MemoryReplay:
    """Feeds records to a topology and passes on what comes out; made by `in_memory`.

    read: records by role of topic. refused_parameters: those that a worker would not use, and why.
    """

    def __init__(
        self,
        topology: Topology,
        source: Source,
        placing: Placing,
        sinks: Sequence[Sink],
        *,
        parameters: Parameters | None,
    ) -> None:
        self.read: Counter[str] = Counter()
        self.counts = topology.workers[0].pipeline.counts
        """What the worker has done."""
        self.refused_parameters: list[str] = []
        self._topology = topology
        self._source = source
        self._roles = [topic.role for topic in source.topics]
        self._placing = placing
        self._sinks = sinks
        self._fixed = parameters
        topics = topology.settings.topics
        names = topics.model_dump()
        self._names = [names[role] for role in self._roles]
        self._out = {
            "changelog": changelog_topic(topology.settings),
            "updates": topics.updates,
            "segment_changes": topics.segment_changes,
            "dead_letters": topics.dead_letters,
        }
        self._time = 0
        self._input = blake2b(digest_size=16)
        self._tick = b""

    @property
    def input(self) -> str:
        """A digest of what was read: roles, timestamps, keys, headers and values."""
        return self._input.hexdigest()

    async def run(
        self, pace: Pace | None = None, progress: Callable[[], None] = lambda: None
    ) -> None:
        """Feed all records. Errors: those of the source, ReplayFailed."""
        pace = pace or Pace(None)
        waiting: list[Recorded] = []
        async for record in self._source.records():
            if pace.wait_for(record.timestamp) > 0.0:
                await self.feed(waiting)
                waiting = []
                await pace.reach(record.timestamp)
            waiting.append(record)
            if len(waiting) >= _AT_ONCE:
                await self.feed(waiting)
                waiting = []
                progress()
        await self.feed(waiting)
        progress()

    async def feed(self, records: Sequence[Recorded]) -> list[Came]:
        """Feed records, in waves; what came of them, once all of it has. Errors: ReplayFailed."""
        came: list[Came] = []
        for record in records:
            role = self._roles[record.topic]
            told = _encode((role, record.timestamp, record.key, record.headers, record.value))
            # A tick is there once for each partition.
            if role != "clock" or told != self._tick:
                self._input.update(told)
            self._tick = told if role == "clock" else self._tick
        for wave in waves(self._roles, records):
            for record in wave:
                await self._put(record)
            await self._topology.settled()
            came += self._drain()
        return came

    async def _put(self, record: Recorded) -> None:
        role = self._roles[record.topic]
        self._check_time(record)
        self.read[role] += 1
        # Time does not go back: a worker's clock is at or after the arrival of what it reads.
        self._time = max(self._time, record.timestamp)
        self._topology.clock.set(datetime.fromtimestamp(self._time / 1000, UTC))
        if role == "models":
            await self._use(record)
            return
        for partition in self._placing.of(record):
            self._topology.broker.append(
                TP(self._names[record.topic], partition),
                record.value,
                record.key,
                headers=[(name, content) for name, content in record.headers],  # type: ignore[misc]
                timestamp=record.timestamp,
            )

    def _check_time(self, record: Recorded) -> None:
        """A worker's clock follows the timestamps: one that is none would have it err for good."""
        if 0 <= record.timestamp < _LAST_YEAR:
            return
        name = self._source.topics[record.topic].name
        raise ReplayFailed(
            f"{name}[{record.partition}]@{record.offset}: the timestamp is {record.timestamp}, and "
            f"allowed are milliseconds since 1970, from 0 to before {_LAST_YEAR}; leave it out by "
            "--from or --until"
        )

    async def _use(self, record: Recorded) -> None:
        if self._fixed is not None or record.value is None:
            return
        try:
            parameters = Parameters.model_validate_json(record.value)
        except ValidationError as error:
            # As a worker does it: the former ones stay in use.
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"])) or "the record"
            self.refused_parameters.append(f"offset {record.offset}: {where}: {first['msg']}")
            return
        currency = self._topology.settings.economics.currency
        if parameters.currency == currency:
            await self._topology.use_parameters(parameters)
        else:
            self.refused_parameters.append(
                f"{parameters.version} are in {parameters.currency}, the shop's currency is "
                f"{currency}: set CLV_ECONOMICS__CURRENCY"
            )

    def _drain(self) -> list[Came]:
        """Pass on what was published since, and forget it, so that memory does not fill."""
        broker = self._topology.broker
        came = [
            Came(role, record.key, record.value, record.headers)
            for role, name in self._out.items()
            for partition in range(self._topology.partitions)
            for record in broker.logs[TP(name, partition)]
        ]
        for each in came:
            for sink in self._sinks:
                _pass_on(sink, each)
        for log in broker.logs.values():
            log.clear()
        return came


@asynccontextmanager
async def in_memory(
    settings: Settings,
    source: Source,
    sinks: Sequence[Sink],
    *,
    parameters: Parameters | None = None,
) -> AsyncIterator[MemoryReplay]:
    """A service in memory, and the replay of a source to it.

    parameters: to be used in place of those in the source. Errors: ReplayFailed.
    """
    partitions = max((t.partitions for t in source.topics if t.role != "models"), default=1)
    counts = {topic.role: partitions for topic in source.topics}
    placing = Placing(source.topics, counts, pseudonyms=source.pseudonyms)
    chosen = settings.model_copy(update={"partitions": partitions, "state_dir": None})
    threshold = gc.get_threshold()
    # As a worker has it: new objects are not in cycles, and looking for them takes its time.
    gc.set_threshold(200_000, 20, 20)
    try:
        async with running_topology(
            chosen, parameters=parameters, settle_seconds=_SETTLE_SECONDS
        ) as topology:
            yield MemoryReplay(topology, source, placing, sinks, parameters=parameters)
    except WorkerCrashed as error:
        raise ReplayFailed(f"the service crashed: {error.__cause__ or error!r}") from error
    except NotSettled as error:
        raise ReplayFailed(f"the service does not go on: {error}") from error
    finally:
        gc.set_threshold(*threshold)


def _pass_on(sink: Sink, came: Came) -> None:
    if came.role == "dead_letters":
        sink.letter(came.headers)
    elif came.key is None:
        return
    elif came.role == "changelog":
        sink.state(came.key, came.value)
    elif came.role == "updates":
        sink.update(came.key, came.value)
    elif came.value is not None:
        sink.change(came.key, came.value)
