"""Health and metrics over HTTP: /live, /ready, /health and /metrics, read-only."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

import structlog
from aiohttp import web

from streams.health.assess import Observation, assess
from streams.health.report import report_json
from streams.metrics.meters import Samples

log = structlog.get_logger(__name__)


_Handler = Callable[[web.Request], Coroutine[Any, Any, web.Response]]


class Answer(NamedTuple):
    """unready: why nothing is processed, or ""; document: that of /health, in JSON."""

    unready: str
    document: str


def health_server(
    observe: Callable[[], Observation],
    host: str,
    port: int,
    samples: Callable[[], Samples] | None = None,
) -> AbstractAsyncContextManager[int]:
    """Serve a worker's health, as `answering` does."""

    def look() -> Answer:
        seen = observe()
        health = assess(seen)
        return Answer(health.unready, report_json(seen, health))

    return answering(look, host, port, samples)


@asynccontextmanager
async def answering(
    look: Callable[[], Answer] | None,
    host: str,
    port: int,
    samples: Callable[[], Samples] | None = None,
) -> AsyncIterator[int]:
    """Serve in the context; yield the port, chosen by the system for port 0. Errors: OSError.

    look: None: without /ready and /health. samples: None: without /metrics.
    """
    app = web.Application()
    routes: list[tuple[str, _Handler]] = [("/live", _live)]
    if look is not None:
        routes += _health_routes(look)
    if samples is not None:
        routes.append(("/metrics", _metrics_route(samples)))
    for path, handler in routes:
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


async def _live(_request: web.Request) -> web.Response:
    return web.Response(text="live\n")


def _health_routes(look: Callable[[], Answer]) -> list[tuple[str, _Handler]]:
    async def ready(_request: web.Request) -> web.Response:
        if unready := look().unready:
            return web.Response(status=503, text=f"{unready}\n")
        return web.Response(text="ready\n")

    async def health(_request: web.Request) -> web.Response:
        return web.json_response(text=look().document)

    return [("/ready", ready), ("/health", health)]


def _metrics_route(samples: Callable[[], Samples]) -> _Handler:
    async def metrics(request: web.Request) -> web.Response:
        # Only who is asked for metrics has to load what writes them.
        from streams.metrics.exposition import exposed  # noqa: PLC0415

        body, content_type = exposed(samples(), request.headers.get("Accept", ""))
        return web.Response(body=body, headers={"Content-Type": content_type})

    return metrics
