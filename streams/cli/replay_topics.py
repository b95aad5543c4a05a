"""A replay into topics: some of its own, or those that the service reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass

from pydantic import ValidationError

from models.contracts.parameters import Parameters
from streams.cli.configuration import need_broker
from streams.cli.console import CommandError, print_json, say, warn
from streams.cli.progress import caught_up
from streams.cli.record_options import names_of
from streams.cli.replay_source import Asked, opened, shown
from streams.connection import Broker
from streams.parameters import ParameterFeed
from streams.recording import Pace, Placing, Recorded, RecordedTopic, Source, live_slice
from streams.recording.publish import Published, TargetDiffers, TopicWriter, exact_producer
from streams.recording.target import TargetUnusable, prepare_target
from streams.settings import Settings
from streams.topics import prepare_topics

PATIENCE_SECONDS = 60.0
"""For workers that make no progress: longer than a rebalance takes."""

PARAMETERS_SECONDS = 20.0
"""For parameters to arrive: a worker waits as long."""

Turn = Callable[[str, str, Recorded | None], Awaitable[None]]
"""Called before records of a role follow those of another: both, and the last record."""


async def replay_into_topics(
    settings: Settings,
    asked: Asked,
    prefix: str,
    partitions: int | None,
    pace: Pace,
    *,
    resume: bool,
    as_json: bool,
) -> None:
    """Replay into topics under a prefix, and say what was published."""
    broker = need_broker(settings)
    async with opened(settings, asked) as source:
        names = {topic.role: f"{prefix}{topic.name}" for topic in source.topics}
        forbid_own(settings, names)
        counts = wanted_partitions(source, partitions)
        published = await publish_all(
            source,
            asked.name,
            Into(broker, names, counts, settings.replication),
            pace,
            resume=resume,
        )
    _tell(published, names, broker, as_json=as_json)


async def replay_into_production(
    settings: Settings, asked: Asked, pace: Pace, *, as_json: bool
) -> None:
    """Publish to the topics that the service reads; ticks wait for its workers."""
    broker = need_broker(settings)
    async with opened(settings, asked) as source:
        if asked.is_topics:
            raise CommandError("the service's own topics cannot be replayed into themselves")
        if source.pseudonyms:
            raise CommandError(
                f"{asked.name} has pseudonyms: the service would take them for new customers"
            )
        count = await prepare_topics(settings, broker)
        names = {t.role: names_of(settings.topics)[t.role] for t in source.topics}
        counts = {t.role: 1 if t.role == "models" else count for t in source.topics}
        placing = Placing(source.topics, counts, pseudonyms=source.pseudonyms)
        turn = Turns(settings, count)
        async with exact_producer(broker) as (producer, idempotent):
            _warn_unless(idempotent)
            writer = TopicWriter(producer, source.topics, names, placing)
            await feed(source, writer, pace, f"Publishing {asked.name}", turn.take)
    _tell(writer.published, names, broker, as_json=as_json)


@dataclass(frozen=True, slots=True)
class Into:
    """Topics to replay into, by role; counts: partitions of those that are made."""

    broker: Broker
    names: Mapping[str, str]
    counts: Mapping[str, int]
    replication: int


async def publish_all(
    source: Source,
    title: str,
    into: Into,
    pace: Pace,
    *,
    resume: bool,
    turn: Turn | None = None,
) -> Published:
    """Publish a source to topics of these names, which are made; CommandError, KafkaError."""
    wanted = [RecordedTopic(t.role, into.names[t.role], t.partitions) for t in source.topics]
    broker = into.broker
    try:
        target = await prepare_target(broker, wanted, into.counts, into.replication, resume=resume)
        there = {topic.role: topic.partitions for topic in target}
        placing = Placing(source.topics, there, pseudonyms=source.pseudonyms)
        async with AsyncExitStack() as stack:
            producer, idempotent = await stack.enter_async_context(exact_producer(broker))
            _warn_unless(idempotent)
            before = None
            if resume:
                before = await stack.enter_async_context(live_slice(broker, target))
            writer = TopicWriter(producer, source.topics, into.names, placing, before)
            await feed(source, writer, pace, f"Publishing {title}", turn)
    except (TargetUnusable, TargetDiffers) as error:
        raise CommandError(str(error)) from error
    return writer.published


async def feed(
    source: Source, writer: TopicWriter, pace: Pace, title: str, turn: Turn | None = None
) -> None:
    """Put all records of a source; errors: those of the source, TargetDiffers, KafkaError."""
    roles = [topic.role for topic in source.topics]
    before, last = "", None
    with shown(source, title) as moved:
        number = 0
        async for record in source.records():
            role = roles[record.topic]
            number += 1
            if number % 1_000 == 0:
                moved()
            if turn is not None and role != before:
                await writer.flush()
                await turn(role, before, last)
            before, last = role, record
            if pace.wait_for(record.timestamp) > 0.0:
                await writer.flush()
                await pace.reach(record.timestamp)
            await writer.put(record)
        await writer.finish()
        moved()


class Turns:
    """Has ticks and parameters wait until the workers of a group have done what came before.

    Topics have no order among themselves: a tick must not overtake the events, nor these the
    parameters that value them. What follows a tick or parameters waits for them; for parameters
    where their feed is known.
    """

    def __init__(
        self, settings: Settings, partitions: int, parameters: ParameterFeed | None = None
    ) -> None:
        self._settings = settings
        self._partitions = partitions
        self._parameters = parameters

    async def take(self, role: str, before: str, last: Recorded | None) -> None:
        """Return when records of a role may follow those of another."""
        topics = self._settings.topics
        if before == "models" and last is not None and self._parameters is not None:
            await self._have(self._parameters, last)
        if before == "clock":
            await self.done([topics.clock])
        elif role in ("clock", "models"):
            await self.done([*topics.inputs, topics.rerouted, topics.identity])

    async def done(self, topics: Sequence[str]) -> None:
        """Return when everything that is in these topics is done; CommandError."""
        if not await caught_up(self._settings, topics, self._partitions, patience=PATIENCE_SECONDS):
            raise CommandError(
                f"no worker of {self._settings.app_id!r} has gone on for {PATIENCE_SECONDS:g} s, "
                "and a tick must not overtake the events: see that one runs. What was published "
                "so far counts once, also when the replay is begun again"
            )

    async def _have(self, feed: ParameterFeed, record: Recorded) -> None:
        try:
            version = Parameters.model_validate_json(record.value or b"").version
        except ValidationError:
            return
        if not await feed.wait_for(version, PARAMETERS_SECONDS):
            warn(f"parameters {version!r} are not in use: the worker has refused them")


def wanted_partitions(source: Source, partitions: int | None) -> dict[str, int]:
    """Partitions of the topics that are made, by role: one count for all but the models."""
    recorded = [t.partitions for t in source.topics if t.role != "models"]
    count = partitions or max(recorded, default=1)
    return {t.role: 1 if t.role == "models" else count for t in source.topics}


def forbid_own(settings: Settings, names: Mapping[str, str]) -> None:
    """Refuse to write to a topic of the configured service; CommandError."""
    own = set(names_of(settings.topics).values()) & set(names.values())
    if own:
        raise CommandError(
            f"{', '.join(sorted(own))} belongs to the configured service: take another name, or "
            "see --into production"
        )


def _warn_unless(idempotent: bool) -> None:
    if not idempotent:
        warn(
            "the broker gives no producer ids: a request that is tried again can write records "
            "twice, which --resume would find and refuse. On Apache Kafka they cannot be"
        )


def _tell(published: Published, names: Mapping[str, str], broker: Broker, *, as_json: bool) -> None:
    if as_json:
        print_json(
            {"published": published.sent, "already_there": published.found, "topics": dict(names)}
        )
        return
    there = f", {published.found:,} were there already" if published.found else ""
    say(f"{published.sent:,} records published to {broker}{there}: {', '.join(names.values())}")
