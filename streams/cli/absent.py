"""What can be said of a customer who is not in the cache: events of theirs that were refused."""

from __future__ import annotations

import asyncio
import shlex
from typing import NamedTuple

from models.errors import ClvError
from streams.cli.configuration import need_broker
from streams.cli.worker import describe
from streams.dead_letters.letter import Letter, glance
from streams.dead_letters.reading import DeadLetters
from streams.kafka.errors import KafkaError
from streams.settings import Settings

RECORDS = 1_000
"""Records at the end of each partition that are looked at."""

SECONDS = 20.0
"""How long the broker may take."""

SHOWN = 3


class _Found(NamedTuple):
    """How many letters of a customer there are, and the newest."""

    number: int
    newest: list[Letter]


async def refusals_of(settings: Settings, customer: str) -> list[str]:
    """Return lines on what was refused of a customer lately, and what to do.

    If the dead letters cannot be read, a line says why.
    """
    topic = settings.topics.dead_letters
    if settings.broker is None:
        return [
            "with CLV_BROKER set, the command also looks for events of theirs that were refused"
        ]
    try:
        async with asyncio.timeout(SECONDS):
            found = await _latest(settings, customer)
    except TimeoutError:
        return [f"{topic} was not read within {SECONDS:g} s, so events may have been refused"]
    except (KafkaError, ClvError, OSError) as error:
        return [f"{topic} could not be read, so events may have been refused: {describe(error)}"]
    looked = f"the last {RECORDS:,} records of each partition of {topic}"
    if not found.number:
        return [f"no event of theirs that waits for a retry is among {looked}"]
    return [
        f"refused events of theirs among {looked}: {found.number}",
        *(
            f"  {letter.id}  {letter.time:%Y-%m-%d %H:%M:%S}  {letter.reason}: {letter.message}"
            for letter in found.newest
        ),
        f"`clv dead-letters list --customer {shlex.quote(customer)}` lists them",
        "docs/dead-letters.md says what to do for each reason",
    ]


async def _latest(settings: Settings, customer: str) -> _Found:
    letters = DeadLetters(need_broker(settings), settings.topics.dead_letters, most=RECORDS)
    await letters.prepare()
    number = 0
    newest: list[Letter] = []
    async for letter, retried in letters.entries():
        if not retried and not letter.is_notice and glance(letter).customer == customer:
            number += 1
            newest = sorted([*newest, letter], key=lambda each: each.timestamp)[-SHOWN:]
    return _Found(number, newest)
