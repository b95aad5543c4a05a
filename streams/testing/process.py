"""A worker of a cluster: a process of its own."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path

from streams.settings import Settings
from streams.simulation.worker import WorkerCrashed
from streams.testing.worker_process import CLOCK

_STOP_SECONDS = 60.0
_LOG_CHARACTERS = 4_000
_SECRETS = ("erasure_key", "kafka_security", "redis_security")


class WorkerProcess:
    """A `clv worker` process and its log."""

    def __init__(self, name: str, process: asyncio.subprocess.Process, log: Path) -> None:
        self.name = name
        self.log = log
        self._process = process

    @classmethod
    async def start(
        cls, name: str, directory: Path, clock: Path, settings: Settings
    ) -> WorkerProcess:
        """Start one; it joins the group by itself."""
        log = directory / f"{name}.log"
        with log.open("wb") as output:
            process = await asyncio.create_subprocess_exec(
                sys.executable,
                "-m",
                "streams.testing.worker_process",
                stdout=output,
                stderr=output,
                env=environment(settings) | {CLOCK: str(clock)},
            )
        return cls(name, process, log)

    @property
    def running(self) -> bool:
        """Whether it has not ended."""
        return self._process.returncode is None

    def check(self) -> None:
        """Raise WorkerCrashed if it has ended by itself."""
        if not self.running:
            raise WorkerCrashed(
                f"{self.name} ended with status {self._process.returncode}; its log ends with\n"
                f"{self.log.read_text(errors='replace')[-_LOG_CHARACTERS:]}"
            )

    async def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal, and wait for the end; returns the exit status."""
        if self.running:
            self._process.send_signal(number)
        return await asyncio.wait_for(self._process.wait(), _STOP_SECONDS)


def environment(settings: Settings) -> dict[str, str]:
    """The environment of a process with these settings, and none of ours for the service."""
    given = {name: value for name, value in os.environ.items() if not name.startswith("CLV_")}
    values = settings.model_dump(mode="json", exclude=set(_SECRETS), exclude_none=True)
    for name, value in values.items():
        text = value if isinstance(value, str) else json.dumps(value)
        given[f"CLV_{name.upper()}"] = text
    if settings.erasure_key is not None:
        given["CLV_ERASURE_KEY"] = settings.erasure_key.get_secret_value()
    return given
