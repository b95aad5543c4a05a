"""`clv serve`: the read API and the pages."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Annotated

import typer

from streams.cli.configuration import load_settings, need_broker, need_redis
from streams.cli.console import CommandError, say
from streams.cli.logs import configure_logging
from streams.cli.options import Verbose
from streams.cli.running import InterruptedBySignalError, run
from streams.cli.show import reading
from streams.health.server import answering
from streams.kafka.connection import Broker
from streams.settings import Settings


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65_535, help="Port; 0: one that is free.")
    ] = None,
    verbose: Verbose = False,
) -> None:
    """Serve pages for people and an API for programs until SIGINT or SIGTERM."""
    configure_logging(verbose=verbose)
    settings = load_settings()
    broker = need_broker(settings)
    need_redis(settings)
    changes = {"host": host, "port": port}
    given = {name: value for name, value in changes.items() if value is not None}
    settings = settings.model_copy(update={"serve": settings.serve.model_copy(update=given)})
    try:
        run(_serve(settings, broker))
    except InterruptedBySignalError:
        say("the API stopped")


async def _serve(settings: Settings, broker: Broker) -> None:
    async with served(settings, broker) as url:
        say(f"serving {url}/ and {url}/openapi.json")
        await asyncio.Event().wait()


@asynccontextmanager
async def served(settings: Settings, broker: Broker) -> AsyncIterator[str]:
    """Serve API and pages in the context; yields their address. Errors: CommandError."""
    try:
        # Only who serves has to install them, and other commands need not wait for them.
        from streams.serving.api import create_app  # noqa: PLC0415
        from streams.serving.metrics import Metered  # noqa: PLC0415
        from streams.serving.server import serving  # noqa: PLC0415
        from streams.serving.sources import Sources  # noqa: PLC0415
        from streams.serving.tokens import is_loopback  # noqa: PLC0415
    except ModuleNotFoundError as error:
        raise CommandError(
            f"{error.name} is not installed, which `clv serve` needs: "
            "pip install 'clv-streams[serve]'"
        ) from error
    at = settings.serve
    if not at.read_tokens and not is_loopback(at.host):
        raise CommandError(
            f"everybody who reaches {at.host} could read all customers: set "
            'CLV_SERVE__READ_TOKENS=["…"], or listen on 127.0.0.1'
        )
    async with reading(settings) as cache, AsyncExitStack() as stack:
        sources = Sources.of(cache, broker, settings)
        app = Metered(create_app(sources))
        if settings.health_port is not None:
            # Beside the API, whose address may be open to more than may see this.
            metrics = answering(None, settings.health_host, settings.health_port, app.samples)
            await stack.enter_async_context(metrics)
        try:
            bound = await stack.enter_async_context(serving(app, at.host, at.port))
        except OSError as error:
            raise CommandError(f"{at.host}:{at.port} cannot be served: {error}") from error
        await stack.enter_async_context(sources.running())
        host = f"[{at.host}]" if ":" in at.host else at.host
        yield f"http://{host}:{bound}"
