"""What all customers together brought and are expected to bring, and their cohorts.

They are summed by a process of its own, when somebody asks and the last result is old.
"""

from __future__ import annotations

import asyncio
import pickle
import sys
from contextlib import suppress
from time import monotonic
from typing import Final

import structlog

from streams.serving.summing import LENGTH, Survey, message
from streams.settings import Settings

log = structlog.get_logger(__name__)

LEAST_AGE: Final = 15.0
"""Seconds for which a result is good enough."""

SHARE: Final = 0.05
"""Of the time is spent on surveys at most: one that took 6 s is good for 2 minutes."""

_PROGRAM: Final = "from streams.serving.summing import main; main()"
"""Not `-m`: what it pickles would be of `__main__`, and unknown here."""

_LARGEST: Final = 16 * 1024 * 1024
"""Bytes of an answer; a cohort takes less than a kilobyte."""


class Surveys:
    """Makes surveys. latest: None before the first one. why: what hindered the last one."""

    def __init__(self, settings: Settings) -> None:
        self.latest: Survey | None = None
        self.why = ""
        self._settings = settings
        self._good_until = 0.0
        self._making: asyncio.Task[None] | None = None
        self._process: asyncio.subprocess.Process | None = None

    async def get(self, seconds: float) -> Survey | None:
        """Return the latest survey; wait so long at most for one that is fresh."""
        if self._making is None and monotonic() >= self._good_until:
            self._making = asyncio.create_task(self._make(), name="survey")
        if self._making is not None:
            await asyncio.wait([self._making], timeout=seconds)
        return self.latest

    async def close(self) -> None:
        """End what is being made, and the process."""
        if self._making is not None:
            self._making.cancel()
            await asyncio.gather(self._making, return_exceptions=True)
        await self._end()

    async def _make(self) -> None:
        began = monotonic()
        try:
            answer = await self._ask()
            if isinstance(answer, Survey):
                self.latest, self.why = answer, ""
            else:
                self.why = answer
                log.warning("the customers could not be summed", error=answer)
        finally:
            took = monotonic() - began
            self._good_until = monotonic() + max(LEAST_AGE, took / SHARE)
            self._making = None

    async def _ask(self) -> Survey | str:
        """Return what the process answers, or why it does not; start it if there is none."""
        try:
            if self._process is None:
                # In a session of its own: Ctrl-C is for the server, which then ends it.
                self._process = await asyncio.create_subprocess_exec(
                    sys.executable, "-c", _PROGRAM,
                    stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                    start_new_session=True, limit=_LARGEST,
                )  # fmt: skip
            asking, answering = self._process.stdin, self._process.stdout
            assert asking is not None  # noqa: S101 - it is a pipe.
            assert answering is not None  # noqa: S101 - likewise.
            asking.write(message(self._settings))
            await asking.drain()
            length = int.from_bytes(await answering.readexactly(LENGTH))
            data = await answering.readexactly(length)
        except (OSError, asyncio.IncompleteReadError):
            await self._end()
            return "the process that sums has ended"
        found: Survey | str = pickle.loads(data)  # noqa: S301 - of our own process.
        return found

    async def _end(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()
