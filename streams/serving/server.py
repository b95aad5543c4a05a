"""The HTTP server of the read API."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Final

import structlog
import uvicorn
from starlette.types import ASGIApp

log = structlog.get_logger(__name__)

CLOSE_SECONDS: Final = 2
"""How long open requests may take when the server ends; streams of changes never end themselves."""


class _Server(uvicorn.Server):
    """uvicorn's server, which leaves signals to the command."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing."""
        yield


@asynccontextmanager
async def serving(app: ASGIApp, host: str, port: int) -> AsyncIterator[int]:
    """Serve in the context; yield the port, chosen by the system for port 0. Errors: OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.create_server((host, port), family=family, backlog=1024) as listening:
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            server_header=False,
            lifespan="off",
            timeout_graceful_shutdown=CLOSE_SECONDS,
        )
        server = _Server(config)
        bound: int = listening.getsockname()[1]
        running = asyncio.create_task(server.serve(sockets=[listening]), name="serving")
        try:
            log.info("the API is served", host=host, port=bound)
            yield bound
        finally:
            server.should_exit = True
            await running
