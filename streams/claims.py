"""Which service writes to the output topics: claims in the topic of the parameters.

A claim is a record of that topic, with the key `claim/<topic>/<app id>`. Two services with the same
outputs would tell each customer two values in turns: the one whose claim comes first has the topic,
and the other one does not start.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from contextlib import asynccontextmanager
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition

from streams.clients import started
from streams.connection import Broker
from streams.settings import Settings

log = structlog.get_logger(__name__)

READ_SECONDS = 60.0
"""How long the topic may take to be read: a partition may have no leader for a while."""

_PREFIX = "claim/"
_POLL_MILLISECONDS = 500
_FETCH_WAIT_MILLISECONDS = 25


class OutputsClaimed(Exception):
    """Another service has the output topics; the text says which, and what to do."""


def is_claim(key: bytes | None) -> bool:
    """Say whether a record of the topic of the parameters is a claim, by its key."""
    return key is not None and key.startswith(_PREFIX.encode())


def outputs(settings: Settings) -> tuple[str, ...]:
    """The topics that one service writes to."""
    topics = settings.topics
    return topics.updates, topics.segment_changes, topics.dead_letters, topics.identity


class Claims:
    """The claims that stand, by topic, each with the offset at which it was made."""

    def __init__(self) -> None:
        self._made: defaultdict[str, dict[str, int]] = defaultdict(dict)

    def take(self, offset: int, key: bytes | None, value: bytes | None) -> None:
        """Take note of a record; what is no claim is passed over."""
        if key is None or not is_claim(key):
            return
        topic, _, app_id = key.decode(errors="replace").removeprefix(_PREFIX).partition("/")
        if value is None:
            self._made[topic].pop(app_id, None)
        else:
            self._made[topic].setdefault(app_id, offset)

    def holder(self, topic: str) -> str | None:
        """Whose a topic is: of several claims the first counts."""
        made = self._made[topic]
        return min(made, key=made.__getitem__) if made else None

    def of(self, app_id: str) -> list[str]:
        """The topics to which a service has a claim, be it the first or not."""
        return sorted(topic for topic, made in self._made.items() if app_id in made)

    def held_by_others(self, settings: Settings) -> dict[str, str]:
        """The outputs that are another service's, and whose."""
        holders = {topic: self.holder(topic) for topic in outputs(settings)}
        return {t: app for t, app in holders.items() if app not in (None, settings.app_id)}


def claimed_text(held: Mapping[str, str], settings: Settings) -> str:
    """Say who has the outputs, and what to do."""
    listed = ", ".join(f"{topic} is written by {app!r}" for topic, app in held.items())
    releases = " and ".join(f"`clv claims release {app}`" for app in sorted(set(held.values())))
    return (
        f"another service has the outputs of CLV_APP_ID {settings.app_id!r}: {listed}. Two would "
        "tell every customer two values in turns. Name other topics by CLV_TOPICS__UPDATES, "
        "CLV_TOPICS__SEGMENT_CHANGES, CLV_TOPICS__DEAD_LETTERS and CLV_TOPICS__IDENTITY, and other "
        "keys by CLV_REDIS_PREFIX; or correct CLV_APP_ID. If the other one was given up on "
        f"purpose, run {releases}"
    )


class ClaimsReader:
    """The claims as far as the topic was read."""

    def __init__(self, consumer: AIOKafkaConsumer, topic: str) -> None:
        self.claims = Claims()
        self._consumer = consumer
        self._tp = TopicPartition(topic, 0)
        consumer.assign([self._tp])

    async def read(self, least: int = -1) -> Claims:
        """Read on to the end, and at least over this offset. Errors: KafkaError, TimeoutError."""
        async with asyncio.timeout(READ_SECONDS):
            while not await self._at_end(least):
                fetched = await self._consumer.getmany(timeout_ms=_POLL_MILLISECONDS)
                for record in fetched.get(self._tp, ()):
                    self.claims.take(record.offset, record.key, record.value)
        return self.claims

    async def _at_end(self, least: int) -> bool:
        # As fetches tell it: the embedded broker tells another one where it is asked.
        end = self._consumer.highwater(self._tp)
        position: int = await self._consumer.position(self._tp)
        return end is not None and position >= end and position > least


@asynccontextmanager
async def claims_reader(settings: Settings, broker: Broker) -> AsyncIterator[ClaimsReader]:
    """A reader of the claims, at the beginning; closed at the end. Errors: KafkaError."""
    client = AIOKafkaConsumer(
        **broker.client_options(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        fetch_max_wait_ms=_FETCH_WAIT_MILLISECONDS,
    )
    async with started(client) as consumer:
        yield ClaimsReader(consumer, settings.topics.models)


async def claim_outputs(settings: Settings, broker: Broker) -> None:
    """Claim the outputs for this service, if it has no claim yet.

    Of two that begin at once each sees both claims, since it reads its own back, and the one that
    was second takes its own away again.

    Raises
    ------
    OutputsClaimed
        when another service has one of them.
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
    """Take a service's claims away, to all topics; returns these. Errors: KafkaError."""
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
    """Write claims, or take them away; returns the offset of the last, -1 if it was not told."""
    last = -1
    async with started(AIOKafkaProducer(**broker.client_options(), acks="all")) as producer:
        for topic in topics:
            key = f"{_PREFIX}{topic}/{app_id}".encode()
            written: Any = await producer.send_and_wait(
                settings.topics.models, key=key, value=value, partition=0
            )
            last = max(last, written.offset)
    return last
