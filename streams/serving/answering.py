"""The process that looks at all customers together, beside the server.

It takes a second of a processor for some 30,000 customers, in which a server would not answer. So a
process of its own does it: `main` reads a question on its input, answers on its output, and ends
with its input.
"""

from __future__ import annotations

import asyncio
import logging
import pickle
import sys
from collections.abc import Awaitable, Callable
from typing import BinaryIO, Final

from models.errors import ClvError
from streams.kafka.errors import KafkaError
from streams.serving.looking_ahead import ahead
from streams.serving.summing import summed
from streams.settings import Settings

LENGTH: Final = 8
"""Bytes before each message that say how long it is."""

ANSWERS: Final[dict[str, Callable[[Settings], Awaitable[object]]]] = {
    "sums": summed,
    "ahead": ahead,
}
"""What answers each question."""


def message(content: object) -> bytes:
    """Return an object as one process sends it to the other."""
    data = pickle.dumps(content)
    return len(data).to_bytes(LENGTH) + data


def _received(file: BinaryIO) -> tuple[str, Settings] | None:
    """Return the next question; None at the end."""
    head = file.read(LENGTH)
    if len(head) < LENGTH:
        return None
    found: tuple[str, Settings] = pickle.loads(file.read(int.from_bytes(head)))  # noqa: S301 - our parent's.
    return found


async def _answer(question: str, settings: Settings) -> object:
    return await ANSWERS[question](settings)


def main() -> None:
    """Answer questions until there are no more; by the name of an error if there was one."""
    logging.basicConfig(level=logging.CRITICAL)
    while (asked := _received(sys.stdin.buffer)) is not None:
        try:
            answer = asyncio.run(_answer(*asked))
        except (KafkaError, OSError, ClvError) as error:
            answer = type(error).__name__
        sys.stdout.buffer.write(message(answer))
        sys.stdout.buffer.flush()
