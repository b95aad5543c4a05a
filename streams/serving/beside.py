"""The process of `answering`, and its answers, which are kept while they are good enough."""

from __future__ import annotations

import asyncio
import pickle
import sys
from contextlib import suppress
from time import monotonic
from typing import Final, Generic, TypeVar

import structlog

from models.calendar import milliseconds
from streams.serving.answering import LENGTH, message
from streams.serving.looking_ahead import Ahead
from streams.serving.recent_changes import ChangeData
from streams.settings import Settings

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

LEAST_AGE: Final = 15.0
"""Seconds for which an answer is good enough."""

SHARE: Final = 0.05
"""Of the time is spent on a question at most: an answer that took 6 s is good for 2 minutes."""

SETTLE_SECONDS: Final = 60.0
"""In which workers look at everybody again when other parameters or rules hold. To say what they
are about to tell takes as long as to do it: 18 s of a processor for 23,570 customers."""

_PROGRAM: Final = "from streams.serving.answering import main; main()"
"""Not `-m`: what it pickles would be of `__main__`, and unknown here."""

_LARGEST: Final = 16 * 1024 * 1024
"""Bytes of an answer that are read ahead."""


class Beside:
    """The process; it is started with the first question, and takes one at a time."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: asyncio.subprocess.Process | None = None
        self._turn = asyncio.Lock()

    async def ask(self, question: str) -> object:
        """Return what the process answers; a text says why it does not."""
        async with self._turn:
            try:
                return await self._asked(question)
            except (OSError, asyncio.IncompleteReadError):
                await self.close()
                return "the process that sums has ended"

    async def _asked(self, question: str) -> object:
        if self._process is None:
            # In a session of its own: Ctrl-C is for the server, which then ends it.
            self._process = await asyncio.create_subprocess_exec(
                sys.executable, "-c", _PROGRAM,
                stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
                start_new_session=True, limit=_LARGEST,
            )  # fmt: skip
        asking, answering = self._process.stdin, self._process.stdout
        assert asking is not None  # noqa: S101 - it is a pipe.
        assert answering is not None  # noqa: S101 - likewise.
        asking.write(message((question, self._settings)))
        await asking.drain()
        length = int.from_bytes(await answering.readexactly(LENGTH))
        return pickle.loads(await answering.readexactly(length))  # noqa: S301 - of our own process.

    async def close(self) -> None:
        """End the process."""
        process, self._process = self._process, None
        if process is not None:
            with suppress(ProcessLookupError):
                process.kill()
            await process.wait()


class Kept(Generic[Answer]):
    """The latest answer to a question; None before the first one. why: what hindered the last one.

    kind: of the answers.
    """

    def __init__(self, beside: Beside, question: str, kind: type[Answer]) -> None:
        self.latest: Answer | None = None
        self.why = ""
        self._beside = beside
        self._question = question
        self._kind = kind
        self._good_until = 0.0
        self._making: asyncio.Task[None] | None = None

    async def get(self, seconds: float) -> Answer | None:
        """Return the latest answer; wait so long at most for one that is fresh."""
        if self._making is None and monotonic() >= self._good_until:
            self._making = asyncio.create_task(self._make(), name=self._question)
        if self._making is not None:
            await asyncio.wait([self._making], timeout=seconds)
        return self.latest

    async def close(self) -> None:
        """End the wait for an answer."""
        if self._making is not None:
            self._making.cancel()
            await asyncio.gather(self._making, return_exceptions=True)

    async def _make(self) -> None:
        began = monotonic()
        try:
            answer = await self._beside.ask(self._question)
            if isinstance(answer, self._kind):
                self._take(answer)
                self.why = ""
            else:
                self.why = str(answer)
                log.warning("a question has no answer", asked=self._question, error=self.why)
        finally:
            took = monotonic() - began
            self._good_until = monotonic() + max(LEAST_AGE, took / SHARE)
            self._making = None

    def _take(self, answer: Answer) -> None:
        self.latest = answer


class KeptAhead(Kept[Ahead]):
    """The changes to come, without those told since, and without customers who were removed."""

    def __init__(self, beside: Beside) -> None:
        super().__init__(beside, "ahead", Ahead)
        # Since the answer that is being made was asked for.
        self._removed: set[str] = set()
        self._told: dict[tuple[str, str], int] = {}
        self._outdated = False

    def outdate(self) -> None:
        """Make it anew soon: other parameters or rules hold."""
        self._outdated = True
        self._good_until = min(self._good_until, monotonic() + SETTLE_SECONDS)

    def forget(self, customer_id: str) -> None:
        """Keep nothing of a customer who was removed."""
        if self._making is not None:
            self._removed.add(customer_id)
        if self.latest is not None:
            self.latest.changes.pop(customer_id, None)

    def told(self, change: ChangeData) -> None:
        """Keep nothing that comes no more: changes of a dimension are told in their order."""
        which, as_of = (change.customer_id, change.dimension), milliseconds(change.as_of)
        if self._making is not None:
            self._told[which] = as_of
        if self.latest is not None:
            _drop(self.latest, which, as_of)

    async def _make(self) -> None:
        self._removed.clear()
        self._told.clear()
        self._outdated = False
        await super()._make()
        if self._outdated:
            self.outdate()

    def _take(self, answer: Ahead) -> None:
        for customer_id in self._removed:
            answer.changes.pop(customer_id, None)
        for which, as_of in self._told.items():
            _drop(answer, which, as_of)
        super()._take(answer)


def _drop(ahead: Ahead, which: tuple[str, str], until: int) -> None:
    """Drop a customer's changes of a dimension up to a time."""
    customer_id, dimension = which
    listed = ahead.changes.get(customer_id)
    if listed is None:
        return
    # A new list: who reads the old one goes on doing so.
    left = [each for each in listed if each.dimension != dimension or each.at > until]
    if left:
        ahead.changes[customer_id] = left
    else:
        del ahead.changes[customer_id]
