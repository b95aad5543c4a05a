"""The demo's run: publish everything, let the worker work, look at what came out."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import Any

import msgspec

from models.contracts.clock import Tick
from models.contracts.parameters import Parameters
from streams.addresses import shown_url
from streams.cli.console import CommandError, progress_bars, say
from streams.cli.demo_report import Report
from streams.cli.progress import caught_up
from streams.cli.show import all_totals, reading, top_customers
from streams.cli.sources import Source
from streams.cli.worker import describe, worker_here
from streams.counts import Counts
from streams.kafka.connection import Broker
from streams.kafka.partitions import Bounds, TopicPartition
from streams.kafka.reading import log_client, read_logs
from streams.parameters import publish_parameters
from streams.pipeline import Pipeline
from streams.publisher import Publisher
from streams.settings import Settings
from streams.topics import prepare_topics
from streams.transport import BatchApp

TOP = 10
CHANGES = 10
POLL_SECONDS = 0.02
STALLED_SECONDS = 120.0
"""Without any progress for so long, something is wrong, and waiting on would not help."""


@asynccontextmanager
async def run_through(
    settings: Settings, source: Source, parameters: Parameters
) -> AsyncIterator[tuple[Report, asyncio.Task[BaseException]]]:
    """Run the service over all events of a source; it stays up until the context ends.

    Yields the report, and a task that ends with the reason when the worker crashes later.
    """
    redis = settings.redis
    if settings.broker is None or redis is None or source.as_of is None:
        raise CommandError("the demo needs a broker, a Redis and a data set")
    broker = Broker.of(settings)
    say(f"Starting the worker (broker {broker}, Redis {shown_url(redis)})")
    partitions = await prepare_topics(settings, broker)
    await publish_parameters(broker, settings.topics.models, parameters)
    async with (
        worker_here(settings, broker, redis, "the worker") as (app, pipeline),
        Publisher(broker, settings.topics, partitions) as publisher,
    ):
        watch = _Watch(app, pipeline)
        published, seconds = await _publish_all(publisher, source, watch)
        say(f"Valuing everybody as of {source.as_of.date().isoformat()}")
        await publisher.tick(Tick(as_of=source.as_of, parameters=parameters.version))
        counts = pipeline.counts
        await watch.until(lambda: counts.ticks >= partitions, lambda: counts.updates)
        if not await caught_up(
            settings, [settings.topics.clock], partitions, patience=STALLED_SECONDS
        ):
            watch.check()
            raise CommandError("the worker did not commit the last tick")
        await watch.until(lambda: pipeline.cache.pending == 0, lambda: pipeline.cache.pending)
        async with reading(settings) as cache:
            report = Report(
                source,
                events=published,
                counts=counts,
                cached_customers=await cache.size(),
                seconds=seconds,
                parameters=parameters,
                totals=await all_totals(cache),
                top=await top_customers(cache, TOP),
                changes=await _latest_changes(settings),
                broker=str(broker),
                redis=shown_url(redis),
            )
        crashed = asyncio.create_task(watch.crash())
        try:
            yield report, crashed
        finally:
            crashed.cancel()


class _Watch:
    """Waits for what the worker does, and not for ever."""

    def __init__(self, app: BatchApp, pipeline: Pipeline) -> None:
        self._app = app
        self.counts = pipeline.counts

    def check(self) -> None:
        """Raise CommandError when the worker has crashed."""
        if self._app.crashed:
            raise CommandError(f"the worker crashed: {describe(self._app.crash_reason)}")

    async def until(self, done: Callable[[], bool], moved: Callable[[], object]) -> None:
        """Wait until it is done; CommandError when nothing has moved for too long."""
        seen, since = moved(), time.monotonic()
        while not done():
            self.check()
            await asyncio.sleep(POLL_SECONDS)
            if (now := moved()) != seen:
                seen, since = now, time.monotonic()
            elif time.monotonic() - since > STALLED_SECONDS:
                raise CommandError(f"the worker has done nothing for {STALLED_SECONDS:g} s")

    async def crash(self) -> BaseException:
        """Wait for the worker to crash, and return the reason."""
        await self._app.wait_until_stopped()
        reason: BaseException = self._app.crash_reason
        return reason


def handled(counts: Counts) -> int:
    """Events that have found their answer; a re-keyed one comes again."""
    return counts.accepted + counts.duplicates + counts.dead_letters.total()


async def _publish_all(publisher: Publisher, source: Source, watch: _Watch) -> tuple[int, float]:
    """Publish all events while the worker works; their number, and the worker's seconds."""
    events = list(source.events())
    total = len(events)
    say(f"Publishing {total:,} events, and folding them as they come")
    with progress_bars() as bars:
        sent = bars.add_task("Published", total=total, note="events")
        done = bars.add_task("Processed", total=total, note="events")
        moved = partial(bars.update, done)
        timing = asyncio.create_task(_processed(total, watch, moved))
        try:
            published = await publisher.publish(events, lambda more: bars.advance(sent, more))
            seconds = await timing
        finally:
            timing.cancel()
    return published, seconds


async def _processed(total: int, watch: _Watch, moved: Callable[..., None]) -> float:
    """Wait for the last event; the seconds since the first one was taken up."""
    counts = watch.counts
    began = time.monotonic()

    def done() -> bool:
        nonlocal began
        if counts.records == 0:
            began = time.monotonic()
        moved(completed=handled(counts))
        return handled(counts) >= total

    await watch.until(done, lambda: counts.records)
    return time.monotonic() - began


async def _latest_changes(settings: Settings) -> list[dict[str, Any]]:
    """The latest segment changes of customers who had a segment before, newest first."""
    broker, topic = Broker.of(settings), settings.topics.segment_changes
    async with log_client(broker) as client:
        numbers = range(await client.partitions(topic))
        bounds = await client.bounds([TopicPartition(topic, number) for number in numbers])
    tail = {tp: Bounds(max(begin, end - 20 * CHANGES), end) for tp, (begin, end) in bounds.items()}
    changes: list[dict[str, Any]] = []
    async for _, records in read_logs(broker, tail):
        changes += (msgspec.json.decode(record.value or b"")["data"] for record in records)
    moved = [change for change in changes if change["previous"] is not None]
    moved.sort(key=lambda change: (change["as_of"], change["clv_after"]), reverse=True)
    return moved[:CHANGES]
