"""The copy of a table on local disk: written behind, and never ahead of the broker.

What the broker acknowledged is collected in memory, newest value of a key only, and written by a
thread of its own. Nothing waits for it. A disk that fails costs the copy, never the worker: what
is not in the copy is in the changelog.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from streams.transport.copyfile import Contents, CopyFile, CopyUnusable
from streams.transport.frames import Changes, Mark

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

_FAULTS = (OSError, CopyUnusable)
"""What costs the copy, and nothing else."""

_FLUSH_SECONDS = 0.25
_TOUCH_SECONDS = 600.0
"""How often a copy to which nothing is added says that it is complete nevertheless."""
_LOCK_SECONDS = 3.0
"""The worker that had the partition lets its file go when it learns of its new assignment."""


@dataclass(slots=True)
class _Pending:
    """What is not written yet; anew: `changes` are all there is, the file is replaced."""

    mark: Mark
    changes: dict[bytes, bytes | None] = field(default_factory=dict)
    anew: bool = False


class DurableStore:
    """Copies of a table's partitions, one file each, in one directory."""

    def __init__(self, directory: Path, changelog: str, partitions: int) -> None:
        self.directory = directory
        self._changelog = changelog
        self._partitions = partitions
        self._files: dict[int, CopyFile] = {}
        self._pending: dict[int, _Pending] = {}
        self._problems: dict[int, str] = {}
        self._complete: set[int] = set()
        self._touched = time.monotonic()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="table-copy")
        self._writing: asyncio.Task[None] | None = None

    @property
    def healthy(self) -> bool:
        """Whether every partition of this worker has its copy."""
        return not self._problems

    @property
    def problems(self) -> Mapping[int, str]:
        """What is wrong, by partition."""
        return self._problems

    def path(self, partition: int) -> Path:
        """Where the copy of a partition is."""
        return self.directory / self._changelog / f"{partition}.copy"

    async def open(self, partition: int, have: Mark | None) -> Contents:
        """Open the copy of a partition, and read it unless memory is as far as it is.

        have: as of where memory is complete. No mark in the answer: there is no usable copy.
        """
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_behind())
        self._complete.discard(partition)
        await self.flush()
        return await self._in_thread(lambda: self._open(partition, have))

    def write(self, partition: int, changes: Changes, mark: Mark) -> None:
        """Add what the broker acknowledged; returns at once."""
        if partition not in self._files:
            return
        pending = self._pending.get(partition)
        if pending is None:
            pending = self._pending[partition] = _Pending(mark)
        pending.changes.update(changes)
        pending.mark = mark
        self._complete.add(partition)

    def rewrite(self, partition: int, state: Mapping[bytes, bytes], mark: Mark) -> None:
        """Replace the copy by a state; returns at once."""
        if partition in self._files:
            self._pending[partition] = _Pending(mark, dict(state), anew=True)
            self._complete.add(partition)

    def fell_behind(self, partition: int) -> None:
        """The changelog went on without this copy, which does not say any more that it is new."""
        self._complete.discard(partition)

    async def keep_only(self, partitions: set[int]) -> None:
        """Finish and close the files of all other partitions; another worker may have them."""
        await self.flush()
        others = (self._files.keys() | self._problems.keys()) - partitions
        if others:
            self._complete -= others
            await self._in_thread(lambda: self._let_go(others))

    async def flush(self) -> None:
        """Wait until everything added so far is written."""
        if pending := self._pending:
            # Taken here, so that nothing is added to what the thread reads.
            self._pending = {}
            await self._in_thread(lambda: self._flush(pending))

    async def close(self) -> None:
        """Write what is left, and close everything."""
        if self._writing is not None:
            self._writing.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._writing
            self._writing = None
        await self.keep_only(set())
        self._thread.shutdown(wait=False)

    async def _write_behind(self) -> None:
        while True:
            await asyncio.sleep(_FLUSH_SECONDS)
            await self.flush()
            if time.monotonic() - self._touched >= _TOUCH_SECONDS:
                self._touched = time.monotonic()
                complete = self._complete - self._pending.keys()
                await self._in_thread(partial(self._touch, complete))

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    # What follows runs in the thread.

    def _open(self, partition: int, have: Mark | None) -> Contents:
        self._problems.pop(partition, None)
        file = self._files.get(partition)
        if file is not None and have is not None and file.mark == have:
            return Contents(have, {})
        try:
            if file is None:
                file = CopyFile(self.path(partition), self._changelog, partition, self._partitions)
                file.open(_LOCK_SECONDS)
            contents = file.load()
        except _FAULTS as error:
            self._give_up(partition, file, error)
            return Contents(None, {})
        self._files[partition] = file
        return contents

    def _flush(self, pending: Mapping[int, _Pending]) -> None:
        for number, changed in pending.items():
            if (file := self._files.get(number)) is None:
                continue
            try:
                if changed.anew:
                    file.rewrite(changed.changes, changed.mark)
                elif file.mark is not None:
                    file.append(changed.changes, changed.mark)
            except _FAULTS as error:
                self._give_up(number, file, error)

    def _touch(self, partitions: set[int]) -> None:
        self._flush(
            {
                number: _Pending(file.mark)
                for number, file in self._files.items()
                if number in partitions and file.mark is not None
            }
        )

    def _let_go(self, partitions: set[int]) -> None:
        for number in partitions:
            self._problems.pop(number, None)
            if (file := self._files.pop(number, None)) is not None:
                file.close()

    def _give_up(self, partition: int, file: CopyFile | None, error: Exception) -> None:
        """Go on without a copy; what is in the file stays usable as of where it was complete."""
        self._files.pop(partition, None)
        path = self.path(partition)
        self._problems[partition] = f"{path}: {error}"
        if file is not None:
            with contextlib.suppress(OSError):
                file.close()
        log.warning(
            "a table has no copy on disk; the worker goes on without, and its next start reads "
            "the changelog instead",
            changelog=f"{self._changelog}[{partition}]",
            file=str(path),
            error=str(error),
            remedy="unless the error says otherwise: make room, or set state_dir to a directory "
            "that can be written; the copy is tried again at the next start",
        )
