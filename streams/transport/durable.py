"""The copy of a table on local disk: written behind, and never ahead of the broker.

What the broker acknowledged is collected in memory, newest value of a key only, and written by a
thread of its own. Nothing waits for it. A disk that fails costs the copy, never the worker: what
is not in the copy is in the changelog.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import time
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

import structlog

from streams.transport.copyfile import Contents, CopyFile, CopyUnusable, remove_unused
from streams.transport.frames import Changes, Mark
from streams.transport.lease import Term

log = structlog.get_logger(__name__)

_T = TypeVar("_T")

_ERASED = b"\0something was erased"
"""A key that no table has; that it was deleted has the copy written anew before long."""

_FAULTS = (OSError, CopyUnusable)
"""What costs the copy, and nothing else."""

_FLUSH_SECONDS = 0.25
_TOUCH_SECONDS = 600.0
"""How often a copy to which nothing is added says until when it is complete nevertheless."""
ERASED_SECONDS = 60.0
"""How long what was deleted may stay in a copy while the worker runs: many deletions share one
writing anew, which takes about as long as reading the copy at a start."""

LEFT_SECONDS = 3600.0
"""How long a copy stays of a partition that this worker has no longer: another one erases now."""

_LOOK_SECONDS = 60.0
_LOCK_SECONDS = 3.0
"""The worker that had the partition lets its file go when it learns of its new assignment."""


@dataclass(slots=True)
class _Pending:
    """What is not written yet; anew: `changes` are all there is, the file is replaced.

    term: the membership in which it was complete.
    """

    mark: Mark
    term: Term
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
        self._complete: dict[int, Term] = {}
        self._touched = self._looked = time.monotonic()
        self._deleted: dict[int, float] = {}
        self._left: dict[Path, float] = {}
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
        self._complete.pop(partition, None)
        await self.flush()
        return await self._in_thread(lambda: self._open(partition, have))

    def write(self, partition: int, changes: Changes, mark: Mark, term: Term) -> None:
        """Add what the broker acknowledged; returns at once.

        term: the membership since which nobody else wrote to the changelog.
        """
        if partition not in self._files:
            return
        pending = self._pending.get(partition)
        if pending is None:
            pending = self._pending[partition] = _Pending(mark, term)
        pending.changes.update(changes)
        pending.mark, pending.term = mark, term
        self._complete[partition] = term

    def rewrite(self, partition: int, state: Mapping[bytes, bytes], mark: Mark, term: Term) -> None:
        """Replace the copy by a state; returns at once."""
        if partition in self._files:
            self._pending[partition] = _Pending(mark, term, dict(state), anew=True)
            self._complete[partition] = term

    def fell_behind(self, partition: int, why: str) -> None:
        """The changelog went on without this copy, to which nothing is added any more."""
        self._complete.pop(partition, None)
        if partition in self._problems:
            return
        self._problems[partition] = f"{self.path(partition)}: {why}"
        log.warning(
            "the copy of a table is not added to any more; it is again after the next assignment",
            changelog=f"{self._changelog}[{partition}]",
            file=str(self.path(partition)),
            reason=why,
        )

    def erased(self, partition: int) -> None:
        """Something of a value that was replaced must not stay: write the copy anew before long."""
        file, term = self._files.get(partition), self._complete.get(partition)
        if file is None or term is None:
            return
        pending = self._pending.get(partition)
        if pending is None and file.mark is not None:
            pending = self._pending[partition] = _Pending(file.mark, term)
        if pending is not None:
            # In the file it says that a process that comes after us has to do it.
            pending.changes[_ERASED] = None

    async def keep_only(self, partitions: set[int]) -> None:
        """Finish and close the files of all other partitions; another worker may have them."""
        await self.flush()
        others = (self._files.keys() | self._problems.keys()) - partitions
        if others:
            for number in others:
                self._complete.pop(number, None)
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
            if due := self._due():
                await self._in_thread(partial(self._compact, due))
            if time.monotonic() - self._looked >= _LOOK_SECONDS:
                self._looked = time.monotonic()
                await self._in_thread(self._remove_left)
            if time.monotonic() - self._touched >= _TOUCH_SECONDS:
                self._touched = time.monotonic()
                complete = {
                    number: term
                    for number, term in self._complete.items()
                    if number not in self._pending
                }
                await self._in_thread(partial(self._touch, complete))

    async def _in_thread(self, work: Callable[[], _T]) -> _T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, work)

    def _due(self) -> list[int]:
        """The partitions whose copies hold what was deleted for long enough."""
        now = time.monotonic()
        return [n for n, since in self._deleted.items() if now - since >= ERASED_SECONDS]

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
        if file.holds_deleted:
            # It may have been there for long: the worker was stopped, or killed.
            self._deleted[partition] = -math.inf
        return contents

    def _flush(self, pending: Mapping[int, _Pending]) -> None:
        for number, changed in pending.items():
            if (file := self._files.get(number)) is None:
                continue
            try:
                # By the time of its membership: another worker may have the partition since then.
                at = time.time() - changed.term.age
                if changed.anew:
                    changed.changes.pop(_ERASED, None)
                    file.rewrite(changed.changes, changed.mark, at)
                elif file.mark is not None:
                    file.append(changed.changes, changed.mark, at)
            except _FAULTS as error:
                self._give_up(number, file, error)
            else:
                if file.holds_deleted:
                    self._deleted.setdefault(number, time.monotonic())
                elif changed.anew:
                    self._deleted.pop(number, None)

    def _compact(self, partitions: Iterable[int]) -> None:
        """Write these copies anew, without what was replaced and deleted."""
        for number in partitions:
            self._deleted.pop(number, None)
            if (file := self._files.get(number)) is None:
                continue
            try:
                file.compact()
            except _FAULTS as error:
                self._give_up(number, file, error)

    def _remove_left(self) -> None:
        """Remove the copies of partitions that this worker has had no longer for some time."""
        own = {self.path(number) for number in self._files}
        left = set((self.directory / self._changelog).glob("*.copy")) - own
        now = time.monotonic()
        self._left = {path: self._left.get(path, now) for path in left}
        for path, since in self._left.items():
            if now - since < LEFT_SECONDS:
                continue
            try:
                gone = remove_unused(path)
            except OSError as error:
                log.warning(
                    "the copy of a partition that another worker has cannot be removed",
                    file=str(path),
                    error=str(error),
                    remedy="remove it: customers who are erased stay in it",
                )
            else:
                if gone:
                    log.info("the copy of another worker's partition was removed", file=str(path))

    def _touch(self, partitions: Mapping[int, Term]) -> None:
        self._flush(
            {
                number: _Pending(file.mark, partitions[number])
                for number, file in self._files.items()
                if number in partitions and file.mark is not None
            }
        )

    def _let_go(self, partitions: set[int]) -> None:
        self._compact([number for number in partitions if number in self._deleted])
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
