"""Sending dead letters again, for those who may write."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from http import HTTPStatus
from typing import Final

import structlog

from streams.dead_letters.reading import DeadLetters, LettersMissing, Place
from streams.dead_letters.retry import Outcome, Retry, Sent, send_chosen
from streams.dead_letters.selection import Selection, parse_place
from streams.kafka.connection import Broker
from streams.kafka.errors import ClusterAuthorizationFailedError, TopicAuthorizationFailedError
from streams.kafka.writing import record_writer
from streams.serving.operations import Looks
from streams.serving.problems import Problem
from streams.settings import Settings

log = structlog.get_logger(__name__)

LETTERS: Final = 500
"""That one request may name."""

_RECORDS: Final = 5_000
"""At the end of each partition, among which they are looked for."""


class Retries:
    """Sends letters again by the code of `clv dead-letters retry`, one request at a time."""

    def __init__(self, broker: Broker, settings: Settings, looks: Looks) -> None:
        self._broker = broker
        self._settings = settings
        self._looks = looks
        self._lock = asyncio.Lock()

    def places(self, ids: Collection[str]) -> frozenset[Place]:
        """Return the places of letters, "partition/offset" each. Errors: Problem."""
        topic = self._settings.topics.dead_letters
        if not 1 <= len(ids) <= LETTERS:
            raise Problem(
                HTTPStatus.UNPROCESSABLE_ENTITY, f"name 1 to {LETTERS} letters, not {len(ids)}"
            )
        try:
            return frozenset(parse_place(each, topic) for each in ids)
        except ValueError as error:
            raise Problem(HTTPStatus.UNPROCESSABLE_ENTITY, f"letters: {error}") from None

    async def send(self, places: frozenset[Place]) -> list[Sent]:
        """Send letters again if they would be accepted now; return what became of them.

        Those that are not there are left out. Errors: Problem, KafkaError, OSError.
        """
        found: list[Sent] = []
        async with self._lock:
            letters = DeadLetters(self._broker, self._settings.topics.dead_letters, most=_RECORDS)
            try:
                counts = await letters.prepare()
                async with record_writer(self._broker) as writer:
                    retry = Retry(writer, self._settings, counts)
                    await send_chosen(
                        retry, letters.entries(places), Selection(places=places), found.extend,
                        asked_for=True,
                    )  # fmt: skip
            except LettersMissing as error:
                raise Problem(HTTPStatus.NOT_FOUND, str(error)) from None
            except (TopicAuthorizationFailedError, ClusterAuthorizationFailedError) as error:
                raise Problem(
                    HTTPStatus.FORBIDDEN,
                    f"Kafka lets the user of `clv serve` not write: {error}; docs/security.md "
                    "lists the ACLs",
                ) from None
        sent = [each.letter.id for each in found if each.outcome is Outcome.SENT]
        log.info("dead letters sent again", sent=sent, asked=len(places))
        self._looks.again()
        return found
