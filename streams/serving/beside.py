"""The process of `answering`, and its answers, which are kept while they are good enough."""

from __future__ import annotations

import asyncio
import pickle
import sys
from contextlib import suppress
from time import monotonic
from typing import Final, Generic, TypeVar

import structlog

from streams.serving.answering import LENGTH, message
from streams.serving.looking_ahead import Ahead
from streams.settings import Settings

log = structlog.get_logger(__name__)

Answer = TypeVar("Answer")

LEAST_AGE: Final = 15.0
"""Seconds for which an answer is good enough."""

SHARE: Final = 0.05
"""Of the time is spent on a question at most: an answer that took 6 s is good for 2 minutes."""

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
    """The changes to come; of customers who were removed nothing is kept."""

    def __init__(self, beside: Beside) -> None:
        super().__init__(beside, "ahead", Ahead)
        self._removed: set[str] = set()
        """Since the answer that is being made was asked for."""

    def forget(self, customer_id: str) -> None:
        """Keep nothing of a customer who was removed."""
        if self._making is not None:
            self._removed.add(customer_id)
        if self.latest is not None:
            self.latest.changes.pop(customer_id, None)

    async def _make(self) -> None:
        self._removed.clear()
        await super()._make()

    def _take(self, answer: Ahead) -> None:
        for customer_id in self._removed:
            answer.changes.pop(customer_id, None)
        super()._take(answer)
