"""Health over HTTP: /live, /ready and /health, read-only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple

import structlog
from aiohttp import web

from streams.health.assess import Observation, assess
from streams.health.report import report_json

log = structlog.get_logger(__name__)


class Answer(NamedTuple):
    """unready: why nothing is processed, or ""; document: that of /health, in JSON."""

    unready: str
    document: str


def health_server(
    observe: Callable[[], Observation], host: str, port: int
) -> AbstractAsyncContextManager[int]:
    """Serve a worker's health, as `answering` does."""

    def look() -> Answer:
        seen = observe()
        health = assess(seen)
        return Answer(health.unready, report_json(seen, health))

    return answering(look, host, port)


@asynccontextmanager
async def answering(look: Callable[[], Answer], host: str, port: int) -> AsyncIterator[int]:
    """Serve in the context; yield the port, chosen by the system for port 0. Errors: OSError."""

    async def live(_request: web.Request) -> web.Response:
        return web.Response(text="live\n")

    async def ready(_request: web.Request) -> web.Response:
        if unready := look().unready:
            return web.Response(status=503, text=f"{unready}\n")
        return web.Response(text="ready\n")

    async def health(_request: web.Request) -> web.Response:
        return web.json_response(text=look().document)

    app = web.Application()
    for path, handler in (("/live", live), ("/ready", ready), ("/health", health)):
        app.router.add_get(path, handler, allow_head=False)
    # An open connection must not keep the worker from ending.
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
