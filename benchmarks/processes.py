"""A contender's processes, and what they took: read from /proc, so on Linux only."""

import contextlib
import os
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
STOP_SECONDS = 20
LOG_TAIL = 40
_TICK = os.sysconf("SC_CLK_TCK")


def cpu_seconds(session: int) -> float:
    """Return processor seconds, user and system, of all processes of a session.

    Children that have ended and been waited for are part of it.
    """
    ticks = 0
    for entry in os.scandir("/proc"):
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            # The name in parentheses may contain anything.
            fields = Path(entry.path, "stat").read_text().rpartition(")")[2].split()
            if int(fields[3]) == session:
                ticks += sum(map(int, fields[11:15]))
    return ticks / _TICK


class Process:
    """A command in a session of its own, with its log in a file."""

    def __init__(
        self, name: str, command: list[str], environment: Mapping[str, str], directory: Path
    ) -> None:
        self.name = name
        directory.mkdir()
        self._log = directory / "log"
        self.exit_code: int | None = None
        self.started = time.monotonic()
        with self._log.open("wb") as log:
            self._child = subprocess.Popen(
                command,
                cwd=directory,
                env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def pid(self) -> int:
        """The process id, which is also that of its session."""
        return self._child.pid

    def ended(self) -> bool:
        """Return whether it has ended by itself."""
        self.exit_code = self._child.poll()
        return self.exit_code is not None

    def cpu_seconds(self) -> float:
        """Return what it and its children have taken of processors so far."""
        return cpu_seconds(self.pid)

    def memory(self) -> dict[str, int]:
        """Return its resident memory in bytes: now (VmRSS) and at its peak (VmHWM)."""
        found = {}
        for line in Path(f"/proc/{self.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name in ("VmRSS", "VmHWM"):
                found[name] = int(value.split()[0]) * 1024
        return found

    def stop(self) -> None:
        """Ask it to end, then end it and whatever it left."""
        if not self.ended():
            self._child.send_signal(signal.SIGTERM)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._child.wait(STOP_SECONDS)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)
        self.exit_code = self._child.wait()

    def last_line(self) -> str:
        """Return the last line of what it wrote."""
        return (self._log.read_text(errors="replace").splitlines() or [""])[-1]

    def log_tail(self) -> str:
        """Return the end of what it wrote."""
        lines = self._log.read_text(errors="replace").splitlines()[-LOG_TAIL:]
        return "\n".join([f"--- last lines of {self.name} ---", *lines, "---"])
