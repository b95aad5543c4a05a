"""The tasks of a worker, so that all of it can be ended at once, as a process is."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextvars import Context, ContextVar, copy_context
from typing import Any

_ROUNDS = 100
"""How often a task is told to end: some go on after they were told once."""

_owner: ContextVar[Tasks | None] = ContextVar("clv_testing_worker", default=None)


class Tasks:
    """What runs on behalf of one worker: whatever is begun in its context, and by that."""

    def __init__(self) -> None:
        _watch(asyncio.get_running_loop())
        self.context = copy_context()
        self.context.run(_owner.set, self)
        self._running: dict[asyncio.Task[Any], None] = {}

    def begin(self, work: Any) -> asyncio.Task[Any]:
        """Begin something on behalf of the worker."""
        return asyncio.get_running_loop().create_task(work, context=self.context)

    def add(self, task: asyncio.Task[Any]) -> None:
        """Note a task that was begun."""
        self._running[task] = None
        task.add_done_callback(self._ended)

    async def kill(self) -> None:
        """End everything; RuntimeError for what does not end."""
        for _ in range(_ROUNDS):
            if not self._running:
                return
            for task in list(self._running):
                task.cancel()
            await asyncio.sleep(0)
        raise RuntimeError(f"tasks of a worker that was killed go on: {list(self._running)}")

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._running.pop(task, None)
        if not task.cancelled():
            # Asked for, so that nothing is said of an error that came of the killing.
            task.exception()


class _Watching:
    """A task factory that notes whose tasks are begun."""

    def __init__(self, factory: Callable[..., Any] | None) -> None:
        self._factory = factory

    def __call__(self, loop: asyncio.AbstractEventLoop, work: Any, **options: Any) -> Any:
        context: Context | None = options.get("context")
        owner = _owner.get() if context is None else context.get(_owner)
        task: asyncio.Task[Any] = (
            asyncio.Task(work, loop=loop, **options)
            if self._factory is None
            else self._factory(loop, work, **options)
        )
        if owner is not None:
            owner.add(task)
        return task


def _watch(loop: asyncio.AbstractEventLoop) -> None:
    """Note all tasks that are begun in a loop from now on; those of nobody are left alone."""
    factory: Any = loop.get_task_factory()
    if not isinstance(factory, _Watching):
        loop.set_task_factory(_Watching(factory))
