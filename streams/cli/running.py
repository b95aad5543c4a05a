"""Running coroutines from a command, with an end by signal.

On asyncio's own loop: uvloop is no quicker here, and raises RuntimeError where a connection was
reset, which neither aiokafka nor redis-py takes for a lost connection.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine
from contextlib import suppress
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from models.errors import ClvError

Given = ParamSpec("Given")
Result = TypeVar("Result")


class InterruptedBySignalError(ClvError):
    """SIGINT or SIGTERM ended the command; everything it had started is stopped."""


def run(main: Coroutine[Any, Any, Result]) -> Result:
    """Run a coroutine to its end; SIGINT and SIGTERM cancel it, so that it cleans up."""
    with asyncio.Runner() as runner:
        return runner.run(_cancelled_by_signals(main))


def command(work: Callable[Given, Coroutine[Any, Any, None]]) -> Callable[Given, None]:
    """Make a command of a coroutine function, with its options: it runs as by `run`."""

    @wraps(work)
    def running(*args: Given.args, **kwargs: Given.kwargs) -> None:
        run(work(*args, **kwargs))

    return running


async def _cancelled_by_signals(main: Coroutine[Any, Any, Result]) -> Result:
    loop = asyncio.get_running_loop()
    task = asyncio.ensure_future(main)

    def cancel() -> None:
        task.cancel()

    with suppress(NotImplementedError):  # Windows: there Ctrl-C raises KeyboardInterrupt.
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, cancel)
    try:
        return await task
    except asyncio.CancelledError:
        raise InterruptedBySignalError from None
