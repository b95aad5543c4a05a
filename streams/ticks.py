"""Ticks: time passes for all customers of a partition, or for those who are due."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import structlog
from pydantic import ValidationError

from models.acceptance import FUTURE_TOLERANCE
from models.aggregate.fold import milliseconds
from models.aggregate.record import Cause
from models.contracts import Reason, Refused
from models.contracts.clock import Tick
from models.engine import advance
from models.outputs import Outputs, Record, RefusedRecord
from models.oversized import check_unpacked
from streams.pacing import LIVE_SECONDS, STEP_SECONDS, Pace, Schedule, rest_of_all
from streams.pipeline import Pipeline
from streams.poison import Suspected
from streams.registry.records import rules_key
from streams.transport import EventT
from streams.transport.batches import RecordBatch

log = structlog.get_logger(__name__)

IN_FLIGHT = 2
"""Steps that may await their deliveries at once."""

PARAMETERS_SECONDS = 20.0
"""How long a tick waits for the parameters it names; a rebalance waits for the tick."""


class _Step(NamedTuple):
    """What the engine made of a step, and how long to rest after it, in seconds."""

    outputs: Outputs
    rest: float = 0.0


class Ticks:
    """Processes ticks in small steps, between which live batches pass.

    Live events have the rests between steps; while there are none, nobody rests. The sweeps of all
    partitions follow each other.

    step_seconds: how long the engine may take for a step. With None, steps do not depend on how
    fast the machine is, and there are no rests between them.
    """

    def __init__(self, pipeline: Pipeline, *, step_seconds: float | None = STEP_SECONDS) -> None:
        self._pipeline = pipeline
        self._rests = step_seconds is not None
        self._sweeping = asyncio.Semaphore(IN_FLIGHT)
        wanted = math.inf if step_seconds is None else step_seconds
        self._of_all, self._of_due = Pace(wanted), Pace(wanted)
        self._schedule = Schedule()

    async def pass_time(self, event: EventT) -> None:
        """Process ticks: score all customers of a partition for each record of a batch."""
        batch: RecordBatch = event.value
        in_flight: set[asyncio.Task[None]] = set()
        self._pipeline.poison.forgive(batch)
        for record in batch.records:
            try:
                steps = iter(await self._tick(batch, record))
                while (task := await self._take(batch, steps)) is not None:
                    in_flight.add(task)
                    task.add_done_callback(in_flight.discard)
            except Suspected as found:
                await self._pipeline.poison.strike(batch, record, found.key.decode(), found.error)
        if in_flight:
            await asyncio.wait(in_flight)
        await self._pipeline.slot()
        self._pipeline.hand_over(batch, Outputs(), event, end=batch.last_offset + 1)

    async def _take(self, batch: RecordBatch, steps: Iterator[_Step]) -> asyncio.Task[None] | None:
        """Take the next step, and rest; return its delivery, or None if there is no step left."""
        await self._sweeping.acquire()
        step = task = None
        try:
            await self._pipeline.slot()
            try:
                step = next(steps, None)
            finally:
                if step is None:
                    self._pipeline.slots.release()
            if step is not None:
                self._pipeline.counts.add(step.outputs, 0)
                task = self._pipeline.hand_over(batch, step.outputs)
                task.add_done_callback(lambda _task: self._sweeping.release())
        finally:
            if task is None:
                self._sweeping.release()
        if step is not None:
            await asyncio.sleep(step.rest if self._is_live() else 0.0)
        return task

    def _is_live(self) -> bool:
        """Return whether live events are to have time between steps."""
        return self._rests and time.monotonic() - self._pipeline.live_at < LIVE_SECONDS

    async def _tick(self, batch: RecordBatch, record: Record) -> Iterable[_Step]:
        try:
            check_unpacked(record.value, batch.origin)
            tick = Tick.model_validate_json(record.value or b"")
        except Refused as error:
            return [_Step(Outputs(dead_letters=[RefusedRecord(record, error)]))]
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            refused = Refused(Reason.INVALID_FIELD, where, f"{where}: {first['msg']}")
            return [_Step(Outputs(dead_letters=[RefusedRecord(record, refused)]))]
        as_of = milliseconds(tick.as_of)
        if as_of > self._pipeline.now() + FUTURE_TOLERANCE:
            refused = Refused(
                Reason.FUTURE,
                "as_of",
                f"as_of is {tick.as_of.isoformat()}, more than a day ahead; time does not go back, "
                "so nobody is valued as of then",
            )
            return [_Step(Outputs(dead_letters=[RefusedRecord(record, refused)]))]
        if tick.due:
            await self._pipeline.know_dues(batch.tp.partition)
            return self._sweep_due(batch, record, as_of)
        wanted = [] if tick.parameters is None else [tick.parameters]
        if tick.rules is not None:
            wanted.append(rules_key(tick.rules).decode())
        for each in wanted:
            if not await self._pipeline.feed.wait_for(each, PARAMETERS_SECONDS):
                log.warning(
                    "a tick asks for parameters or rules that have not arrived", wanted=each
                )
                # Waiting in vain counts as progress, or the watchdog would end the worker.
                self._pipeline.last_done = time.monotonic()
        cause: Cause = "time" if tick.parameters is None else "model"
        if tick.rules is not None:
            cause = "rules"
        return self._sweep(batch, record, as_of, cause)

    def _sweep(
        self, batch: RecordBatch, record: Record, as_of: int, cause: Cause
    ) -> Iterator[_Step]:
        keys = list(self._pipeline.states(batch.tp.partition))
        yield from self._advance(batch, record, as_of, keys, self._of_all, cause=cause)
        self._pipeline.counts.ticks += 1

    def _sweep_due(self, batch: RecordBatch, record: Record, as_of: int) -> Iterator[_Step]:
        partition = batch.tp.partition
        keys = self._pipeline.dues.take(partition, as_of)
        due = self._pipeline.dues.count(as_of)
        self._schedule.begin(max(due, len(keys)), time.monotonic())
        yield from self._advance(batch, record, as_of, keys, self._of_due, due_only=True)
        self._pipeline.swept[partition] = as_of

    def _advance(
        self,
        batch: RecordBatch,
        record: Record,
        as_of: int,
        keys: Iterable[bytes],
        pace: Pace,
        *,
        cause: Cause = "time",
        due_only: bool = False,
    ) -> Iterator[_Step]:
        """Score these customers in steps; live batches pass in between."""
        states, left = self._pipeline.states(batch.tp.partition), iter(keys)
        rest = 0.0

        def score(chunk: Sequence[bytes]) -> Outputs:
            nonlocal rest
            began = time.monotonic()
            outputs = advance(
                states,
                chunk,
                batch.origin,
                record.offset,
                self._pipeline.context(batch.tp.partition),
                as_of=as_of,
                cause=cause,
                due_only=due_only,
                delivery_of=self._pipeline.delivery_state,
            )
            ended = time.monotonic()
            took = ended - began
            pace.note(len(chunk), took)
            rest = self._schedule.rest(len(chunk), took, ended) if due_only else rest_of_all(took)
            return outputs

        while chunk := list(islice(left, pace.customers)):
            for outputs in self._pipeline.poison.scored(batch, record, chunk, score):
                yield _Step(outputs, rest)
