"""Folds input batches: those of several partitions that wait together, in one call of the engine.

To score few customers takes the engine about as long as to score a hundred.
"""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from contextlib import suppress

from models.engine import Intake, process, process_together
from models.outputs import Outputs
from streams.pipeline import IN_WORK, Pipeline
from streams.transport import EventT
from streams.transport.batches import RecordBatch

TOGETHER = 500
"""Records of batches that are folded together at most; a batch of more is folded alone."""

PAUSE_SECONDS = 0.01
"""How long batches may gather after few records were folded: as long as that took. If it took
longer than this, they have gathered meanwhile, and the pause is the shorter for it."""


class Folding:
    """Folds batches into the customers' records, for the agents of one app.

    pause_seconds: how long batches may gather after few records were folded.
    """

    def __init__(self, pipeline: Pipeline, *, pause_seconds: float = PAUSE_SECONDS) -> None:
        self._pipeline = pipeline
        self._pause_seconds = pause_seconds
        self._waiting: deque[EventT] = deque()
        self._room = asyncio.Semaphore(IN_WORK)
        """For batches that wait."""
        self._folding: asyncio.Task[None] | None = None

    async def fold(self, event: EventT) -> None:
        """Have a batch of input records folded, with those of other partitions that wait.

        It returns when there is room for another one. An error stops the app.
        """
        await self._room.acquire()
        if self._pipeline.failure is not None:
            raise self._pipeline.failure
        self._waiting.append(event)
        if self._folding is None:
            self._folding = asyncio.create_task(self._fold_waiting())

    async def _fold_waiting(self) -> None:
        """Fold the batches that wait, until there are none."""
        try:
            # What was fetched together is to wait together.
            await asyncio.sleep(0)
            while self._waiting:
                began = time.monotonic()
                await self._pipeline.slot()
                events = await self._next_together()
                await self._fold_together(events)
                for _ in events:
                    self._room.release()
                if sum(len(event.value) for event in events) < TOGETHER:
                    took = time.monotonic() - began
                    await asyncio.sleep(max(0.0, min(took, 2 * self._pause_seconds - took)))
        except Exception as error:  # noqa: BLE001 - whatever it is, nothing later may be folded
            await self._pipeline.stop_for(error)
        else:
            self._folding = None

    async def _next_together(self) -> list[EventT]:
        """Take the batches to fold next: one of each partition, and not too many records.

        The caller has a slot for the first; this takes one for each of the others.
        """
        events = [self._waiting.popleft()]
        records, partitions = len(events[0].value), {events[0].value.tp.partition}
        later: list[EventT] = []
        while self._waiting:
            event = self._waiting.popleft()
            batch: RecordBatch = event.value
            fits = records + len(batch) <= TOGETHER and not self._pipeline.slots.locked()
            if fits and batch.tp.partition not in partitions:
                await self._pipeline.slots.acquire()
                events.append(event)
                records += len(batch)
            else:
                later.append(event)
            # Batches of a partition stay in order.
            partitions.add(batch.tp.partition)
        self._waiting.extend(later)
        return events

    async def _fold_together(self, events: Sequence[EventT]) -> None:
        """Run the engine once on batches of several partitions; the caller has a slot for each."""
        batches: list[RecordBatch] = [event.value for event in events]
        for batch in batches:
            self._pipeline.poison.forgive(batch)
        began, together = time.monotonic(), None
        if len(batches) > 1:
            # If one makes the engine raise, they are folded one by one, to learn which it is.
            with suppress(Exception):
                together = process_together(
                    [self._intake(batch) for batch in batches],
                    now=self._pipeline.now(),
                    recent=self._pipeline.recent,
                )
        if together is None:
            for event, batch in zip(events, batches, strict=True):
                await self._pipeline.process(event, batch, self._fold, self._count_folded)
            return
        seconds = (time.monotonic() - began) / len(batches)
        count, left = self._count_folded, []
        for event, batch, outputs in zip(events, batches, together, strict=True):
            rest = self._pipeline.taken(event, batch, outputs, count, began=began, seconds=seconds)
            if rest:
                left.append((event, rest))
        for event, rest in left:
            await self._pipeline.last_delivered(rest)
            await self._pipeline.process(event, rest, self._fold, count)

    def _fold(self, batch: RecordBatch) -> Outputs:
        return process(
            **self._intake(batch)._asdict(), now=self._pipeline.now(), recent=self._pipeline.recent
        )

    def _intake(self, batch: RecordBatch) -> Intake:
        return Intake(
            self._pipeline.states(batch.tp.partition),
            batch.origin,
            batch.records,
            self._pipeline.context(batch.tp.partition),
            role=self._pipeline.topics.role(batch.tp.topic),
            at_home=lambda key: self._pipeline.is_home(key, batch.tp.partition),
            delivery_of=self._pipeline.delivery_state,
        )

    def _count_folded(self, batch: RecordBatch, outputs: Outputs) -> None:
        self._pipeline.counts.add(outputs, len(batch))
        self._pipeline.meters.count(self._pipeline.topics.role(batch.tp.topic), outputs)
