"""Replaying into a simulated service."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from hashlib import blake2b
from typing import NamedTuple

import msgspec
from pydantic import ValidationError

from models.contracts.parameters import Parameters
from models.segments import Rules
from streams.kafka.partitions import TopicPartition
from streams.outcome.outcome import ROLES, Outcome
from streams.recording.format import Recorded
from streams.registry.records import is_rules
from streams.replay.barriers import between_barriers
from streams.replay.placing import Pace, Placing
from streams.replay.source import ReplayFailed, Source, most_partitions
from streams.settings import Settings
from streams.simulation.clock import milliseconds
from streams.simulation.service import NotSettled, Simulation, running_simulation
from streams.simulation.worker import WorkerCrashed
from streams.topics import changelog_topic

_encode = msgspec.msgpack.Encoder().encode

_AT_ONCE = 5_000
_SETTLE_SECONDS = 120.0
_LAST_YEAR = milliseconds(datetime(9999, 1, 1, tzinfo=UTC))


class Came(NamedTuple):
    """A record that the service published: role of its topic, key, value and headers."""

    role: str
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes]]


class MemoryReplay:
    """Feeds records to a simulated service and passes on what comes out; made by `in_memory`.

    read: number of records by role. refused_parameters: those that a worker would refuse, and why.
    """

    def __init__(
        self,
        simulation: Simulation,
        source: Source,
        placing: Placing,
        outcome: Outcome,
        *,
        parameters: Parameters | None,
    ) -> None:
        self.read: Counter[str] = Counter()
        self.counts = simulation.workers[0].pipeline.counts
        """What the worker has done."""
        self.refused_parameters: list[str] = []
        self._simulation = simulation
        self._source = source
        self._roles = [topic.role for topic in source.topics]
        self._placing = placing
        self._outcome = outcome
        self._fixed = parameters
        names = simulation.settings.topics.model_dump()
        names["changelog"] = changelog_topic(simulation.settings)
        self._names = [names[role] for role in self._roles]
        self._out = {role: names[role] for role in ROLES}
        self._time = 0
        self._input = blake2b(digest_size=16)
        self._tick = b""

    @property
    def input(self) -> str:
        """A digest of the records read: roles, timestamps, keys, headers and values."""
        return self._input.hexdigest()

    async def run(
        self, pace: Pace | None = None, progress: Callable[[], None] = lambda: None
    ) -> None:
        """Feed all records. Errors: those of the source, ReplayFailed."""
        pace = pace or Pace(None)
        waiting: list[Recorded] = []
        async for record in self._source.records():
            if len(waiting) >= _AT_ONCE or pace.wait_for(record.timestamp) > 0.0:
                await self.feed(waiting)
                waiting = []
                progress()
                await pace.reach(record.timestamp)
            waiting.append(record)
        await self.feed(waiting)
        progress()

    async def feed(self, records: Sequence[Recorded]) -> list[Came]:
        """Feed records, group by group; return what the service published. Errors: ReplayFailed."""
        came: list[Came] = []
        for record in records:
            role = self._roles[record.topic]
            encoded = _encode((role, record.timestamp, record.key, record.headers, record.value))
            # A tick is there once for each partition.
            if role != "clock" or encoded != self._tick:
                self._input.update(encoded)
            self._tick = encoded if role == "clock" else self._tick
        for group in between_barriers(records, lambda record: self._roles[record.topic]):
            for record in group:
                await self._put(record)
            await self._simulation.settled()
            came += self._drain()
        return came

    async def _put(self, record: Recorded) -> None:
        role = self._roles[record.topic]
        self._check_time(record)
        self.read[role] += 1
        # Time does not go back: a worker's clock is at or after the arrival of what it reads.
        self._time = max(self._time, record.timestamp)
        self._simulation.clock.set(datetime.fromtimestamp(self._time / 1000, UTC))
        if role == "models":
            await self._use(record)
            return
        for partition in self._placing.of(record):
            self._simulation.broker.append(
                TopicPartition(self._names[record.topic], partition),
                record.value,
                record.key,
                headers=[(name, content) for name, content in record.headers],  # type: ignore[misc]
                timestamp=record.timestamp,
            )

    def _check_time(self, record: Recorded) -> None:
        """Refuse an invalid timestamp: the worker's clock follows them, and would stay wrong."""
        if 0 <= record.timestamp < _LAST_YEAR:
            return
        name = self._source.topics[record.topic].name
        raise ReplayFailed(
            f"{name}[{record.partition}]@{record.offset}: the timestamp is {record.timestamp}, and "
            f"allowed are milliseconds since 1970, from 0 to before {_LAST_YEAR}; leave it out by "
            "--from or --until"
        )

    async def _use(self, record: Recorded) -> None:
        if record.value is None:
            return
        if is_rules(record.key):
            self._use_rules(record, record.value)
            return
        if self._fixed is not None:
            return
        try:
            parameters = Parameters.model_validate_json(record.value)
        except ValidationError as error:
            self._refuse(record, error)
            return
        currency = self._simulation.settings.economics.currency
        if parameters.currency == currency:
            self._simulation.give_parameters(parameters)
        else:
            self.refused_parameters.append(
                f"{parameters.version} are in {parameters.currency}, the shop's currency is "
                f"{currency}: set CLV_ECONOMICS__CURRENCY"
            )

    def _use_rules(self, record: Recorded, value: bytes) -> None:
        try:
            self._simulation.give_rules(Rules.model_validate_json(value))
        except ValidationError as error:
            self._refuse(record, error)

    def _refuse(self, record: Recorded, error: ValidationError) -> None:
        """Note a record that a worker refuses too; the former ones stay in use."""
        first = error.errors(include_url=False)[0]
        where = ".".join(map(str, first["loc"])) or "the record"
        self.refused_parameters.append(f"offset {record.offset}: {where}: {first['msg']}")

    def _drain(self) -> list[Came]:
        """Pass on what was published since the last call, and drop it to save memory."""
        broker = self._simulation.broker
        came = [
            Came(role, record.key, record.value, record.headers)
            for role, name in self._out.items()
            for partition in range(self._simulation.partitions)
            for record in broker.logs[TopicPartition(name, partition)]
        ]
        for each in came:
            self._outcome.take(*each)
        for log in broker.logs.values():
            log.clear()
        return came


@asynccontextmanager
async def in_memory(
    settings: Settings,
    source: Source,
    outcome: Outcome,
    *,
    parameters: Parameters | None = None,
) -> AsyncIterator[MemoryReplay]:
    """A simulated service, and the replay of a source into it.

    parameters: used instead of those in the source. Errors: ReplayFailed.
    """
    partitions = most_partitions(source)
    counts = {topic.role: partitions for topic in source.topics}
    placing = Placing(source.topics, counts, pseudonyms=source.pseudonyms)
    chosen = settings.model_copy(update={"partitions": partitions, "state_dir": None})
    threshold = gc.get_threshold()
    # As a worker has it: new objects are not in cycles, and looking for them takes its time.
    gc.set_threshold(200_000, 20, 20)
    try:
        simulation = Simulation(chosen, settle_seconds=_SETTLE_SECONDS)
        always = None if parameters is None else parameters.held_always()
        async with running_simulation(simulation, parameters=always):
            yield MemoryReplay(simulation, source, placing, outcome, parameters=parameters)
    except WorkerCrashed as error:
        raise ReplayFailed(f"the service crashed: {error.__cause__ or error!r}") from error
    except NotSettled as error:
        raise ReplayFailed(f"the service does not go on: {error}") from error
    finally:
        gc.set_threshold(*threshold)
