"""Health over HTTP: /live, /ready and /health, to be read only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import structlog
from aiohttp import web

from streams.health.assess import Health, Observation, assess

log = structlog.get_logger(__name__)


@asynccontextmanager
async def health_server(
    observe: Callable[[], Observation], host: str, port: int
) -> AsyncIterator[int]:
    """Answer while the context lasts; yields the port, which port 0 leaves to the system.

    Raises OSError when the port cannot be had.
    """

    async def live(_request: web.Request) -> web.Response:
        return web.Response(text="live\n")

    async def ready(_request: web.Request) -> web.Response:
        health = assess(observe())
        if health.ready:
            return web.Response(text="ready\n")
        return web.Response(status=503, text=f"{health.unready}\n")

    async def health(_request: web.Request) -> web.Response:
        seen = observe()
        return web.json_response(report(seen, assess(seen)))

    app = web.Application()
    for path, handler in (("/live", live), ("/ready", ready), ("/health", health)):
        app.router.add_get(path, handler, allow_head=False)
    # Whoever keeps a connection open must not keep the worker from ending.
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        site = web.TCPSite(runner, host, port)
        await site.start()
        bound: int = runner.addresses[0][1]
        log.info("health is served", host=host, port=bound)
        yield bound
    finally:
        await runner.cleanup()


def report(seen: Observation, health: Health) -> dict[str, object]:
    """The document of /health; nothing in it is about a customer."""
    recovery = seen.recovery
    return {
        "status": health.status,
        "ready": health.ready,
        "reasons": list(health.reasons),
        "version": seen.version,
        "uptime_seconds": round(seen.uptime, 1),
        "partitions": sorted(seen.lags),
        "lag": seen.lag,
        "lag_by_partition": dict(sorted(seen.lags.items())),
        "batches_in_work": seen.in_work,
        "seconds_without_progress": round(seen.standing_still, 1),
        "recovery": None
        if recovery is None
        else {
            "done": seen.recovered,
            "records": recovery.records,
            "expected": recovery.expected,
            "seconds_left": recovery.seconds_left,
        },
        "cache": {
            "away_seconds": None if seen.cache.away is None else round(seen.cache.away, 1),
            "pending": seen.cache.pending,
            "problem": seen.cache.problem,
            "catching_up": {str(number): left for number, left in seen.cache.catching_up.items()},
        },
        "parameters": seen.parameters,
        "counts": dict(seen.counts),
    }
