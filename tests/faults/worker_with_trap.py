"""A `clv worker` that can be made to die, or to misread the clock, at a named point of its work.

    python -m tests.faults.worker_with_trap [--at POINT] [--nth N] [--clock-offset MILLISECONDS]

The service's own methods are wrapped from outside. A running worker is armed by the file that
TRAP_FILE names, with the same three as JSON: it looks at it whenever it passes a point. At the
signal TELL it says in its log where all of its tasks wait. The file that CLOCK_FILE names says by
how much the clock of all workers is ahead.
"""

from __future__ import annotations

import argparse
import asyncio
import functools
import inspect
import json
import os
import signal
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from streams import pipeline
from streams.cache.writer import CacheWriter
from streams.cli import main as command_line
from streams.cli.configuration import load_settings
from streams.transport.consumer import BatchConsumer
from streams.transport.producer import StrictProducer
from streams.transport.table import PartitionedStore, PartitionedTable
from tests.faults.limits import standing_in
from tests.faults.processes import CLOCK_FILE, SPRUNG, TELL, TRAP_FILE


class Point(NamedTuple):
    """Where a worker can die: before or after a method's work, if its arguments are such."""

    owner: type
    method: str
    after: bool = False
    applies: Callable[..., bool] = lambda *_args, **_kwargs: True


def _to(topic: str) -> Callable[..., bool]:
    """Whether records are sent to a topic, given by its logical name."""
    name = cache(lambda: getattr(load_settings().topics, topic))
    return lambda _producer, to, *_: bool(to == name())


POINTS: dict[str, Point] = {
    "send": Point(StrictProducer, "send_records"),
    "changelog": Point(PartitionedTable, "send_items"),
    "sent": Point(PartitionedTable, "send_items", after=True),
    "outputs": Point(StrictProducer, "send_records", applies=_to("updates")),
    "changes": Point(StrictProducer, "send_records", applies=_to("segment_changes")),
    "redis": Point(CacheWriter, "submit"),
    "written": Point(CacheWriter, "flush", after=True),
    "commit": Point(BatchConsumer, "_commit_offsets"),
    "committed": Point(BatchConsumer, "_commit_offsets", after=True),
    "recovery": Point(PartitionedStore, "restore"),
    "revoke": Point(BatchConsumer, "on_partitions_revoked"),
    "assign": Point(BatchConsumer, "on_partitions_assigned"),
}
"""In the order of a batch's way.

send: something is with the producer, something is not. changelog: nothing is stored yet. sent: the
records are on their way. outputs: they are stored, and nobody was told. changes: the updates are
on their way, the segment changes are not. redis: everybody was told but Redis. written: Redis
knows, and nothing is acknowledged. commit: all is done, and the offsets are not committed.
recovery: the table is half read.
"""


class Trap:
    """Counts calls of the armed point, and ends the process at the one that was asked for."""

    def __init__(self, file: Path) -> None:
        self.at: str | None = None
        self.left = 0
        self.clock_offset = 0
        self._file = file
        # What was written for a former process is not for this one.
        self._read = self._written()

    def _written(self) -> int:
        try:
            return self._file.stat().st_mtime_ns
        except FileNotFoundError:
            return 0

    def look(self) -> None:
        """Arm as the file says, if it was written since the last look."""
        if (written := self._written()) != self._read:
            self._read = written
            self.arm(**json.loads(self._file.read_text()))

    def arm(self, at: str | None, nth: int, clock_offset: int) -> None:
        """Set the point, which call of it, and how wrong the clock is in milliseconds."""
        if at is not None and at not in POINTS:
            raise ValueError(f"no such point: {at}; there are {', '.join(POINTS)}")
        self.at, self.left, self.clock_offset = at, nth, clock_offset

    def spring(self, point: str) -> None:
        """Note a call of a point."""
        self.look()
        if self.at != point:
            return
        self.left -= 1
        if self.left <= 0:
            self._file.with_suffix(SPRUNG).write_text(point)
            os.kill(os.getpid(), signal.SIGKILL)


class Clock:
    """How wrong the clock of all workers is meant to be."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._read = 0
        self._ahead = 0

    def ahead(self) -> int:
        """Return by how many milliseconds it is ahead; before anybody says so, by none."""
        try:
            written = self._file.stat().st_mtime_ns
        except FileNotFoundError:
            return 0
        if written != self._read:
            self._read, self._ahead = written, int(json.loads(self._file.read_text()))
        return self._ahead


def install(trap: Trap) -> None:
    """Wrap the methods of all points, and the clock."""
    for name, point in POINTS.items():
        wrap(name, point, trap)
    true_now = pipeline._now
    clock = Clock(Path(os.environ[CLOCK_FILE]))

    def wrong_now() -> int:
        trap.look()
        return true_now() + trap.clock_offset + clock.ahead()

    pipeline._now = wrong_now


def wrap(name: str, point: Point, trap: Trap) -> None:
    """Have a method spring the trap before or after its work."""
    method: Callable[..., Any] = getattr(point.owner, point.method)

    def spring(applies: bool) -> None:
        if applies:
            trap.spring(name)

    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def wrapped_async(*args: Any, **kwargs: Any) -> Any:
            spring(not point.after and point.applies(*args, **kwargs))
            result = await method(*args, **kwargs)
            spring(point.after and point.applies(*args, **kwargs))
            return result

        setattr(point.owner, point.method, wrapped_async)
        return

    @functools.wraps(method)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        spring(not point.after and point.applies(*args, **kwargs))
        result = method(*args, **kwargs)
        spring(point.after and point.applies(*args, **kwargs))
        return result

    setattr(point.owner, point.method, wrapped)


def tell(*_: object) -> None:
    """Say where everything waits."""
    for task in list(asyncio.tasks._all_tasks):
        if not task.done():
            print(f"{task.get_name()} waits in\n{standing_in(task)}", file=sys.stderr)
    sys.stderr.flush()


def main() -> None:
    """Run the worker."""
    signal.signal(TELL, tell)
    parser = argparse.ArgumentParser()
    parser.add_argument("--at", choices=POINTS)
    parser.add_argument("--nth", type=int, default=1)
    parser.add_argument("--clock-offset", type=int, default=0)
    arguments = parser.parse_args()
    trap = Trap(Path(os.environ[TRAP_FILE]))
    trap.arm(arguments.at, arguments.nth, arguments.clock_offset)
    install(trap)
    sys.argv = ["clv", "worker"]
    command_line()


if __name__ == "__main__":
    main()
