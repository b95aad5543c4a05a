"""Running the app: services around it, signals, and an exit status that tells."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import faust
import structlog

from streams.app import build_app
from streams.cache import CacheWriter, ScoreCache, connect
from streams.parameters import ParameterFeed
from streams.pipeline import Pipeline
from streams.settings import Settings
from streams.topics import prepare_topics

log = structlog.get_logger(__name__)

GARBAGE_THRESHOLD = 200_000
"""New objects between collections: a batch makes as many, none of them in cycles. With Python's
default of 700, a quarter of the time of a batch went into looking for garbage."""

START_SECONDS = 60.0
"""How long a worker that is told to stop may take to: it finishes what is in work, or its start."""


@asynccontextmanager
async def running_app(
    settings: Settings, broker: str, redis_url: str
) -> AsyncIterator[tuple[faust.App, Pipeline]]:
    """A started app with everything it needs, stopped at the end."""
    partitions = await prepare_topics(settings, broker)
    redis = connect(redis_url)
    try:
        async with (
            ParameterFeed(
                settings.topics.models, settings.economics.currency, bootstrap_servers=broker
            ) as feed,
            CacheWriter(ScoreCache(redis, settings.redis_prefix)) as cache,
        ):
            app, pipeline = build_app(settings, broker, partitions, feed, cache)
            app.finalize()
            try:
                await app.start()
                yield app, pipeline
            finally:
                await app.stop()
    finally:
        await redis.aclose()


async def run_worker(settings: Settings, broker: str, redis_url: str) -> None:
    """Work until a signal says stop.

    Raises
    ------
    Exception
        whatever made the app crash, after it has stopped.
    """
    gc.set_threshold(GARBAGE_THRESHOLD, 20, 20)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    stopping = asyncio.create_task(stop.wait())
    working = asyncio.create_task(_work(settings, broker, redis_url, stop))
    await asyncio.wait({working, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    try:
        # A signal while it starts finds nobody waiting for it yet.
        await asyncio.wait_for(working, START_SECONDS if stop.is_set() else None)
    except TimeoutError:
        log.warning("stopped while it was starting")
    log.info("worker stopped")


async def _work(settings: Settings, broker: str, redis_url: str, stop: asyncio.Event) -> None:
    async with running_app(settings, broker, redis_url) as (app, _pipeline):
        log.info("worker started", broker=broker, group=settings.app_id)
        ended = [asyncio.create_task(end) for end in (app.wait_until_stopped(), stop.wait())]
        await asyncio.wait(ended, return_when=asyncio.FIRST_COMPLETED)
        for task in ended:
            task.cancel()
    if app.crashed:
        raise app.crash_reason
