"""Processes that end with this one, and can be killed, frozen and thawed."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from streams.embedded.process import DIE_WITH_PARENT
from tests.servers import forks

ROOT = Path(__file__).parents[2]
TRAP_FILE = "FAULTS_TRAP_FILE"
"""Names the file by which a running worker is armed."""

CLOCK_FILE = "FAULTS_CLOCK_FILE"
"""Names the file that says by how many milliseconds the clock of all workers is ahead."""

SPRUNG = ".sprung"
"""What its name ends with once the worker has died where it was to."""

TELL = signal.SIGRTMIN
"""Has a worker say where its tasks wait."""

STOP_SECONDS = 30.0
TAIL_BYTES = 4_000


class Process:
    """A running program that writes to a log."""

    def __init__(self, process: forks.Forked | asyncio.subprocess.Process, log: Path) -> None:
        self.process = process
        self.log = log
        self.frozen = False
        self._began = time.monotonic()

    @classmethod
    async def start(
        cls, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> Process:
        """Start a program, from the main thread; its log is appended to."""
        given = os.environ | dict(environment or {})
        with log.open("ab") as output:
            if forks.forkable(command):
                process = await forks.start(
                    *command, cwd=ROOT, stdin=forks.DEVNULL, stdout=output, stderr=output, env=given
                )
                return cls(process, log)
            tied = [sys.executable, "-I", "-S", "-c", DIE_WITH_PARENT, str(os.getpid()), *command]
            process = await asyncio.create_subprocess_exec(
                *tied,
                cwd=ROOT,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=given,
                start_new_session=True,
            )
        return cls(process, log)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    @property
    def age(self) -> float:
        """Seconds since it was started."""
        return time.monotonic() - self._began

    @property
    def status(self) -> int | None:
        """Its exit status; none while it runs."""
        return self.process.returncode

    def signal(self, number: int) -> None:
        """Send a signal, if it still runs."""
        if self.status is None:
            # Not Popen's: that asks for the status too, and whoever waits for it would get none.
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def freeze(self) -> None:
        """Stop it in mid-work, without its knowing."""
        self.signal(signal.SIGSTOP)
        self.frozen = True

    def thaw(self) -> None:
        """Let it go on."""
        self.signal(signal.SIGCONT)
        self.frozen = False

    async def kill(self) -> None:
        """End it at once."""
        self.signal(signal.SIGKILL)
        await self.process.wait()

    async def stop(self) -> int:
        """Ask it to end, and kill it when it takes too long; returns its exit status."""
        self.thaw()
        self.signal(signal.SIGTERM)
        try:
            return await asyncio.wait_for(self.process.wait(), STOP_SECONDS)
        except TimeoutError:
            await self.kill()
            return -signal.SIGKILL

    def memory(self) -> int:
        """Bytes of memory it holds; 0 when it has ended."""
        return self._of_status("VmRSS:")

    def peak(self) -> int:
        """Bytes of memory that it has held at most; 0 when it has ended."""
        return self._of_status("VmHWM:")

    def _of_status(self, name: str) -> int:
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except OSError:
            return 0
        for line in status.splitlines():
            if line.startswith(name):
                return int(line.split()[1]) * 1024
        return 0

    def tail(self, lines: int = 15) -> str:
        """The end of its log."""
        text = self.log.read_bytes()[-TAIL_BYTES:].decode(errors="replace")
        return "\n".join(text.splitlines()[-lines:])
