"""The copy of a table on local disk: written in the background, and never ahead of the broker.

Acknowledged changes are collected in memory, the newest value of each key, and written by a thread.
Nothing waits for it. If the disk fails, the worker goes on without the copy: the changelog has
everything.
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
"""A key that no table has. Its deletion in a copy says that the copy has to be compacted soon."""

_FAULTS = (OSError, CopyUnusable)
"""Errors after which the worker goes on without the copy."""

_FLUSH_SECONDS = 0.25
_TOUCH_SECONDS = 600.0
"""How often an unchanged copy gets a new time until which it is complete."""
ERASED_SECONDS = 60.0
"""How long deleted values may stay in a copy while the worker runs. Many deletions share one
compaction, which takes about as long as reading the copy at a start."""

LEFT_SECONDS = 3600.0
"""How long the copy of a lost partition stays: this worker no longer hears of erasures in it."""

_LOOK_SECONDS = 60.0
_LOCK_SECONDS = 3.0
"""How long to wait for the former worker, which releases the file at its next assignment."""


@dataclass(slots=True)
class _Pending:
    """Changes that are not written yet; whole: they are the whole state, and replace the file.

    term: the membership in which they were complete.
    """

    mark: Mark
    term: Term
    changes: dict[bytes, bytes | None] = field(default_factory=dict)
    whole: bool = False


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
        """Whether every partition of this worker has a copy."""
        return not self._problems

    @property
    def problems(self) -> Mapping[int, str]:
        """Problems by partition."""
        return self._problems

    def path(self, partition: int) -> Path:
        """Return the path of a partition's copy."""
        return self.directory / self._changelog / f"{partition}.copy"

    async def open(self, partition: int, have: Mark | None) -> Contents:
        """Open the copy of a partition, and read it unless memory is as complete.

        have: the mark of memory. A result without a mark: there is no usable copy.
        """
        if self._writing is None:
            self._writing = asyncio.create_task(self._write_behind())
        self._complete.pop(partition, None)
        await self.flush()
        return await self._in_thread(lambda: self._open(partition, have))

    def write(self, partition: int, changes: Changes, mark: Mark, term: Term) -> None:
        """Add acknowledged changes; returns at once.

        term: the membership since which no other worker has written to the changelog.
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
            self._pending[partition] = _Pending(mark, term, dict(state), whole=True)
            self._complete[partition] = term

    def fell_behind(self, partition: int, why: str) -> None:
        """Stop adding to a copy that lacks a part of the changelog."""
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
        """Have the copy compacted soon: it may contain former values that were erased."""
        file, term = self._files.get(partition), self._complete.get(partition)
        if file is None or term is None:
            return
        pending = self._pending.get(partition)
        if pending is None and file.mark is not None:
            pending = self._pending[partition] = _Pending(file.mark, term)
        if pending is not None:
            # The key in the file tells the next process to do it, if this one does not.
            pending.changes[_ERASED] = None

    async def keep_only(self, partitions: set[int]) -> None:
        """Finish and close the files of all other partitions, which other workers may have now."""
        await self.flush()
        others = (self._files.keys() | self._problems.keys()) - partitions
        if others:
            for number in others:
                self._complete.pop(number, None)
            await self._in_thread(lambda: self._let_go(others))

    async def flush(self) -> None:
        """Wait until everything added so far is written."""
        if pending := self._pending:
            # Taken away here, so that nothing is added while the thread reads it.
            self._pending = {}
            await self._in_thread(lambda: self._flush(pending))

    async def close(self) -> None:
        """Write pending changes, and close all files."""
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
            deleted, now = self._deleted.items(), time.monotonic()
            if due := [n for n, since in deleted if now - since >= ERASED_SECONDS]:
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

    # The methods below run in the thread.

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
            # It may have been waiting for long, since the worker was stopped or killed.
            self._deleted[partition] = -math.inf
        return contents

    def _flush(self, pending: Mapping[int, _Pending]) -> None:
        for number, changed in pending.items():
            if (file := self._files.get(number)) is None:
                continue
            try:
                # The time until which no other worker can have had the partition.
                at = time.time() - changed.term.age
                if changed.whole:
                    changed.changes.pop(_ERASED, None)
                    file.rewrite(changed.changes, changed.mark, at)
                elif file.mark is not None:
                    file.append(changed.changes, changed.mark, at)
            except _FAULTS as error:
                self._give_up(number, file, error)
            else:
                if file.holds_deleted:
                    self._deleted.setdefault(number, time.monotonic())
                elif changed.whole:
                    self._deleted.pop(number, None)

    def _compact(self, partitions: Iterable[int]) -> None:
        """Compact these copies: drop replaced and deleted values."""
        for number in partitions:
            self._deleted.pop(number, None)
            if (file := self._files.get(number)) is None:
                continue
            try:
                file.compact()
            except _FAULTS as error:
                self._give_up(number, file, error)

    def _remove_left(self) -> None:
        """Remove the copies of partitions that this worker lost more than LEFT_SECONDS ago."""
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
        """Go on without a copy; the file stays usable as of its mark."""
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
