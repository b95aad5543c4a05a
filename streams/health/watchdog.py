"""Ending a process that cannot be trusted to end by itself."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import sys
from collections.abc import Iterator
from time import monotonic
from types import FrameType
from typing import Any, NoReturn

import structlog

log = structlog.get_logger(__name__)

STALLED = 75
"""Exit status (EX_TEMPFAIL) of a worker that stood still: a restart may help."""

STOP_HUNG = 70
"""Exit status (EX_SOFTWARE) of a worker that was to stop, and did not come to its end."""

FRAMES = 6
"""Innermost frames that are shown of each task."""


_WRAPPERS = {"coroutine_wrapper", "async_generator_asend", "async_generator_athrow"}


def end_process(status: int) -> NoReturn:
    """End now: no clean-up, no waiting for threads; what was not committed is done again."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def stacks() -> list[str]:
    """Where each task of the running loop waits: "name: outer frame > inner frame"."""
    me = asyncio.current_task()
    return sorted(
        f"{task.get_name()}: {' > '.join(_frames(task.get_coro())) or 'no Python frame'}"
        for task in asyncio.all_tasks()
        if task is not me
    )


def _frames(awaited: Any) -> list[str]:
    places = []
    while awaited is not None:
        frame = _attribute(awaited, "frame")
        if isinstance(frame, FrameType):
            code = frame.f_code
            file = "/".join(code.co_filename.split("/")[-2:])
            places.append(f"{code.co_name} ({file}:{frame.f_lineno})")
        awaited = _attribute(awaited, "await") or _wrapped(awaited)
    return places[-FRAMES:]


def _wrapped(awaited: Any) -> Any:
    """What is inside of a wrapper, which tells of it only to the garbage collector."""
    if type(awaited).__name__ in _WRAPPERS:
        return next(iter(gc.get_referents(awaited)), None)
    return getattr(awaited, "gi_yieldfrom", None)


def _attribute(awaited: Any, name: str) -> Any:
    """What coroutines, generators and asynchronous generators call by different names."""
    names: Iterator[str] = (f"{kind}_{name}" for kind in ("cr", "gi", "ag"))
    return next((found for n in names if (found := getattr(awaited, n, None)) is not None), None)


class LoopWatch:
    """Ends the process when its event loop does not turn for `seconds`.

    A timer of the interpreter, outside of the loop and of Python's lock, is put off again and again
    by the loop. If it runs off, the stacks of all threads go to stderr, and the status is 1. A
    process that was frozen for longer ends when it thaws, with status 75: its partitions have gone
    to others meanwhile. Used as an async context manager.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        faulthandler.dump_traceback_later(self._seconds, exit=True)
        self._task = asyncio.create_task(self._put_off(), name="loop-watch")

    async def __aexit__(self, *_error: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        faulthandler.cancel_dump_traceback_later()

    async def _put_off(self) -> None:
        turned = monotonic()
        while True:
            await asyncio.sleep(min(1.0, self._seconds / 4))
            stood = monotonic() - turned
            if stood >= self._seconds:
                log.critical(
                    "the event loop stood still, or the process was frozen; it ends, to be started "
                    "again",
                    seconds=round(stood, 1),
                )
                end_process(STALLED)
            turned = monotonic()
            faulthandler.dump_traceback_later(self._seconds, exit=True)
