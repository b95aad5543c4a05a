"""Has those looked at who are due: by a tick on the clock's topic, to the worker's own partitions.

So a sweep is an input like any other: it has an offset, it is replayed after a crash, and recorded.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from time import monotonic
from typing import Any, Final

import structlog

from models.contracts.clock import Tick
from streams.pipeline import Pipeline
from streams.settings import Settings
from streams.transport.lag import partitions_of

log = structlog.get_logger(__name__)

MOST_WAITING: Final = 60.0
"""Seconds after which a tick that was not processed is sent again."""

HISTORY: Final = 10.0
"""Seconds without old events before anybody is looked at: while history is read, nobody is silent.
An event that follows would come too late."""

BEGIN_BEHIND: Final = 500
MOST_BEHIND: Final = 10_000
"""Records that a partition may be behind when its sweeps begin, and later."""


class Sweeper:
    """Sends a tick to each partition of a worker in which customers are due.

    now: returns milliseconds since 1970. seconds: between two looks at the queues. behind: returns
    how many records of a partition's inputs are not processed; None if that is not known.
    """

    def __init__(
        self,
        app: Any,
        pipeline: Pipeline,
        *,
        now: Callable[[], int],
        seconds: float,
        behind: Callable[[int], int | None] = lambda _partition: 0,
    ) -> None:
        self._behind = behind
        self._begun: set[int] = set()
        self._app = app
        self._pipeline = pipeline
        self._now = now
        self._seconds = seconds
        self._sent: dict[int, int] = {}
        """When a tick was sent that has not been processed, by partition."""

    async def run(self) -> None:
        """Sweep until cancelled."""
        while True:
            await asyncio.sleep(self._seconds)
            await self.sweep()

    async def sweep(self) -> None:
        """Send a tick to each partition in which customers are due, and wait for the broker."""
        sent = [
            delivery
            for partition in self._partitions()
            if await self._is_due(partition)
            for delivery in self._send(partition)
        ]
        await asyncio.gather(*sent)

    def _partitions(self) -> Iterable[int]:
        """Return the worker's partitions, if their states are recovered."""
        if self._app.rebalancing or not self._app.tables.recovery.progress.done:
            self._begun.clear()
            return []
        if monotonic() - self._pipeline.history_at < HISTORY:
            return []
        clock = self._pipeline.topics.clock
        mine = {tp.partition for tp in self._app.consumer.assignment() if tp.topic == clock}
        self._begun &= mine
        for each in mine:
            behind = self._behind(each)
            if behind is not None and behind <= BEGIN_BEHIND:
                self._begun.add(each)
            elif behind is None or behind > MOST_BEHIND:
                self._begun.discard(each)
        return sorted(self._begun)

    async def _is_due(self, partition: int) -> bool:
        await self._pipeline.know_dues(partition)
        now = self._now()
        if self._pipeline.dues.next(partition) > now:
            self._sent.pop(partition, None)
            return False
        swept = self._pipeline.swept.get(partition, 0)
        sent = self._sent.get(partition)
        return sent is None or swept >= sent or not 0 <= now - sent < MOST_WAITING * 1000

    def _send(self, partition: int) -> list[asyncio.Future[Any]]:
        now = self._now()
        self._sent[partition] = now
        as_of = datetime.fromtimestamp(now / 1000, UTC)
        value = Tick(as_of=as_of, due=True).model_dump_json(exclude_none=True).encode()
        topic = self._pipeline.topics.clock
        sent: list[asyncio.Future[Any]] = self._app.producer.send_records(
            topic, partition, [(None, value, [])]
        )
        return sent


@asynccontextmanager
async def sweeping(app: Any, pipeline: Pipeline, settings: Settings) -> AsyncIterator[None]:
    """Sweep meanwhile, if the settings say so; the app crashes if that fails."""
    if not settings.sweep_interval:
        yield
        return

    def behind(partition: int) -> int | None:
        lags = [lag for tp, lag in partitions_of(app).lags.items() if tp.partition == partition]
        known = [lag for lag in lags if lag is not None]
        return max(known, default=0) if len(known) == len(lags) else None

    sweeper = Sweeper(
        app, pipeline, now=pipeline.now, seconds=settings.sweep_interval, behind=behind
    )

    async def run() -> None:
        try:
            await sweeper.run()
        except Exception as error:  # noqa: BLE001 - whatever it is, nobody would be looked at
            await app.crash(error)

    task = asyncio.create_task(run(), name="sweeper")
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
