"""Starts `python -m` and `python -c` as processes forked from one that has imported the program.

`start` is to such a command what `asyncio.create_subprocess_exec` is, and `run` what
`subprocess.run` is. Where a process cannot be forked (no Linux, another program), they do it as
those do.
"""

from __future__ import annotations

import array
import asyncio
import atexit
import contextlib
import json
import os
import resource
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from streams.cli.listed import COMMANDS, module_of

ROOT = Path(__file__).parents[2]
PRELOADED = (
    *map(module_of, COMMANDS), "streams.cli.failures",
    "streams.worker", "streams.app", "streams.testing.topology", "pytest",
    "pytest_asyncio",
)  # fmt: skip
"""Imported once: what the tests' processes import."""

PIPE, DEVNULL = subprocess.PIPE, subprocess.DEVNULL

Output = int | IO[Any] | None


class Forked:
    """A process that was forked; as much of `asyncio.subprocess.Process` as tests use."""

    def __init__(self, server: Server, pid: int) -> None:
        self.pid = pid
        self.stdin: asyncio.StreamWriter | None = None
        self.stdout: asyncio.StreamReader | None = None
        self.stderr: asyncio.StreamReader | None = None
        self._server = server
        self._ended = os.pidfd_open(pid)
        self._status: int | None = None

    @property
    def returncode(self) -> int | None:
        """Its exit status, minus the signal that ended it; None while it runs."""
        if self._status is None and select.select([self._ended], [], [], 0)[0]:
            self._status = self._server.status(self.pid)
            os.close(self._ended)
        return self._status

    def poll(self) -> int | None:
        """As `returncode`."""
        return self.returncode

    async def wait(self) -> int:
        """Wait for its end; returns its exit status."""
        loop = asyncio.get_running_loop()
        while (status := self.returncode) is None:
            # A copy: who waits beside this one may close the descriptor.
            descriptor, ended = os.dup(self._ended), asyncio.Event()
            loop.add_reader(descriptor, ended.set)
            try:
                await ended.wait()
            finally:
                loop.remove_reader(descriptor)
                os.close(descriptor)
        return status

    def wait_for(self, seconds: float) -> int:
        """Wait for its end without an event loop; returns its exit status. Errors: TimeoutError."""
        if self._status is None and not select.select([self._ended], [], [], seconds)[0]:
            raise TimeoutError(f"process {self.pid} has not ended within {seconds:g} s")
        status = self.returncode
        assert status is not None
        return status

    async def communicate(self, given: bytes | None = None) -> tuple[bytes, bytes]:
        """Write to its input, read its outputs to their ends, and wait for its end."""
        if self.stdin is not None:
            with contextlib.suppress(ConnectionError):
                self.stdin.write(given or b"")
                await self.stdin.drain()
            self.stdin.close()

        async def read(stream: asyncio.StreamReader | None) -> bytes:
            return b"" if stream is None else await stream.read()

        said, told, _ = await asyncio.gather(read(self.stdout), read(self.stderr), self.wait())
        return said, told

    def send_signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.returncode is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Send SIGTERM."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """Send SIGKILL."""
        self.send_signal(signal.SIGKILL)


class Server:
    """The process that forks; it ends with this one."""

    def __init__(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            command = [sys.executable, "-m", "tests.servers.fork_server", str(theirs.fileno())]
            self._process = subprocess.Popen(
                [*command, *PRELOADED], cwd=ROOT, stdin=DEVNULL, stdout=DEVNULL,
                pass_fds=[theirs.fileno()], start_new_session=True,
                env=os.environ | {"PYTHONPATH": str(ROOT)},
            )  # fmt: skip
        self._control, self._one_at_a_time = ours, threading.Lock()
        self.owner = os.getpid()
        atexit.register(self.stop)

    def start(
        self,
        command: Sequence[str],
        descriptors: Sequence[int],
        directory: Path | None,
        environment: Mapping[str, str] | None,
        data_limit: int | None = None,
    ) -> Forked:
        """Fork a process that runs what a command line of Python's says."""
        _, option, what, *arguments = command
        request = {
            "option": option,
            "what": what,
            "arguments": arguments,
            "data_limit": data_limit,
            "directory": str(directory or Path.cwd()),
            "environment": {**(os.environ if environment is None else environment)},
        }
        numbers = array.array("i", descriptors)
        ancillary = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, numbers)]
        return Forked(self, self._ask(request, ancillary))

    def status(self, pid: int) -> int:
        """The exit status of a process that has ended."""
        return self._ask({"status": pid})

    def stop(self) -> None:
        """End it, and what it has forked."""
        self._control.close()
        if self.owner == os.getpid():
            self._process.wait()

    def _ask(self, request: Mapping[str, Any], ancillary: Sequence[Any] = ()) -> int:
        with self._one_at_a_time:
            self._control.sendmsg([json.dumps(request).encode()], ancillary)
            data = self._control.recv(1_000)
        if not data:
            raise RuntimeError(f"the fork server has ended ({self._process.wait()})")
        return int(json.loads(data))


_server: list[Server] = []


def server() -> Server:
    """The server of this process, started when it is first asked for."""
    if _server and _server[0].owner != os.getpid():
        _server.clear()
    if not _server:
        _server.append(Server())
    return _server[0]


def forkable(command: Sequence[str]) -> bool:
    """Whether a command is `python -m …` or `python -c …`, and this system has what it takes."""
    return (
        sys.platform == "linux"
        and hasattr(os, "pidfd_open")
        and command[0] == sys.executable
        and command[1] in ("-m", "-c")
    )


async def start(
    *command: str,
    stdin: Output = None,
    stdout: Output = None,
    stderr: Output = None,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
) -> Forked | asyncio.subprocess.Process:
    """Start a command in a session of its own; its streams as asyncio's."""
    if not forkable(command):
        return await asyncio.create_subprocess_exec(
            *command, stdin=stdin, stdout=stdout, stderr=stderr, cwd=cwd, env=env,
            start_new_session=True,
        )  # fmt: skip
    with contextlib.ExitStack() as stack:
        descriptors, ours = [], {}
        for name, wanted, mode in (
            ("stdin", stdin, 0),
            ("stdout", stdout, 1),
            ("stderr", stderr, 1),
        ):
            if wanted == PIPE:
                ends = os.pipe()
                stack.callback(os.close, ends[mode])
                descriptors.append(ends[mode])
                ours[name] = ends[1 - mode]
            else:
                descriptors.append(_descriptor(wanted, len(descriptors), stack))
        process = server().start(command, descriptors, cwd, env)
    for name, descriptor in ours.items():
        setattr(process, name, await (_writer if name == "stdin" else _reader)(descriptor))
    return process


def run(
    command: Sequence[str],
    *,
    timeout: float,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    data_limit: int | None = None,
) -> subprocess.CompletedProcess[str]:
    """Run a command to its end, and capture what it says; as `subprocess.run`.

    data_limit: bytes of memory that it may have (RLIMIT_DATA).
    """
    if not forkable(command):
        limits = (resource.RLIMIT_DATA, (data_limit, data_limit))
        return subprocess.run(
            command, capture_output=True, text=True, timeout=timeout, check=False, cwd=cwd, env=env,
            preexec_fn=None if data_limit is None else lambda: resource.setrlimit(*limits),
        )  # fmt: skip
    with (
        open(os.devnull, "rb") as nothing,
        tempfile.TemporaryFile() as said,
        tempfile.TemporaryFile() as told,
    ):
        descriptors = [file.fileno() for file in (nothing, said, told)]
        process = server().start(command, descriptors, cwd, env, data_limit)
        try:
            status = process.wait_for(timeout)
        except TimeoutError:
            process.kill()
            process.wait_for(timeout)
            raise subprocess.TimeoutExpired(command, timeout) from None
        texts = []
        for file in (said, told):
            file.seek(0)
            texts.append(file.read().decode())
    return subprocess.CompletedProcess(command, status, *texts)


def _descriptor(wanted: Output, number: int, stack: contextlib.ExitStack) -> int:
    if wanted is None:
        return number
    if wanted == DEVNULL:
        return stack.enter_context(open(os.devnull, "r+b", buffering=0)).fileno()
    if wanted == subprocess.STDOUT:
        raise ValueError("give the file of stdout for stderr, too")
    return wanted if isinstance(wanted, int) else wanted.fileno()


async def _reader(descriptor: int) -> asyncio.StreamReader:
    reader = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader), os.fdopen(descriptor, "rb", buffering=0)
    )
    return reader


async def _writer(descriptor: int) -> asyncio.StreamWriter:
    loop = asyncio.get_running_loop()
    transport, protocol = await loop.connect_write_pipe(
        asyncio.streams.FlowControlMixin, os.fdopen(descriptor, "wb", buffering=0)
    )
    return asyncio.StreamWriter(transport, protocol, None, loop)
