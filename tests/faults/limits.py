"""Every wait has a limit, and says what it waited for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from typing import Any, TypeVar

T = TypeVar("T")

GRACE_SECONDS = 5.0
"""For what was cancelled to end; what does not is left to itself."""


class Hang(Exception):
    """Something did not happen in time; the text is what is known of it."""


async def within(seconds: float, what: str, work: Awaitable[T]) -> T:
    """What the work returns.

    Raises
    ------
    Hang
        if it takes longer, even where it does not heed that it is cancelled.
    """
    task = asyncio.ensure_future(work)
    try:
        await asyncio.wait({task}, timeout=seconds)
        if task.done():
            return task.result()
        stood = standing_in(task)
    finally:
        if not task.done():
            task.cancel()
            await asyncio.wait({task}, timeout=GRACE_SECONDS)
    raise Hang(f"waited {seconds:g} s for {what}; it stood in\n{stood}")


async def at_most(seconds: float, work: Awaitable[object]) -> None:
    """Wait for work that nothing depends on, such as closing a client; its errors are not raised.

    A client that a dead node has confused may never close.
    """
    task = asyncio.ensure_future(work)
    await asyncio.wait({task}, timeout=seconds)
    if not task.done():
        task.cancel()
    elif not task.cancelled():
        task.exception()


def standing_in(task: asyncio.Future[Any]) -> str:
    """Where a task waits, from the outermost function to the innermost."""
    awaited: Any = task.get_coro() if isinstance(task, asyncio.Task) else task
    lines = []
    while awaited is not None:
        frame = next(
            (
                f
                for name in ("cr_frame", "ag_frame", "gi_frame")
                if (f := getattr(awaited, name, 0))
            ),
            None,
        )
        if frame is None:
            lines.append(f"  {awaited!r}"[:200])
            break
        code = frame.f_code
        lines.append(f"  {code.co_filename}:{frame.f_lineno} {code.co_qualname}")
        awaited = next(
            (
                getattr(awaited, name)
                for name in ("cr_await", "ag_await", "gi_yieldfrom")
                if hasattr(awaited, name)
            ),
            None,
        )
    return "\n".join(lines)
