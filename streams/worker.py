"""Running the app: services around it, signals, and an exit status that tells."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic
from typing import TypeVar

import faust
import structlog

from streams.app import build_app
from streams.basis.findings import LOST, BasisLost
from streams.basis.logs import kafka_logs
from streams.basis.start import check_start
from streams.cache import CacheWriter, KafkaUpdates, ScoreCache, check_server, connect
from streams.claims import claim_outputs
from streams.connection import Broker
from streams.health import (
    STALLED,
    STOP_HUNG,
    LoopWatch,
    Observation,
    Observer,
    assess,
    end_process,
    health_server,
    stacks,
)
from streams.parameters import ParameterFeed
from streams.pipeline import Pipeline
from streams.settings import Settings
from streams.topics import prepare_topics
from streams.transport.lease import FENCED, LeaseLost

log = structlog.get_logger(__name__)

Cause = TypeVar("Cause", bound=BaseException)

GARBAGE_THRESHOLD = 200_000
"""New objects between collections: a batch makes as many, none of them in cycles. With Python's
default of 700, a quarter of the time of a batch went into looking for garbage."""

START_SECONDS = 60.0
"""How long a worker that is told to stop may take to: it finishes what is in work, or its start."""

CRASH_SECONDS = 10.0
"""How long a worker that has crashed may take to: nothing that is in work may be committed."""

REPORT_SECONDS = 30.0
"""Between two lines about lag and rates."""


class WorkerBroken(Exception):
    """A part of the worker ended without an error of its own; the text is what it ended by."""


@asynccontextmanager
async def running_app(
    settings: Settings, broker: Broker, redis_url: str, observer: Observer | None = None
) -> AsyncIterator[tuple[faust.App, Pipeline]]:
    """A started app with everything it needs, stopped at the end; an observer watches it.

    Raises BasisLost when the broker has lost or changed what the state rests on.
    """
    await broker.check()
    async with AsyncExitStack() as stack:
        logs = await stack.enter_async_context(kafka_logs(broker, settings.app_id))
        has_basis = await check_start(settings, logs)
        partitions = await prepare_topics(settings, broker)
        await claim_outputs(settings, broker)
        redis = connect(redis_url, settings.redis_security)
        stack.push_async_callback(redis.aclose)
        cached = ScoreCache(redis, settings.redis_prefix, settings.app_id, settings.erasure_secret)
        await check_server(cached, redis_url)
        feed = await stack.enter_async_context(
            ParameterFeed(
                settings.topics.models, settings.economics.currency, **broker.client_options()
            )
        )
        cache = await stack.enter_async_context(
            CacheWriter(
                cached,
                KafkaUpdates(
                    settings.topics.updates, partitions=partitions, **broker.client_options()
                ),
            )
        )
        app, pipeline = build_app(
            settings, broker, partitions, feed, cache, logs=logs, has_basis=has_basis
        )
        app.finalize()
        if observer is not None:
            observer.attach(app, pipeline)
        async with _watching(pipeline):
            try:
                await app.start()
                yield app, pipeline
            finally:
                await app.stop()


@asynccontextmanager
async def _watching(pipeline: Pipeline) -> AsyncIterator[None]:
    """Look at the topics meanwhile; what is found makes the app crash."""
    if pipeline.keeper is None:
        yield
        return
    watching = asyncio.create_task(pipeline.keeper.watch(), name="basis")
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait([watching])


async def run_worker(settings: Settings, broker: Broker, redis_url: str) -> None:
    """Work until a signal says stop; a second signal ends the process at once.

    A worker that stands still, or cannot stop within START_SECONDS, says what it waits for and ends
    the process with the status STALLED or STOP_HUNG.

    Raises
    ------
    Exception
        whatever made the app crash, after it has stopped.
    """
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 20)
    leaving = asyncio.Event()
    _leave_on_signals(leaving)
    observer = Observer(settings.stall_timeout)
    async with LoopWatch(settings.stall_timeout):
        working = asyncio.create_task(
            _work(settings, broker, redis_url, leaving, observer), name="worker"
        )
        told = asyncio.create_task(leaving.wait(), name="leaving")
        await asyncio.wait({working, told}, return_when=asyncio.FIRST_COMPLETED)
        told.cancel()
        if observer.phase == "starting":
            # Nothing has begun that would have to be finished.
            working.cancel()
        observer.phase = "stopping"
        if observer.crashed and not (await asyncio.wait({working}, timeout=CRASH_SECONDS))[0]:
            log.critical(
                "the worker crashed, and its parts do not stop; it is ended",
                error=repr(observer.crash_reason),
                waiting=stacks(),
            )
            end_process(_status(observer.crash_reason))
        if not (await asyncio.wait({working}, timeout=START_SECONDS))[0]:
            log.critical(
                "the worker was to stop and did not; it is ended",
                seconds=START_SECONDS,
                waiting=stacks(),
            )
            end_process(STOP_HUNG)
    if not working.cancelled():
        error = working.exception()
        if (lost := _cause(error, BasisLost)) is not None:
            log.critical("Kafka has lost or changed what the state rests on", found=str(lost))
            end_process(LOST)
        if error is not None and _cause(error, LeaseLost) is not None:
            log.critical(
                "the consumer group had given this worker up; it ends, to be started again",
                error=str(error),
                session_timeout=settings.session_timeout,
                remedy="if it was not frozen, and no broker was away: give it and the brokers more "
                "of the processor, or raise CLV_SESSION_TIMEOUT",
            )
            end_process(FENCED)
        working.result()
    log.info("worker stopped")


def _status(error: BaseException | None) -> int:
    """The exit status after a crash."""
    if _cause(error, BasisLost) is not None:
        return LOST
    return 1 if _cause(error, LeaseLost) is None else FENCED


def _cause(error: BaseException | None, kind: type[Cause]) -> Cause | None:
    """The error of this kind that an error is, or came from."""
    seen: list[BaseException] = []
    # Faust raises errors from themselves.
    while error is not None and error not in seen:
        if isinstance(error, kind):
            return error
        seen.append(error)
        error = error.__cause__
    return None


def _leave_on_signals(leaving: asyncio.Event) -> None:
    def on_signal(number: signal.Signals) -> None:
        if leaving.is_set():
            log.warning("a signal came while the worker was stopping; it ends at once")
            end_process(128 + number)
        log.info("stopping", signal=number.name)
        leaving.set()

    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, on_signal, number)


async def _work(
    settings: Settings, broker: Broker, redis_url: str, leaving: asyncio.Event, observer: Observer
) -> None:
    async with AsyncExitStack() as stack:
        if settings.health_port is not None:
            server = health_server(observer.observe, settings.health_host, settings.health_port)
            await stack.enter_async_context(server)
        await stack.enter_async_context(observer.asking(broker, settings.topics.models))
        app, _ = await stack.enter_async_context(running_app(settings, broker, redis_url, observer))
        log.info("worker started", broker=str(broker), group=settings.app_id)
        watching = asyncio.create_task(_watch(observer), name="watchdog")
        ends = [watching, *map(asyncio.create_task, (app.wait_until_stopped(), leaving.wait()))]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        leaving.set()
        for task in ends:
            task.cancel()
        if watching.done():
            watching.result()
    if app.crashed:
        reason = app.crash_reason
        # A cancellation would pass for an end that somebody asked for.
        if not isinstance(reason, Exception):
            raise WorkerBroken(repr(reason)) from reason
        raise reason


async def _watch(observer: Observer) -> None:
    """Tell lag, rates and changes of health; end the process when it stands still."""
    status, told, before = "starting", monotonic(), 0
    while True:
        seen = observer.observe()
        health = assess(seen)
        if health.status == "stalled":
            log.critical(
                "the worker stands still while records wait; it ends, to be started again",
                seconds=round(seen.standing_still),
                what=seen.waiting,
                waiting=stacks(),
            )
            end_process(STALLED)
        if health.status != status:
            tell = log.warning if health.status == "degraded" else log.info
            tell("health", status=health.status, reasons=list(health.reasons))
            status = health.status
        if (now := monotonic()) - told >= REPORT_SECONDS:
            records = seen.counts.get("records", 0)
            _report(seen, health.status, (records - before) / (now - told))
            told, before = now, records
        await asyncio.sleep(min(1.0, seen.stall_timeout / 4))


def _report(seen: Observation, status: str, rate: float) -> None:
    log.info(
        "at work",
        status=status,
        lag=seen.lag,
        records_per_second=round(rate, 1),
        partitions=len(seen.lags),
        batches_in_work=seen.in_work,
        cache_pending=seen.cache.pending,
    )
