"""Claims: which service writes to an output topic.

A claim is a record in the topic of the parameters, with the key `claim/<topic>/<app id>`. Two
services with the same output topics would publish two values of each customer in turns. Therefore
the first claim of a topic holds it, and a second service does not start.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager

import structlog

from models.errors import ClvError
from streams.kafka.connection import Broker
from streams.kafka.partitions import TopicPartition
from streams.kafka.reading import Follower, follower
from streams.kafka.writing import Outgoing, record_writer
from streams.settings import Settings

log = structlog.get_logger(__name__)

READ_SECONDS = 60.0
"""How long reading the topic may take; a partition may be without a leader for a while."""

_PREFIX = "claim/"
_POLL_MILLISECONDS = 500


class OutputsClaimed(ClvError):
    """Another service has claimed the output topics; the text says which, and what to do."""


def is_claim(key: bytes | None) -> bool:
    """Return whether a record of the topic of the parameters is a claim, by its key."""
    return key is not None and key.startswith(_PREFIX.encode())


def outputs(settings: Settings) -> tuple[str, ...]:
    """Return the topics that a service writes to, including those between its own workers."""
    topics = settings.topics
    return (
        topics.updates,
        topics.segment_changes,
        topics.dead_letters,
        topics.identity,
        topics.rerouted,
    )


class Claims:
    """The current claims by topic, each with its offset."""

    def __init__(self) -> None:
        self._made: defaultdict[str, dict[str, int]] = defaultdict(dict)

    def take(self, offset: int, key: bytes | None, value: bytes | None) -> None:
        """Add or remove the claim of a record; other records are ignored."""
        if key is None or not is_claim(key):
            return
        topic, _, app_id = key.decode(errors="replace").removeprefix(_PREFIX).partition("/")
        if value is None:
            self._made[topic].pop(app_id, None)
        else:
            self._made[topic].setdefault(app_id, offset)

    def holder(self, topic: str) -> str | None:
        """Return the app id that holds a topic: the first claim counts."""
        made = self._made[topic]
        return min(made, key=made.__getitem__) if made else None

    def of(self, app_id: str) -> list[str]:
        """Return the topics that a service has claimed, first or not."""
        return sorted(topic for topic, made in self._made.items() if app_id in made)

    def held_by_others(self, settings: Settings) -> dict[str, str]:
        """Return the output topics that other services hold, with their app ids."""
        holders = {topic: self.holder(topic) for topic in outputs(settings)}
        return {t: app for t, app in holders.items() if app not in (None, settings.app_id)}


def claimed_text(held: Mapping[str, str], settings: Settings) -> str:
    """Return a text that says who holds the output topics, and what to do."""
    listed = ", ".join(f"{topic} is written by {app!r}" for topic, app in held.items())
    releases = " and ".join(f"`clv claims release {app}`" for app in sorted(set(held.values())))
    return (
        f"another service has the outputs of CLV_APP_ID {settings.app_id!r}: {listed}. Two would "
        "tell every customer two values in turns. Name other topics by CLV_TOPICS__UPDATES, "
        "CLV_TOPICS__SEGMENT_CHANGES, CLV_TOPICS__DEAD_LETTERS, CLV_TOPICS__IDENTITY and "
        "CLV_TOPICS__REROUTED, and other keys by CLV_REDIS_PREFIX; or correct CLV_APP_ID. If the "
        f"other one was given up on purpose, run {releases}"
    )


class ClaimsReader:
    """Reads the claims."""

    def __init__(self, following: Follower) -> None:
        self.claims = Claims()
        self._following = following

    async def read(self, least: int = -1) -> Claims:
        """Read to the end, at least past an offset. Errors: KafkaError, TimeoutError."""
        async with asyncio.timeout(READ_SECONDS):
            while True:
                read = await self._following.read(_POLL_MILLISECONDS)
                for record in read.records:
                    self.claims.take(record.offset, record.key, record.value)
                # The end by fetches: the embedded broker's ListOffsets gives another one.
                if read.at_end and read.position > least:
                    return self.claims


@asynccontextmanager
async def claims_reader(settings: Settings, broker: Broker) -> AsyncIterator[ClaimsReader]:
    """Open a reader of the claims, at the beginning of the topic. Errors: KafkaError."""
    async with follower(broker, TopicPartition(settings.topics.models, 0)) as following:
        yield ClaimsReader(following)


async def claim_outputs(settings: Settings, broker: Broker) -> None:
    """Claim the output topics for this service, if it has no claim yet.

    If two services start at once, each reads its own claim back and so sees both; the second one
    removes its claim again.

    Raises
    ------
    OutputsClaimed
        if another service holds one of the topics.
    """
    async with claims_reader(settings, broker) as reader:
        _check(await _read(reader, settings), settings)
        ours = reader.claims.of(settings.app_id)
        missing = [topic for topic in outputs(settings) if topic not in ours]
        if not missing:
            return
        value = json.dumps({"app_id": settings.app_id}).encode()
        last = await _write(settings, broker, settings.app_id, missing, value)
        try:
            _check(await _read(reader, settings, last), settings)
        except OutputsClaimed:
            await _write(settings, broker, settings.app_id, missing, None)
            raise
        log.info("outputs claimed", topics=missing, app_id=settings.app_id)


async def release_outputs(settings: Settings, broker: Broker, app_id: str) -> Sequence[str]:
    """Remove all claims of a service; return their topics. Errors: KafkaError."""
    async with claims_reader(settings, broker) as reader:
        held = (await _read(reader, settings)).of(app_id)
    if held:
        await _write(settings, broker, app_id, held, None)
    return held


def _check(claims: Claims, settings: Settings) -> None:
    if held := claims.held_by_others(settings):
        raise OutputsClaimed(claimed_text(held, settings))


async def _read(reader: ClaimsReader, settings: Settings, least: int = -1) -> Claims:
    try:
        return await reader.read(least)
    except TimeoutError:
        raise TimeoutError(
            f"{settings.topics.models}[0] could not be read to its end within {READ_SECONDS:g} s; "
            "see whether it has a leader: `clv doctor`"
        ) from None


async def _write(
    settings: Settings, broker: Broker, app_id: str, topics: Iterable[str], value: bytes | None
) -> int:
    """Write claims, or remove them; return the last offset, -1 if the broker did not say."""
    records = [Outgoing(f"{_PREFIX}{topic}/{app_id}".encode(), value) for topic in topics]
    async with record_writer(broker) as writer:
        written = await writer.write(TopicPartition(settings.topics.models, 0), records)
    return max(written.end - 1, -1)
