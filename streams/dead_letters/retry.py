"""Sending refused records again, to where they came from.

A letter is sent, acknowledged by the broker, and then noted as sent, in this order: whoever stops
in between sends it once more the next time, and the workers know it by its ids.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any, NamedTuple, Self

from aiokafka import AIOKafkaProducer
from aiokafka.errors import MessageSizeTooLargeError

from models.contracts.dead_letters import CORRECTED, RETRIED_FROM, DeadLetter, retried_note
from streams.connection import Broker
from streams.dead_letters.corrections import Correction, CorrectionFailed, corrected
from streams.dead_letters.letter import Letter
from streams.dead_letters.reading import Entry
from streams.dead_letters.verdict import Verdict, judge
from streams.settings import Settings
from streams.topics import home_partition

CHUNK = 500
"""Letters that are sent, and then noted, at once: as many may be sent twice after a kill."""

_LARGEST_REQUEST = 8 * 1024 * 1024


class Outcome(StrEnum):
    """What became of a letter."""

    SENT = "sent"
    WOULD_BE_SENT = "would be sent"
    RETRIED_BEFORE = "retried before"
    REFUSED = "refused"
    """It would be refused again, or nobody can say."""
    IMPOSSIBLE = "impossible"
    """It cannot be sent, even by force."""


class Sent(NamedTuple):
    """What became of a letter, and why; to: "topic[partition]" that it is sent to."""

    letter: Letter
    outcome: Outcome
    why: str = ""
    to: str = ""


class _Impossible(Exception):
    """A letter cannot be sent; the text says why."""


class _Outgoing(NamedTuple):
    letter: Letter
    topic: str
    partition: int
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    why: str

    def told(self, outcome: Outcome) -> Sent:
        return Sent(self.letter, outcome, self.why, f"{self.topic}[{self.partition}]")


class Retry:
    """Sends letters again; an async context manager.

    counts: partitions of each topic at the broker. force: also what would be refused again, and
    what was sent before. dry: nothing is sent.
    """

    def __init__(
        self,
        broker: Broker,
        settings: Settings,
        counts: Mapping[str, int],
        *,
        corrections: Sequence[Correction] = (),
        force: bool = False,
        dry: bool = False,
    ) -> None:
        self._settings = settings
        self._counts = counts
        self._corrections = corrections
        self._force = force
        self._dry = dry
        self._waiting: list[_Outgoing] = []
        self._producer = AIOKafkaProducer(
            **broker.client_options(), acks="all", max_request_size=_LARGEST_REQUEST
        )

    async def __aenter__(self) -> Self:
        await self._producer.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self._producer.stop()

    async def add(self, entry: Entry) -> list[Sent]:
        """Take a letter; returns what became of letters since the last call, once it is known."""
        decided = self._decide(entry)
        if isinstance(decided, Sent):
            return [decided]
        if self._dry:
            return [decided.told(Outcome.WOULD_BE_SENT)]
        self._waiting.append(decided)
        return await self.finish() if len(self._waiting) >= CHUNK else []

    async def finish(self) -> list[Sent]:
        """Send what was taken and not sent yet, and note it."""
        waiting, self._waiting = self._waiting, []
        deliveries = [await self._send(outgoing) for outgoing in waiting]
        done = await asyncio.gather(*(_delivered(delivery) for delivery in deliveries))
        notes = [
            await self._producer.send(
                outgoing.letter.topic,
                partition=outgoing.letter.partition,
                # aiokafka asks for a key or a value.
                key=b"",
                headers=retried_note(*outgoing.letter.place),
            )
            for outgoing, why in zip(waiting, done, strict=True)
            if not why
        ]
        await asyncio.gather(*notes)
        return [
            outgoing.told(Outcome.SENT)
            if not why
            else Sent(outgoing.letter, Outcome.IMPOSSIBLE, why)
            for outgoing, why in zip(waiting, done, strict=True)
        ]

    def _decide(self, entry: Entry) -> _Outgoing | Sent:
        letter = entry.letter
        if entry.retried and not self._force:
            why = "it was sent again before; --force does so once more"
            return Sent(letter, Outcome.RETRIED_BEFORE, why)
        try:
            refused = self._origin(letter)
            value = corrected(letter, self._corrections)
            verdict = judge(letter, value, self._settings, time.time_ns() // 1_000_000)
            if verdict.outcome != "accepted" and not self._force:
                return Sent(letter, Outcome.REFUSED, str(verdict))
            partition = self._partition(letter, refused, verdict)
        except (CorrectionFailed, _Impossible) as error:
            return Sent(letter, Outcome.IMPOSSIBLE, str(error))
        return _Outgoing(
            letter, refused.topic, partition, value, self._headers(letter), str(verdict)
        )

    def _origin(self, letter: Letter) -> DeadLetter:
        """Where the record came from, if all of the record is there to be sent again."""
        if letter.refused is None:
            raise _Impossible(letter.message)
        if letter.cut_from is not None:
            kept, had = len(letter.value or b""), letter.cut_from
            left = letter.missing or f"only the first {kept} of its {had} bytes were kept"
            raise _Impossible(f"{left}; have its publisher send it again")
        if letter.key is None and letter.value is None:
            raise _Impossible("it has neither key nor value")
        topic = letter.refused.topic
        if topic not in self._own_topics() or topic not in self._counts:
            raise _Impossible(
                f"it came from {topic}, which is no topic of this service; see CLV_TOPICS__…"
            )
        return letter.refused

    def _own_topics(self) -> tuple[str, ...]:
        topics = self._settings.topics
        return (*topics.inputs, topics.clock, topics.identity)

    def _partition(self, letter: Letter, refused: DeadLetter, verdict: Verdict) -> int:
        """Where the customer is at home; what is no event goes where it was."""
        topic = refused.topic
        count = self._counts[topic]
        key = letter.key if verdict.customer is None else verdict.customer.encode()
        if key and topic in self._settings.topics.inputs:
            return home_partition(key, count)
        if refused.partition >= count:
            raise _Impossible(f"it came from {letter.came_from}; {topic} has {count} partitions")
        return refused.partition

    def _headers(self, letter: Letter) -> list[tuple[str, bytes | None]]:
        headers = [*letter.headers, (RETRIED_FROM, letter.where.encode())]
        if self._corrections:
            fields = ",".join(correction.field for correction in self._corrections)
            headers.append((CORRECTED, fields.encode()))
        return headers

    async def _send(self, outgoing: _Outgoing) -> asyncio.Future[Any] | MessageSizeTooLargeError:
        try:
            delivery: asyncio.Future[Any] = await self._producer.send(
                outgoing.topic,
                outgoing.value,
                key=outgoing.letter.key,
                partition=outgoing.partition,
                headers=outgoing.headers,
            )
        except MessageSizeTooLargeError as error:
            return error
        return delivery


async def _delivered(delivery: asyncio.Future[Any] | MessageSizeTooLargeError) -> str:
    """Why the broker did not take a record for its size, or nothing; other failures are raised."""
    if isinstance(delivery, MessageSizeTooLargeError):
        return f"it is too large to be sent: {delivery}"
    try:
        await delivery
    except MessageSizeTooLargeError as error:
        return f"the broker did not take it for its size: {error}"
    return ""
