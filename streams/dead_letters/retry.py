"""Sending refused records again, to where they came from.

A letter is sent, acknowledged by the broker, and then noted as sent, in this order: whoever stops
in between sends it once more the next time, and the workers know it by its ids.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, NamedTuple

from models.contracts.dead_letters import CORRECTED, RETRIED_FROM, DeadLetter, retried_note
from models.errors import ClvError
from streams.dead_letters.corrections import Correction, CorrectionFailed, corrected
from streams.dead_letters.letter import Letter
from streams.dead_letters.reading import Entry, Place
from streams.dead_letters.selection import Selection
from streams.dead_letters.verdict import Verdict, judge
from streams.kafka.errors import MessageSizeTooLargeError
from streams.kafka.partitions import TopicPartition, home_partition
from streams.kafka.writing import Outgoing, RecordWriter
from streams.settings import Settings

CHUNK = 500
"""Letters that are sent, and then noted, at once: as many may be sent twice after a kill."""


class Outcome(StrEnum):
    """What became of a letter."""

    SENT = "sent"
    WOULD_BE_SENT = "would be sent"
    RETRIED_BEFORE = "retried before"
    REFUSED = "refused"
    """It would be refused again, or nobody can say."""
    NOTICE = "left out"
    """It was not refused, so that there is nothing to send."""
    IMPOSSIBLE = "impossible"
    """It cannot be sent, even by force."""


class Sent(NamedTuple):
    """What became of a letter, and why; to: "topic[partition]" that it is sent to."""

    letter: Letter
    outcome: Outcome
    why: str = ""
    to: str = ""


class _Impossible(ClvError):
    """A letter cannot be sent; the text says why."""


class _Sending(NamedTuple):
    letter: Letter
    topic: str
    partition: int
    value: bytes | None
    headers: list[tuple[str, bytes | None]]
    why: str

    def told(self, outcome: Outcome) -> Sent:
        return Sent(self.letter, outcome, self.why, f"{self.topic}[{self.partition}]")


@dataclass
class Retry:
    """Sends letters again.

    counts: partitions of each topic at the broker. force: also what would be refused again, and
    what was sent before. dry: nothing is sent.
    """

    writer: RecordWriter
    settings: Settings
    counts: Mapping[str, int]
    corrections: Sequence[Correction] = ()
    force: bool = False
    dry: bool = False
    _waiting: list[_Sending] = field(default_factory=list, init=False)

    async def add(self, entry: Entry) -> list[Sent]:
        """Take a letter; returns what became of letters since the last call, once it is known."""
        decided = self._decide(entry)
        if isinstance(decided, Sent):
            return [decided]
        if self.dry:
            return [decided.told(Outcome.WOULD_BE_SENT)]
        self._waiting.append(decided)
        return await self.finish() if len(self._waiting) >= CHUNK else []

    async def finish(self) -> list[Sent]:
        """Send what was taken and not sent yet, and note it."""
        waiting, self._waiting = self._waiting, []
        deliveries = [await self._send(outgoing) for outgoing in waiting]
        done = await asyncio.gather(*(_delivered(delivery) for delivery in deliveries))
        notes = [
            await self.writer.send(
                TopicPartition(outgoing.letter.topic, outgoing.letter.partition),
                # aiokafka asks for a key or a value.
                Outgoing(b"", None, retried_note(*outgoing.letter.place)),
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

    def _decide(self, entry: Entry) -> _Sending | Sent:
        letter = entry.letter
        if letter.is_notice:
            why = "it is a notice: the event was processed; its publisher must send what is right"
            return Sent(letter, Outcome.NOTICE, why)
        if entry.retried and not self.force:
            why = "it was sent again before; --force does so once more"
            return Sent(letter, Outcome.RETRIED_BEFORE, why)
        try:
            refused = self._origin(letter)
            value = corrected(letter, self.corrections)
            verdict = judge(letter, value, self.settings, time.time_ns() // 1_000_000)
            if verdict.outcome != "accepted" and not self.force:
                return Sent(letter, Outcome.REFUSED, str(verdict))
            partition = self._partition(letter, refused, verdict)
        except (CorrectionFailed, _Impossible) as error:
            return Sent(letter, Outcome.IMPOSSIBLE, str(error))
        return _Sending(
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
        topic, ours = letter.refused.topic, self.settings.topics
        if topic not in (*ours.inputs, ours.clock, ours.identity) or topic not in self.counts:
            raise _Impossible(
                f"it came from {topic}, which is no topic of this service; see CLV_TOPICS__…"
            )
        return letter.refused

    def _partition(self, letter: Letter, refused: DeadLetter, verdict: Verdict) -> int:
        """Where the customer is at home; what is no event goes where it was."""
        topic = refused.topic
        count = self.counts[topic]
        key = letter.key if verdict.customer is None else verdict.customer.encode()
        if key and topic in self.settings.topics.inputs:
            return home_partition(key, count)
        if refused.partition >= count:
            raise _Impossible(f"it came from {letter.came_from}; {topic} has {count} partitions")
        return refused.partition

    def _headers(self, letter: Letter) -> list[tuple[str, bytes | None]]:
        headers = [*letter.headers, (RETRIED_FROM, letter.where.encode())]
        if self.corrections:
            fields = ",".join(correction.field for correction in self.corrections)
            headers.append((CORRECTED, fields.encode()))
        return headers

    async def _send(self, outgoing: _Sending) -> asyncio.Future[Any] | MessageSizeTooLargeError:
        try:
            return await self.writer.send(
                TopicPartition(outgoing.topic, outgoing.partition),
                Outgoing(outgoing.letter.key, outgoing.value, outgoing.headers),
            )
        except MessageSizeTooLargeError as error:
            return error


async def send_chosen(
    retry: Retry,
    found: AsyncIterator[Entry],
    chosen: Selection,
    told: Callable[[Sequence[Sent]], None],
    *,
    asked_for: bool,
) -> set[Place]:
    """Send the chosen letters of those found; return the places that were chosen and not found.

    told: called with what became of letters as soon as it is known. asked_for: somebody has named
    them, so that those that were sent before are told too.
    """
    missing = set(chosen.places)
    async for entry in found:
        if entry.letter not in chosen or (entry.retried and not asked_for and not retry.force):
            continue
        missing.discard(entry.letter.place)
        told(await retry.add(entry))
    told(await retry.finish())
    return missing


async def _delivered(delivery: asyncio.Future[Any] | MessageSizeTooLargeError) -> str:
    """Why the broker did not take a record for its size, or nothing; other failures are raised."""
    if isinstance(delivery, MessageSizeTooLargeError):
        return f"it is too large to be sent: {delivery}"
    try:
        await delivery
    except MessageSizeTooLargeError as error:
        return f"the broker did not take it for its size: {error}"
    return ""
