"""Workers as processes, and a supervisor that starts each again when it has ended."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from streams.transport.lease import FENCED
from tests.faults.ends import Ended, last_words
from tests.faults.processes import SPRUNG, TELL, TRAP_FILE, Process

END_SECONDS = 40.0
TELL_SECONDS = 0.5
RESTART_SECONDS = 0.2
"""Between the end of a worker and the next start, as a supervisor has it."""

ENDS = "ends"
"""Where logs are kept of processes that ended though nobody asked."""


@dataclass
class Slot:
    """A place for one worker: while it is wanted, a process that has ended is started again."""

    number: int
    directory: Path
    environment: Mapping[str, str]
    command: list[str]
    on_end: Callable[[Ended], None]
    process: Process | None = None
    next_arguments: list[str] = field(default_factory=list)
    """Of the next start only."""
    may_start: asyncio.Event = field(default_factory=asyncio.Event)
    _asked: set[int] = field(default_factory=set)
    """Statuses with which the running process may end, as it was sent a signal."""
    _task: asyncio.Task[None] | None = None

    @property
    def log(self) -> Path:
        """The log of all its processes."""
        return self.directory / f"worker-{self.number}.log"

    @property
    def running(self) -> bool:
        """Whether a process runs now."""
        return self.process is not None and self.process.status is None

    def start(self) -> None:
        """Keep a worker running from now on."""
        self.may_start.set()
        if self._task is None:
            self._task = asyncio.create_task(self._keep_running())

    async def stop(self, *, kill: bool = False) -> int | None:
        """Keep none running any more; returns the exit status, None if there was no process."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
        process, self.process = self.process, None
        if process is None or process.status is not None:
            return None
        if kill:
            await process.kill()
            return -signal.SIGKILL
        return await process.stop()

    def kill(self) -> None:
        """End its process at once; the supervisor starts another."""
        if self.process is not None:
            self._asked.add(-signal.SIGKILL)
            self.process.signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask its process to end; the supervisor starts another."""
        if self.process is not None:
            # By the signal itself, if that comes before the worker listens for it.
            self._asked |= {0, -signal.SIGTERM}
            self.process.signal(signal.SIGTERM)

    def freeze(self) -> None:
        """Stop it in mid-work."""
        if self.process is not None:
            self.process.freeze()

    def thaw(self) -> None:
        """Let it go on."""
        if self.process is not None:
            self.process.thaw()

    def arm(self, at: str | None = None, nth: int = 1, clock_offset: int = 0) -> None:
        """Have the running process die at the nth call of a point, or misread the clock."""
        trap = {"at": at, "nth": nth, "clock_offset": clock_offset}
        self._sprung_file.unlink(missing_ok=True)
        draft = self._trap_file.with_suffix(".draft")
        draft.write_text(json.dumps(trap))
        draft.rename(self._trap_file)

    def sprung(self) -> str | None:
        """The point at which its last trap sprang, if it did."""
        return self._sprung_file.read_text() if self._sprung_file.exists() else None

    @property
    def _sprung_file(self) -> Path:
        return self._trap_file.with_suffix(SPRUNG)

    @property
    def _trap_file(self) -> Path:
        return self.directory / f"trap-{self.number}.json"

    async def _keep_running(self) -> None:
        environment = {**self.environment, TRAP_FILE: str(self._trap_file)}
        life = 0
        while True:
            await self.may_start.wait()
            life += 1
            self._asked.clear()
            former = self.log.stat().st_size if self.log.exists() else 0
            arguments, self.next_arguments = self.next_arguments, []
            command = [sys.executable, "-m", *self.command, *arguments]
            self.process = await Process.start(command, self.log, environment)
            status = await self.process.process.wait()
            self.on_end(self._ended(status, former, life))
            await asyncio.sleep(RESTART_SECONDS)

    def _ended(self, status: int, former: int, life: int) -> Ended:
        """Note an end; keeps the log of this life, after `former` bytes, if nobody asked for it."""
        at = time.monotonic()
        trapped = status == -signal.SIGKILL and self.sprung() is not None
        if trapped or status in self._asked:
            return Ended(self.number, status, at)
        log = self.log.read_bytes()[former:]
        kept = self.directory / ENDS
        kept.mkdir(exist_ok=True)
        (kept / f"worker-{self.number}-life-{life}-status-{status}.log").write_bytes(log)
        words = last_words(log.decode(errors="replace"))
        return Ended(self.number, status, at, asked=False, words=words)


class Fleet:
    """So many workers of one group."""

    def __init__(
        self,
        directory: Path,
        environment: Mapping[str, str],
        command: list[str],
        *,
        shared_state: bool = False,
    ) -> None:
        self.directory = directory
        self.environment = dict(environment)
        self.command = command
        self.shared_state = shared_state
        self.slots: list[Slot] = []
        self.ended: list[Ended] = []
        self._waiting: defaultdict[int, list[asyncio.Future[Ended]]] = defaultdict(list)

    def resize(self, count: int) -> Callable[[], Awaitable[object]]:
        """Have so many workers; returns what waits for those that are too many to have ended."""
        while len(self.slots) < count:
            number, environment = len(self.slots), dict(self.environment)
            if "CLV_STATE_DIR" in environment and not self.shared_state:
                environment["CLV_STATE_DIR"] += f"/{number}"
            slot = Slot(number, self.directory, environment, self.command, self._on_end)
            self.slots.append(slot)
            slot.start()
        surplus = [self.slots.pop() for _ in range(len(self.slots) - count)]

        async def gone() -> object:
            return await asyncio.gather(*(slot.stop() for slot in surplus))

        return gone

    def _on_end(self, ended: Ended) -> None:
        self.ended.append(ended)
        for waiting in self._waiting.pop(ended.slot, []):
            if not waiting.done():
                waiting.set_result(ended)

    async def dies_at(
        self, slot: Slot, died: Awaitable[Ended], point: str | None = None, nth: int = 1
    ) -> None:
        """Wait for an end that was asked for with `next_end`, which a trap must have brought.

        point, nth: the trap, set again where the group gave the worker up before it sprang.

        Raises
        ------
        AssertionError
            if it does not come in time, or came without the trap.
        """
        ended = await died
        while ended.status == FENCED and point is not None:
            slot.arm()
            slot.next_arguments = ["--at", point, "--nth", str(nth)]
            ended = await self.next_end(slot.number)
        if ended.status != -signal.SIGKILL or slot.sprung() is None:
            raise AssertionError(
                f"worker {slot.number} was to die in a trap; it ended with {ended.status}: "
                f"{ended.words or 'as it was asked to'}"
            )

    def next_end(self, slot: int) -> Awaitable[Ended]:
        """What waits for the next end of a slot's process, counted from the call."""
        waiting: asyncio.Future[Ended] = asyncio.get_running_loop().create_future()
        self._waiting[slot].append(waiting)
        return self._wait_for_end(slot, waiting)

    async def _wait_for_end(self, slot: int, waiting: asyncio.Future[Ended]) -> Ended:
        try:
            return await asyncio.wait_for(waiting, END_SECONDS)
        except TimeoutError:
            raise AssertionError(
                f"worker {slot} was to end, and has not within {END_SECONDS:g} s"
            ) from None

    def normal(self) -> None:
        """Thaw everything, let everything start, and disarm all traps."""
        for slot in self.slots:
            slot.thaw()
            slot.next_arguments = []
            slot.arm()
            slot.may_start.set()

    async def stop(self) -> None:
        """End all workers at once."""
        slots, self.slots = self.slots, []
        await asyncio.gather(*(slot.stop(kill=True) for slot in slots))

    async def tell(self) -> None:
        """Have the workers say in their logs where all of their tasks wait."""
        for slot in self.slots:
            if slot.process is not None:
                slot.process.signal(TELL)
        await asyncio.sleep(TELL_SECONDS)

    def memory(self) -> int:
        """Bytes that all workers hold together."""
        return sum(slot.process.memory() for slot in self.slots if slot.process is not None)

    def peak(self) -> int:
        """Bytes that the largest of the running workers has held at most."""
        running = [slot.process for slot in self.slots if slot.process is not None]
        return max((process.peak() for process in running), default=0)

    def tails(self, lines: int = 15) -> str:
        """The ends of the workers' logs."""
        return "\n".join(
            f"--- {slot.log.name} ---\n{slot.process.tail(lines)}"
            for slot in self.slots
            if slot.process is not None
        )
