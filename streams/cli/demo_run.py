"""The demo's run: publish everything, let worker and fitter work, look at what came out."""

from __future__ import annotations

import asyncio
import time
from bisect import bisect_left
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import msgspec

from models.contracts.clock import Tick
from models.contracts.parameters import Parameters
from streams.addresses import shown_url
from streams.cli.console import CommandError, progress_bars, say
from streams.cli.demo_report import Report
from streams.cli.demo_silence import silence
from streams.cli.progress import caught_up
from streams.cli.show import all_totals, reading, top_customers
from streams.cli.sources import Source
from streams.cli.worker import describe, worker_here
from streams.counts import Counts
from streams.files.outgoing import OutgoingEvent
from streams.fitter.due import in_force
from streams.fitter.fitter import Fitter, Kind, fitting
from streams.kafka.connection import Broker
from streams.kafka.partitions import Bounds, TopicPartition
from streams.kafka.reading import log_client, read_logs
from streams.pipeline import Pipeline
from streams.publisher import Publisher
from streams.settings import Settings
from streams.topics import prepare_topics
from streams.transport import BatchApp

TOP = 10
CHANGES = 10
REFIT = timedelta(days=7)
POLL_SECONDS = 0.02
STALLED_SECONDS = 120.0
"""Without any progress for so long, something is wrong, and waiting on would not help."""


@asynccontextmanager
async def run_through(
    settings: Settings, source: Source, ready: Callable[[], Awaitable[None]]
) -> AsyncIterator[tuple[Report, asyncio.Task[BaseException]]]:
    """Run the service over all events of a source; it stays up until the context ends.

    ready: waits for what else has to be there before the first event.

    Yields the report, and a task that ends with the reason when worker or fitter crashes later. The
    fitter's clock stands where the data set ends: for it, a long silence has not begun.
    """
    redis = settings.redis
    now = source.as_of
    if settings.broker is None or redis is None or now is None:
        raise CommandError("the demo needs a broker, a Redis and a data set")
    broker = Broker.of(settings)
    # Meanwhile servers and processes start.
    ordered = asyncio.create_task(asyncio.to_thread(_in_order, source), name="events")
    say(f"Starting the worker (broker {broker}, Redis {shown_url(redis)})")
    partitions = await prepare_topics(settings, broker)
    async with (
        worker_here(settings, broker, redis, "the worker") as (app, pipeline),
        Publisher(broker, settings.topics, partitions) as publisher,
        AsyncExitStack() as stack,
    ):
        watch, counts = _Watch(app, pipeline), pipeline.counts
        await ready()
        events = await ordered
        middle = now - timedelta(days=(now - events[0].time).days // 2)
        half = bisect_left(events, middle, key=lambda event: event.time)
        seconds = 0.0
        for number, (part, moment) in enumerate([(events[:half], middle), (events[half:], now)]):
            seconds += await _publish_all(publisher, part, watch)
            await stack.aclose()
            fitter = await stack.enter_async_context(
                fitting(settings, broker, partitions, kind=Kind(), now=_standing(moment))
            )
            parameters = await _refit(fitter, publisher)
            ticks = (number + 1) * partitions
            await watch.until(partial(_reached, counts, ticks), lambda: counts.updates)
        if not await caught_up(
            settings, [settings.topics.clock], partitions, patience=STALLED_SECONDS
        ):
            watch.check()
            raise CommandError("the worker did not commit the last tick")
        await watch.until(lambda: pipeline.cache.pending == 0, lambda: pipeline.cache.pending)
        async with reading(settings) as cache:
            report = Report(
                source,
                events=len(events),
                counts=counts,
                cached_customers=await cache.size(),
                seconds=seconds,
                parameters=parameters,
                totals=await all_totals(cache),
                top=await top_customers(cache, TOP),
                changes=await _latest_changes(settings),
                silence=silence(pipeline, partitions),
                broker=str(broker),
                redis=shown_url(redis),
            )
        crashed = asyncio.create_task(_first_crash(watch, fitter))
        try:
            yield report, crashed
        finally:
            crashed.cancel()


def _in_order(source: Source) -> list[OutgoingEvent]:
    return sorted(source.events(), key=lambda event: event.time)


def _standing(moment: datetime) -> Callable[[], datetime]:
    """A clock that stands still."""
    return lambda: moment


def _reached(counts: Counts, ticks: int) -> bool:
    return counts.ticks >= ticks


async def _refit(fitter: Fitter, publisher: Publisher) -> Parameters:
    """Refit on the customers that there are, and have everybody valued; the parameters in force."""
    say("The fitter reads all customers from the service's changelog, and fits the models")
    await fitter.catch_up()
    state, now = await fitter.refit(), fitter.now()
    parameters = in_force(fitter.registry, now)
    if parameters is None:
        raise CommandError(f"the fitter published nothing: {'; '.join(state.reasons)}")
    if state.outcome != "published":
        say(
            f"It keeps the parameters in force: {'; '.join(state.reasons) or 'nothing has changed'}"
        )
        await publisher.tick(Tick(as_of=now, parameters=parameters.version))
    say(
        f"{parameters.version}, fitted on {parameters.customers:,} customers, values everybody "
        f"as of {now.date().isoformat()}"
    )
    return parameters


async def _first_crash(watch: _Watch, fitter: Fitter) -> BaseException:
    """Let the fitter go on beside the worker; return why the first of them stopped."""
    refits = asyncio.create_task(fitter.run(REFIT))
    worker = asyncio.create_task(watch.crash())
    try:
        await asyncio.wait({refits, worker}, return_when=asyncio.FIRST_COMPLETED)
        return worker.result() if worker.done() else refits.exception() or RuntimeError("ended")
    finally:
        refits.cancel()
        worker.cancel()


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


async def _publish_all(
    publisher: Publisher, events: Sequence[OutgoingEvent], watch: _Watch
) -> float:
    """Publish these events while the worker works; return the worker's seconds."""
    total, before = len(events), handled(watch.counts)
    until = events[-1].time.date().isoformat() if events else "now"
    say(f"Publishing {total:,} events until {until}, and folding them as they come")
    with progress_bars() as bars:
        sent = bars.add_task("Published", total=total, note="events")
        done = bars.add_task("Processed", total=total, note="events")

        def moved(so_far: int) -> None:
            bars.update(done, completed=so_far - before)

        timing = asyncio.create_task(_processed(before + total, watch, moved))
        try:
            await publisher.publish(events, lambda more: bars.advance(sent, more))
            return await timing
        finally:
            timing.cancel()


async def _processed(total: int, watch: _Watch, moved: Callable[[int], None]) -> float:
    """Wait for the last event; the seconds since the first one was taken up."""
    counts = watch.counts
    began, idle = time.monotonic(), counts.records

    def done() -> bool:
        nonlocal began
        if counts.records == idle:
            began = time.monotonic()
        moved(handled(counts))
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
