"""A replay into topics: new ones, or those that the service reads."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Annotated

import typer
from pydantic import ValidationError

from models.contracts.parameters import Parameters
from streams.cli.configuration import load_settings, need_broker
from streams.cli.console import CommandError, print_json, say, warn
from streams.cli.options import AsJson
from streams.cli.progress import caught_up
from streams.cli.record_options import Since, Until
from streams.cli.replay.options import Partitions, Resume, SourceName, Speed, parse_speed
from streams.cli.replay.source import Asked, opened, shown
from streams.kafka.connection import Broker
from streams.kafka.writing import record_writer
from streams.parameters import Feed
from streams.recording import Recorded, RecordedTopic, live_slice
from streams.registry.records import is_rules
from streams.replay.placing import Pace, Placing
from streams.replay.publish import Published, TopicWriter
from streams.replay.source import Source, counts_by_role, most_partitions
from streams.replay.target import prepare_target
from streams.settings import Settings
from streams.topics import prepare_topics

PATIENCE_SECONDS = 60.0
"""For workers that make no progress: longer than a rebalance takes."""

PARAMETERS_SECONDS = 20.0
"""For parameters to arrive: a worker waits as long."""

Turn = Callable[[str, str, Recorded | None], Awaitable[None]]
"""Called before records of a role follow those of another: both, and the last record."""


async def topics(
    source: SourceName,
    *,
    prefix: Annotated[str, typer.Option(metavar="NAME.", help="Of the topics' names.")],
    since: Since = None,
    until: Until = None,
    partitions: Partitions = None,
    speed: Speed = "max",
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Into new topics, --prefix and the recorded name."""
    settings = load_settings()
    asked = Asked.of(source, since, until, settings.economics)
    if not prefix:
        raise CommandError("--prefix is empty: the topics' names begin with it")
    pace = parse_speed(speed)
    broker = need_broker(settings)
    async with opened(settings, asked) as records:
        names = {topic.role: f"{prefix}{topic.name}" for topic in records.topics}
        forbid_own(settings, names)
        count = partitions or most_partitions(records)
        published = await publish_all(
            settings, records, asked.name, names, partitions=count, pace=pace, resume=resume
        )
    tell(published, names, broker, as_json=as_json)


async def production(
    source: SourceName,
    *,
    yes_touch: Annotated[
        str | None,
        typer.Option("--yes-touch", metavar="APP_ID", help="The configured CLV_APP_ID."),
    ] = None,
    since: Since = None,
    until: Until = None,
    speed: Speed = "max",
    as_json: AsJson = False,
) -> None:
    """Into the topics that the service reads. What it has counted before counts once."""
    settings = load_settings()
    asked = Asked.of(source, since, until, settings.economics)
    pace = parse_speed(speed)
    if yes_touch != settings.app_id:
        raise CommandError(
            "`clv replay production` publishes to the topics that the service reads: say that you "
            f"mean it by --yes-touch and its CLV_APP_ID, which is {settings.app_id!r} here"
            + ("" if yes_touch is None else f", not {yes_touch!r}")
        )
    broker = need_broker(settings)
    async with opened(settings, asked) as records:
        if asked.is_topics:
            raise CommandError("the service's own topics cannot be replayed into themselves")
        if records.pseudonyms:
            raise CommandError(
                f"{asked.name} has pseudonyms: the service would take them for new customers"
            )
        count = await prepare_topics(settings, broker)
        named = settings.topics.model_dump()
        names = {t.role: named[t.role] for t in records.topics}
        placing = Placing(
            records.topics, counts_by_role(records, count), pseudonyms=records.pseudonyms
        )
        turn = Turns(settings, count)
        async with record_writer(broker, idempotent=None) as sending:
            warn_unless(sending.idempotent)
            writer = TopicWriter(sending, records.topics, names, placing)
            await feed(records, writer, pace, f"Publishing {asked.name}", turn.take)
    tell(writer.published, names, broker, as_json=as_json)


async def publish_all(
    settings: Settings,
    source: Source,
    title: str,
    names: Mapping[str, str],
    *,
    partitions: int,
    pace: Pace,
    resume: bool,
    turn: Turn | None = None,
) -> Published:
    """Publish a source to topics of these names by role, which are created if missing.

    Errors: TargetUnusable, TargetDiffers, CommandError, KafkaError.
    """
    broker = need_broker(settings)
    wanted = [RecordedTopic(t.role, names[t.role], t.partitions) for t in source.topics]
    counts = counts_by_role(source, partitions)
    target = await prepare_target(broker, wanted, counts, settings.replication, resume=resume)
    there = {topic.role: topic.partitions for topic in target}
    placing = Placing(source.topics, there, pseudonyms=source.pseudonyms)
    async with (
        record_writer(broker, idempotent=None) as records,
        live_slice(broker, target) if resume else nullcontext() as before,
    ):
        warn_unless(records.idempotent)
        writer = TopicWriter(records, source.topics, names, placing, before)
        await feed(source, writer, pace, f"Publishing {title}", turn)
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


@dataclass
class Turns:
    """Keeps an order across topics, which Kafka does not: waits for workers of a group.

    Ticks and parameters wait for the events before them, and what follows a tick waits for the
    tick. parameters: if given, what follows parameters waits until this feed has them.
    """

    settings: Settings
    partitions: int
    parameters: Feed | None = None

    async def take(self, role: str, before: str, last: Recorded | None) -> None:
        """Wait until records of a role may follow those of another."""
        topics = self.settings.topics
        if before == "models" and last is not None and self.parameters is not None:
            await self._have(self.parameters, last)
        if before == "clock":
            await self.done([topics.clock])
        elif role in ("clock", "models"):
            await self.done([*topics.inputs, topics.rerouted, topics.identity])

    async def done(self, topics: Sequence[str]) -> None:
        """Wait until everything in these topics is processed; CommandError."""
        if not await caught_up(self.settings, topics, self.partitions, patience=PATIENCE_SECONDS):
            raise CommandError(
                f"no worker of {self.settings.app_id!r} has gone on for {PATIENCE_SECONDS:g} s, "
                "and a tick must not overtake the events: see that one runs. What was published "
                "so far counts once, also when the replay is begun again"
            )

    async def _have(self, feed: Feed, record: Recorded) -> None:
        if is_rules(record.key) and record.key is not None:
            version = record.key.decode(errors="replace")
        else:
            try:
                version = Parameters.model_validate_json(record.value or b"").version
            except ValidationError:
                return
        if not await feed.wait_for(version, PARAMETERS_SECONDS):
            warn(f"parameters {version!r} are not in use: the worker has refused them")


def forbid_own(settings: Settings, names: Mapping[str, str]) -> None:
    """Refuse to write to a topic of the configured service; CommandError."""
    own = set(settings.topics.model_dump().values()) & set(names.values())
    if own:
        raise CommandError(
            f"{', '.join(sorted(own))} belongs to the configured service: take another name, or "
            "see `clv replay production`"
        )


def warn_unless(idempotent: bool) -> None:
    """Warn of a broker that may write a record twice."""
    if not idempotent:
        warn(
            "the broker gives no producer ids: a request that is tried again can write records "
            "twice, which --resume would find and refuse. On Apache Kafka they cannot be"
        )


def tell(published: Published, names: Mapping[str, str], broker: Broker, *, as_json: bool) -> None:
    """Print what was published, and where."""
    if as_json:
        print_json(
            {"published": published.sent, "already_there": published.found, "topics": dict(names)}
        )
        return
    there = f", {published.found:,} were there already" if published.found else ""
    say(f"{published.sent:,} records published to {broker}{there}: {', '.join(names.values())}")
