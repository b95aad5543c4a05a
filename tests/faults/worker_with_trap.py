"""A `clv worker` that can be made to die, or to misread the clock, at a named point of its work.

    python -m tests.faults.worker_with_trap [--at POINT] [--nth N] [--clock-offset MILLISECONDS]

The service's own methods are wrapped from outside. A running worker is armed by the file that
TRAP_FILE names, with the same three as JSON: it looks at it whenever it passes a point.
"""

from __future__ import annotations

import argparse
import functools
import inspect
import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from streams import pipeline
from streams.cache import CacheWriter
from streams.cli import main as command_line
from streams.transport import BatchConsumer, PartitionedStore, PartitionedTable, StrictProducer
from tests.faults.processes import TRAP_FILE

POINTS: dict[str, tuple[type, str]] = {
    "send": (StrictProducer, "send_records"),
    "changelog": (PartitionedTable, "send_items"),
    "redis": (CacheWriter, "submit"),
    "commit": (BatchConsumer, "_commit_offsets"),
    "committed": (BatchConsumer, "_commit_offsets"),
    "recovery": (PartitionedStore, "restore"),
    "revoke": (BatchConsumer, "on_partitions_revoked"),
    "assign": (BatchConsumer, "on_partitions_assigned"),
}
"""Where a worker can die: when the method is called; `committed`: when it has returned.

send: some outputs are with the producer, some not. changelog: the outputs are at the broker, the
records that caused them are not. redis: the changelog is at the broker, Redis does not know.
commit: all is done, and the offsets are not committed. recovery: the table is half read.
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
            os.kill(os.getpid(), signal.SIGKILL)


def install(trap: Trap) -> None:
    """Wrap the methods of all points, and the clock."""
    for point, (owner, name) in POINTS.items():
        wrap(owner, name, point, trap)
    true_now = pipeline._now

    def wrong_now() -> int:
        trap.look()
        return true_now() + trap.clock_offset

    pipeline._now = wrong_now


def wrap(owner: type, name: str, point: str, trap: Trap) -> None:
    """Have a method spring the trap before it runs, or after it for `committed`."""
    method: Callable[..., Any] = getattr(owner, name)
    if point == "committed":

        @functools.wraps(method)
        async def after(*args: Any, **kwargs: Any) -> Any:
            result = await method(*args, **kwargs)
            trap.spring(point)
            return result

        setattr(owner, name, after)
        return

    if inspect.iscoroutinefunction(method):

        @functools.wraps(method)
        async def before_async(*args: Any, **kwargs: Any) -> Any:
            trap.spring(point)
            return await method(*args, **kwargs)

        setattr(owner, name, before_async)
        return

    @functools.wraps(method)
    def before(*args: Any, **kwargs: Any) -> Any:
        trap.spring(point)
        return method(*args, **kwargs)

    setattr(owner, name, before)


def main() -> None:
    """Run the worker."""
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
