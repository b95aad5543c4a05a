"""Run the app: its services, signals, watchdogs, and the exit status."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from time import monotonic
from typing import TypeVar

import structlog

from models.errors import ClvError
from streams.app import build_app
from streams.basis.examine import check_start
from streams.basis.findings import LOST, BasisLost
from streams.basis.logs import kafka_logs
from streams.cache import KafkaUpdates, ScoreCache, check_server, connect
from streams.cache.writer import CacheWriter
from streams.claims import claim_outputs
from streams.health.assess import Observation, assess
from streams.health.observer import Observer
from streams.health.server import health_server
from streams.health.watchdog import STALLED, STOP_HUNG, LoopWatch, end_process, stacks
from streams.kafka.connection import Broker
from streams.parameters import ParameterFeed
from streams.pipeline import Pipeline
from streams.refusals import RefusalLog
from streams.rules import begin_rules
from streams.settings import Settings
from streams.sweeping import sweeping
from streams.topics import prepare_topics
from streams.tracing.traces import configured_traces
from streams.transport import BatchApp
from streams.transport.lease import FENCED, LeaseLost
from streams.versions import core

log = structlog.get_logger(__name__)

Cause = TypeVar("Cause", bound=BaseException)

GARBAGE_THRESHOLD = 200_000
"""New objects between two garbage collections: about as many as a batch makes, none of them in
cycles. With Python's default of 700, collecting took a quarter of the time of a batch."""

START_SECONDS = 60.0
"""How long a worker may take to stop: it finishes what is in work."""

CRASH_SECONDS = 10.0
"""How long a crashed worker may take to stop: it commits nothing more."""

REPORT_SECONDS = 30.0
"""Time between two log lines about lag and rates."""


class WorkerBroken(ClvError):
    """A part of the worker was cancelled; the text names the cause."""


@asynccontextmanager
async def running_app(
    settings: Settings, broker: Broker, redis_url: str, observer: Observer | None = None
) -> AsyncIterator[tuple[BatchApp, Pipeline]]:
    """Start the app with everything it needs, and stop it at the end; an observer watches it.

    Raises BasisLost if the broker has lost or changed what the state was built on.
    """
    await broker.check()
    async with AsyncExitStack() as stack:
        logs = await stack.enter_async_context(kafka_logs(broker, settings.app_id))
        has_basis = await check_start(settings, logs)
        partitions = await prepare_topics(settings, broker)
        await claim_outputs(settings, broker)
        await begin_rules(settings, broker)
        redis = connect(redis_url, settings.redis_security)
        stack.push_async_callback(redis.aclose)
        cached = ScoreCache(redis, settings.redis_prefix, settings.app_id, settings.erasure_secret)
        await check_server(cached, redis_url)
        feed = await stack.enter_async_context(
            ParameterFeed(broker, settings.topics.models, settings.economics.currency)
        )
        cache = await stack.enter_async_context(
            CacheWriter(
                cached,
                KafkaUpdates(broker, settings.topics.updates, partitions=partitions),
            )
        )
        app, pipeline = build_app(
            settings, broker, partitions, feed, cache, logs=logs, has_basis=has_basis
        )
        pipeline.traces = await stack.enter_async_context(configured_traces(settings))
        app.finalize()
        if observer is not None:
            observer.attach(app, pipeline)
        async with _watching(pipeline), sweeping(app, pipeline, settings):
            try:
                await app.start()
                yield app, pipeline
            finally:
                await app.stop()


@asynccontextmanager
async def _watching(pipeline: Pipeline) -> AsyncIterator[None]:
    """Watch the topics meanwhile; the app crashes if one is lost or changed."""
    if pipeline.keeper is None:
        yield
        return
    watching = asyncio.create_task(pipeline.keeper.watch(), name="basis")
    try:
        yield
    finally:
        watching.cancel()
        await asyncio.wait([watching])


def collect_seldom() -> None:
    """Have Python look for garbage as seldom as a worker needs it."""
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 20)


async def run_worker(settings: Settings, broker: Broker, redis_url: str) -> None:
    """Work until SIGINT or SIGTERM; a second signal ends the process at once.

    A worker that stands still, or does not stop within START_SECONDS, logs what it waits for and
    ends the process with the status STALLED or STOP_HUNG.

    Raises
    ------
    Exception
        the app's error, after it has crashed and stopped.
    """
    collect_seldom()
    leaving = asyncio.Event()
    _leave_on_signals(leaving)
    observer = Observer(settings.stall_timeout)
    async with LoopWatch(settings.stall_timeout):
        working = asyncio.create_task(
            _work(settings, broker, redis_url, leaving, observer), name="worker"
        )
        stopping = asyncio.create_task(leaving.wait(), name="leaving")
        await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
        stopping.cancel()
        if observer.phase == "starting":
            # Nothing is in work yet that would have to be finished.
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
    """Return the exit status after a crash."""
    if _cause(error, BasisLost) is not None:
        return LOST
    return 1 if _cause(error, LeaseLost) is None else FENCED


def _cause(error: BaseException | None, kind: type[Cause]) -> Cause | None:
    """Return the error itself or its nearest cause that is of this kind, or None."""
    seen: list[BaseException] = []
    # Faust raises errors from themselves, so the chain can be a circle.
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
            server = health_server(
                observer.observe, settings.health_host, settings.health_port, observer.samples
            )
            await stack.enter_async_context(server)
        await stack.enter_async_context(observer.asking(broker, settings.topics.models))
        app, pipeline = await stack.enter_async_context(
            running_app(settings, broker, redis_url, observer)
        )
        refusals = pipeline.refusals
        log.info("worker started", broker=str(broker), group=settings.app_id, core=core())
        watching = asyncio.create_task(_watch(observer, refusals), name="watchdog")
        ends = [watching, *map(asyncio.create_task, (app.wait_until_stopped(), leaving.wait()))]
        await asyncio.wait(ends, return_when=asyncio.FIRST_COMPLETED)
        leaving.set()
        for task in ends:
            task.cancel()
        if watching.done():
            watching.result()
    refusals.tell_all()
    if app.crashed:
        reason = app.crash_reason
        # A cancellation, raised as it is, would look like a normal stop.
        if not isinstance(reason, Exception):
            raise WorkerBroken(repr(reason)) from reason
        raise reason


async def _watch(observer: Observer, refusals: RefusalLog) -> None:
    """Log lag, rates, refusals and changes of health; end the process when it stands still."""
    status, reported, before = "starting", monotonic(), 0
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
        if (now := monotonic()) - reported >= REPORT_SECONDS:
            records = seen.counts.get("records", 0)
            _report(seen, health.status, (records - before) / (now - reported))
            reported, before = now, records
        refusals.tell(now)
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
