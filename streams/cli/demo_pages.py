"""The pages beside the demo: a process of their own, so that they never hold up an event."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from typing import Final

from streams.cli.configuration import need_broker
from streams.cli.console import CommandError, say
from streams.cli.logs import configure_logging
from streams.cli.running import InterruptedBySignalError, run
from streams.cli.serve import served
from streams.settings import Settings

START_SECONDS: Final = 300.0
"""Long enough for the busiest machine: a process that ends by itself is noticed at once."""

END_SECONDS: Final = 5.0


class Pages:
    """The pages that a process serves, or is about to. process: none if no pages are wanted."""

    def __init__(self, process: SpawnProcess | None = None, told: Connection | None = None) -> None:
        self.address = ""
        self._process = process
        self._told = told

    async def served(self) -> None:
        """Wait until they are served, and say where. Errors: CommandError."""
        process, told = self._process, self._told
        if process is None or told is None:
            return
        if not await asyncio.to_thread(told.poll, START_SECONDS):
            raise CommandError(f"the pages were not served within {START_SECONDS:g} s")
        try:
            self.address, problem = told.recv()
        except EOFError:
            process.join(END_SECONDS)
            raise CommandError(
                f"the process of the pages ended with status {process.exitcode}"
            ) from None
        if problem:
            raise CommandError(problem)
        say(f"Look at it while it works: {self.address}/")


@asynccontextmanager
async def pages_beside(settings: Settings, *, wanted: bool) -> AsyncIterator[Pages]:
    """Serve API and pages in the context, if wanted; they are there soon after.

    If the usual port is taken, they are served on another one.
    """
    if not wanted:
        yield Pages()
        return
    spawning = multiprocessing.get_context("spawn")
    ours, theirs = spawning.Pipe()
    process = spawning.Process(target=_serve, args=(settings, theirs), daemon=True)
    process.start()
    # Its end is left to the process alone, so that what reads hears when there is none any more.
    theirs.close()
    try:
        yield Pages(process, ours)
    finally:
        process.terminate()
        await asyncio.to_thread(process.join, END_SECONDS)


def _serve(settings: Settings, told: Connection) -> None:
    configure_logging(level=logging.CRITICAL)
    try:
        run(_until_ended(settings, told))
    except InterruptedBySignalError:
        pass
    except CommandError as error:
        told.send(("", str(error)))


async def _until_ended(settings: Settings, told: Connection) -> None:
    try:
        async with served(settings, need_broker(settings)) as url:
            await _told(url, told)
    except CommandError:
        if settings.serve.port == 0:
            raise
        other = settings.serve.model_copy(update={"port": 0})
        await _until_ended(settings.model_copy(update={"serve": other}), told)


async def _told(url: str, told: Connection) -> None:
    told.send((url, ""))
    await asyncio.Event().wait()
