"""Ticks: time passes for all customers of a partition, or for those who are due."""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

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
from streams.pipeline import Pipeline
from streams.poison import Suspected
from streams.registry.records import rules_key
from streams.transport import EventT
from streams.transport.batches import RecordBatch

log = structlog.get_logger(__name__)

STEP_SECONDS = 0.03
"""How long the engine may take for a step: live events wait for it. Then they have as long, and so
have deliveries."""

FIRST, MOST = 100, 1_000
"""Customers of the first step, and of any step at most. How many a step has follows from how long
the one before took."""

IN_FLIGHT = 2
"""Steps that may await their deliveries at once."""

PARAMETERS_SECONDS = 20.0
"""How long a tick waits for the parameters it names; a rebalance waits for the tick."""


class _Pace:
    """How many customers a step has, so that the engine takes `step_seconds` for it."""

    def __init__(self, step_seconds: float) -> None:
        self._step_seconds = step_seconds
        self._customers = FIRST

    @property
    def customers(self) -> int:
        """For the next step."""
        return min(self._customers, MOST)

    def note(self, customers: int, seconds: float) -> None:
        """Go by how long the engine took for so many; no more than twice or half as many next."""
        if customers < self.customers:
            # The last ones of a sweep.
            return
        fit = customers * self._step_seconds / max(seconds, 1e-6)
        self._customers = max(1, customers // 2, int(min(fit, 2 * customers, MOST)))


class Ticks:
    """Processes ticks in small steps, between which live batches pass.

    step_seconds: how long the engine may take for a step. With None, steps do not depend on how
    fast the machine is, and there are no pauses between them.
    """

    def __init__(self, pipeline: Pipeline, *, step_seconds: float | None = STEP_SECONDS) -> None:
        self._pipeline = pipeline
        self._longest_pause = step_seconds or 0.0
        self._sweeping = asyncio.Semaphore(IN_FLIGHT)
        wanted = math.inf if step_seconds is None else step_seconds
        self._of_all, self._of_due = _Pace(wanted), _Pace(wanted)

    async def pass_time(self, event: EventT) -> None:
        """Process ticks: score all customers of a partition for each record of a batch."""
        batch: RecordBatch = event.value
        in_flight: set[asyncio.Task[None]] = set()
        await self._sweeping.acquire()
        mine = True
        try:
            await self._pipeline.slot()
            self._pipeline.poison.forgive(batch)
            for record in batch.records:
                try:
                    steps = await self._tick(batch, record)
                    began = time.monotonic()
                    for outputs in steps:
                        took = time.monotonic() - began
                        self._pipeline.counts.add(outputs, 0)
                        task = self._pipeline.hand_over(batch, outputs)
                        in_flight.add(task)
                        task.add_done_callback(in_flight.discard)
                        task.add_done_callback(lambda _task: self._sweeping.release())
                        mine = False
                        await asyncio.sleep(min(took, self._longest_pause))
                        await self._sweeping.acquire()
                        mine = True
                        await self._pipeline.slot()
                        began = time.monotonic()
                except Suspected as found:
                    await self._pipeline.poison.strike(
                        batch, record, found.key.decode(), found.error
                    )
        finally:
            if mine:
                self._sweeping.release()
        if in_flight:
            await asyncio.wait(in_flight)
        self._pipeline.hand_over(batch, Outputs(), event, end=batch.last_offset + 1)

    async def _tick(self, batch: RecordBatch, record: Record) -> Iterable[Outputs]:
        try:
            check_unpacked(record.value, batch.origin)
            tick = Tick.model_validate_json(record.value or b"")
        except Refused as error:
            return [Outputs(dead_letters=[RefusedRecord(record, error)])]
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            where = ".".join(map(str, first["loc"]))
            refused = Refused(Reason.INVALID_FIELD, where, f"{where}: {first['msg']}")
            return [Outputs(dead_letters=[RefusedRecord(record, refused)])]
        as_of = milliseconds(tick.as_of)
        if as_of > self._pipeline.now() + FUTURE_TOLERANCE:
            refused = Refused(
                Reason.FUTURE,
                "as_of",
                f"as_of is {tick.as_of.isoformat()}, more than a day ahead; time does not go back, "
                "so nobody is valued as of then",
            )
            return [Outputs(dead_letters=[RefusedRecord(record, refused)])]
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
    ) -> Iterator[Outputs]:
        keys = list(self._pipeline.states(batch.tp.partition))
        yield from self._advance(batch, record, as_of, keys, self._of_all, cause=cause)
        self._pipeline.counts.ticks += 1

    def _sweep_due(self, batch: RecordBatch, record: Record, as_of: int) -> Iterator[Outputs]:
        partition = batch.tp.partition
        keys = self._pipeline.dues.take(partition, as_of)
        yield from self._advance(batch, record, as_of, keys, self._of_due, due_only=True)
        self._pipeline.swept[partition] = as_of

    def _advance(
        self,
        batch: RecordBatch,
        record: Record,
        as_of: int,
        keys: Iterable[bytes],
        pace: _Pace,
        *,
        cause: Cause = "time",
        due_only: bool = False,
    ) -> Iterator[Outputs]:
        """Score these customers in steps; live batches pass in between."""
        states, left = self._pipeline.states(batch.tp.partition), iter(keys)

        def score(chunk: Sequence[bytes]) -> Outputs:
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
            pace.note(len(chunk), time.monotonic() - began)
            return outputs

        while chunk := list(islice(left, pace.customers)):
            yield from self._pipeline.poison.scored(batch, record, chunk, score)
