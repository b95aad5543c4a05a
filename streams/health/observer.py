"""Gather observations of the running worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Hashable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from time import monotonic
from typing import Any

from streams.cache.writer import CacheWriter
from streams.health.assess import CacheState, Observation, Phase, StallClock
from streams.health.metrics import Measured, worker_samples
from streams.kafka.connection import Broker
from streams.kafka.errors import KafkaError
from streams.kafka.partitions import TopicPartition
from streams.kafka.reading import log_client
from streams.metrics.meters import Samples
from streams.parameters import Feed
from streams.pipeline import Pipeline
from streams.transport.changelog import RecoveryProgress
from streams.transport.lag import partitions_of
from streams.transport.table import PartitionedTable
from streams.versions import program_version

PROBE_SECONDS = 5.0
"""How long the broker may take to answer a question."""

SILENT_SECONDS = 15.0
"""Without an answer for so long, the broker counts as silent; a short stall timeout halves it."""


class Observer:
    """Watches one worker from its start to its end.

    Call `attach` before the app starts, and `observe` at least every few seconds, so that the times
    of standing still are right.
    """

    def __init__(self, stall_timeout: float) -> None:
        self.phase: Phase = "starting"
        self._stall_timeout = stall_timeout
        # Half of it: work has been waiting for a while already when the broker falls silent.
        self._silent_seconds = min(SILENT_SECONDS, stall_timeout / 2)
        self._began = monotonic()
        self._app: Any = None
        self._pipeline: Pipeline | None = None
        self._stall = StallClock(self._began)
        self._answered = self._began
        self._cache_away: float | None = None
        self._fetched: tuple[int, float] | None = None
        self._recovered: tuple[int, int] | None = None
        self._probe: asyncio.Task[None] | None = None
        self._version = program_version()

    def attach(self, app: Any, pipeline: Pipeline) -> None:
        """Watch this app; it may not have been started yet."""
        self._app, self._pipeline = app, pipeline
        self.phase = "running"

    @property
    def crashed(self) -> bool:
        """Whether the app has crashed."""
        return self._app is not None and bool(self._app.crashed)

    @property
    def crash_reason(self) -> BaseException | None:
        """The error that made the app crash."""
        return None if self._app is None else self._app.crash_reason

    def observe(self) -> Observation:
        """Return the present observation; raises the error that ended the probes of the broker."""
        if self._probe is not None and self._probe.done():
            # Without probes the broker would seem silent, and a stall would go unnoticed.
            self._probe.result()
        now = monotonic()
        seen = self._gather(now)
        standing = self._stall.note(
            now, waiting=seen.waiting is not None, marker=self._marker(seen)
        )
        return replace(seen, standing_still=standing)

    def samples(self) -> Samples:
        """Return the present values of all metrics; errors: as of `observe`."""
        return worker_samples(self.observe(), self._measured())

    def _measured(self) -> Measured:
        if self._app is None or self._pipeline is None:
            return Measured()
        lags = partitions_of(self._app).lags
        table = self._pipeline.table
        return Measured(
            self._pipeline.counts,
            self._pipeline.meters,
            lags,
            sum(len(table.partition(number)) for number in {tp.partition for tp in lags}),
            self._pipeline.outstanding,
        )

    @asynccontextmanager
    async def asking(self, broker: Broker, topic: str) -> AsyncIterator[None]:
        """Probe the broker: ask for the end of a partition of ours, or of this topic, repeatedly.

        It has its own connection, so that a stuck consumer does not look like a broker that is
        away. It asks so often that a silent broker is noticed before the worker seems to stall.
        """
        task = asyncio.create_task(self._ask(broker, TopicPartition(topic, 0)), name="probe")
        self._probe = task
        try:
            yield
        finally:
            self._probe = None
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    async def _ask(self, broker: Broker, fallback: TopicPartition) -> None:
        # A probe may fail once.
        pause = self._silent_seconds / 3
        while True:
            try:
                async with AsyncExitStack() as stack:
                    async with asyncio.timeout(PROBE_SECONDS):
                        client = await stack.enter_async_context(log_client(broker))
                    while True:
                        lags = {} if self._app is None else partitions_of(self._app).lags
                        async with asyncio.timeout(PROBE_SECONDS):
                            await client.listed(list(lags) or [fallback])
                        self._answered = monotonic()
                        await asyncio.sleep(pause)
            except (KafkaError, TimeoutError, OSError):
                # `observe` reports the time since the last answer.
                await asyncio.sleep(pause / 5)

    def _gather(self, now: float) -> Observation:
        blank = Observation(
            self.phase, self._stall_timeout, version=self._version, uptime=now - self._began
        )
        if self._app is None or self._pipeline is None:
            return blank
        partitions = partitions_of(self._app)
        silent = now - self._answered
        return replace(
            blank,
            recovered=self._app.tables.actives_ready,
            rebalancing=self._app.rebalancing,
            recovery=self._recovery(),
            lags={str(tp): lag for tp, lag in partitions.lags.items()},
            in_work=self._pipeline.in_work,
            broker_silent=silent if silent >= self._silent_seconds else None,
            fetch_age=self._fetch_age(partitions.fetched, now),
            cache=self._cache(now, self._pipeline.cache),
            store_problem=self._store_problem(self._pipeline.table),
            parameters=self._parameters(self._pipeline.feed),
            counts=self._pipeline.counts.document(),
        )

    def _marker(self, seen: Observation) -> Hashable:
        """Return a value that changes whenever a batch or a changelog record was processed."""
        done = None if self._pipeline is None else self._pipeline.last_done
        return done, None if seen.recovery is None else seen.recovery.records

    def _recovery(self) -> RecoveryProgress | None:
        """Return the present recovery, or the last one's figures."""
        progress: RecoveryProgress = self._app.tables.recovery.progress
        if progress.done:
            self._recovered = progress.records, progress.expected
        if progress.done or (progress.records, progress.expected) in (self._recovered, (0, 0)):
            return None
        return progress

    def _store_problem(self, table: PartitionedTable) -> str | None:
        if table.durable is None or table.durable.healthy:
            return None
        return "; ".join(f"partition {n}: {what}" for n, what in table.durable.problems.items())

    def _fetch_age(self, fetched: int | None, now: float) -> float | None:
        """Return the seconds since the last answer, by our monotonic clock."""
        if fetched is None:
            return None
        if self._fetched is None or self._fetched[0] != fetched:
            self._fetched = fetched, now
        return now - self._fetched[1]

    def _cache(self, now: float, cache: CacheWriter) -> CacheState:
        if cache.healthy:
            self._cache_away = None
        elif self._cache_away is None:
            self._cache_away = now
        away = None if self._cache_away is None else now - self._cache_away
        return CacheState(away, cache.pending, cache.catching_up, cache.problem)

    @staticmethod
    def _parameters(feed: Feed) -> str | None:
        try:
            current = feed.timeline.latest
        except KafkaError:
            # The next batch raises the same error, and stops the worker.
            return None
        return None if current is None else current.version
