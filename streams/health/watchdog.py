"""End a process that may not end by itself."""

from __future__ import annotations

import asyncio
import faulthandler
import gc
import logging
import os
import signal
import sys
from collections.abc import Iterator
from types import FrameType
from typing import Any, NoReturn

STALLED = 75
"""Exit status (EX_TEMPFAIL) of a worker that stood still: a restart may help."""

FROZEN = -signal.SIGALRM
"""Exit status, as a parent sees it, of a worker whose event loop was blocked or frozen."""

STOP_HUNG = 70
"""Exit status (EX_SOFTWARE) of a worker that did not stop in time."""

FRAMES = 6
"""How many of the innermost frames of each task are shown."""


_WRAPPERS = {"coroutine_wrapper", "async_generator_asend", "async_generator_athrow"}


def end_process(status: int) -> NoReturn:
    """End now, without clean-up or waiting for threads; uncommitted work is done again."""
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def stacks() -> list[str]:
    """Return where each task of the running loop waits: "name: outer frame > inner frame"."""
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
    """Return the awaitable inside of a wrapper, which only the garbage collector can see."""
    if type(awaited).__name__ in _WRAPPERS:
        return next(iter(gc.get_referents(awaited)), None)
    return getattr(awaited, "gi_yieldfrom", None)


def _attribute(awaited: Any, name: str) -> Any:
    """Return an attribute whose prefix differs for coroutines and (asynchronous) generators."""
    names: Iterator[str] = (f"{kind}_{name}" for kind in ("cr", "gi", "ag"))
    return next((found for n in names if (found := getattr(awaited, n, None)) is not None), None)


class LoopWatch:
    """Ends the process when its event loop is blocked for `seconds`; an async context manager.

    The loop keeps postponing a timer of the operating system. If the timer runs out, SIGALRM ends
    the process, and the main thread's stack goes to stderr. The kernel keeps the time and delivers
    the signal, so neither the loop nor the GIL can hold it up. Time in which the process is frozen
    counts: it ends as soon as it thaws, because other workers have its partitions by then.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> None:
        # Not all threads: walking the frames of one that runs crashes the interpreter.
        faulthandler.register(signal.SIGALRM, all_threads=False, chain=True)
        signal.setitimer(signal.ITIMER_REAL, self._seconds)
        self._task = asyncio.create_task(self._postpone(), name="loop-watch")

    async def __aexit__(self, *_error: object) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.wait([self._task])
        signal.setitimer(signal.ITIMER_REAL, 0)
        faulthandler.unregister(signal.SIGALRM)

    async def _postpone(self) -> None:
        while True:
            await asyncio.sleep(min(1.0, self._seconds / 4))
            signal.setitimer(signal.ITIMER_REAL, self._seconds)
