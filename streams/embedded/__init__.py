"""A broker and a Redis from wheels, for the demo and the tests: no Docker, no JVM, no root."""

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from streams.embedded.broker import EmbeddedBroker
from streams.embedded.process import (
    EmbeddedServerError,
    ProgramAlteredError,
    ServerNotInstalledError,
)
from streams.embedded.redis import EmbeddedRedis

__all__ = [
    "EmbeddedBroker",
    "EmbeddedRedis",
    "EmbeddedServerError",
    "EmbeddedServers",
    "ProgramAlteredError",
    "ServerNotInstalledError",
    "embedded_servers",
]


class EmbeddedServers:
    """The servers that `embedded_servers` started; asking for one it did not start is an error."""

    def __init__(self, broker: EmbeddedBroker | None, redis: EmbeddedRedis | None) -> None:
        self._broker = broker
        self._redis = redis

    @property
    def broker(self) -> EmbeddedBroker:
        """The broker; raises EmbeddedServerError when it was not asked for."""
        if self._broker is None:
            raise EmbeddedServerError("no broker was asked for: embedded_servers(broker=True)")
        return self._broker

    @property
    def redis(self) -> EmbeddedRedis:
        """The Redis; raises EmbeddedServerError when it was not asked for."""
        if self._redis is None:
            raise EmbeddedServerError("no Redis was asked for: embedded_servers(redis=True)")
        return self._redis


@asynccontextmanager
async def embedded_servers(
    *, broker: bool = True, redis: bool = True
) -> AsyncIterator[EmbeddedServers]:
    """Run the servers that are asked for, and stop them at the end.

    Errors: ServerNotInstalledError, ProgramAlteredError, ServerStartError; what had started is
    stopped.
    """
    async with AsyncExitStack() as stack:
        yield EmbeddedServers(
            await stack.enter_async_context(EmbeddedBroker()) if broker else None,
            await stack.enter_async_context(EmbeddedRedis()) if redis else None,
        )
