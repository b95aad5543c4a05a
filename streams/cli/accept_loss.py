"""`clv accept-loss`: go on without what Kafka has lost, once somebody has seen what that is."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping
from typing import Annotated, Any

import msgspec
import typer

from models.aggregate.record import BASIS_KEY, ERASURE_KEY
from streams.basis.accept import Resolution, State, Step, plan_steps, resolve
from streams.basis.examine import Group, bases_of, examine, standing
from streams.basis.judge import Shop
from streams.basis.logs import KafkaLogs, kafka_logs
from streams.basis.record import Basis, encode_basis
from streams.cli.configuration import load_settings, need_broker, need_erasure_key
from streams.cli.console import CommandError, print_json, say
from streams.cli.options import AsJson
from streams.cli.running import run
from streams.kafka.connection import Broker
from streams.kafka.groups import group_client, member_count
from streams.kafka.partitions import Bounds, TopicPartition, partitions_of
from streams.kafka.writing import Outgoing, RecordWriter, record_writer
from streams.outgoing import VERSION_HEADER
from streams.settings import Settings
from streams.topics import changelog_topic, prepare_topics


class _Data(msgspec.Struct):
    version: int = 0


class _Document(msgspec.Struct):
    data: _Data


_decode = msgspec.json.Decoder(_Document).decode


def accept_loss(
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, it is only shown.")] = False,
    rebuild: Annotated[
        bool,
        typer.Option(
            "--rebuild",
            help="Where the state is gone: compute everything anew from the events that are kept.",
        ),
    ] = False,
    from_nothing: Annotated[
        bool,
        typer.Option(
            "--from-nothing",
            help="Where the state is gone: go on with what the changelog holds, and with the next "
            "events.",
        ),
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Show what Kafka has lost of what the state rests on, and with --yes go on without it."""
    if rebuild and from_nothing:
        raise typer.BadParameter("--rebuild and --from-nothing exclude each other")
    state: State | None = "rebuild" if rebuild else "from-nothing" if from_nothing else None
    settings = load_settings()
    need_erasure_key(settings)
    steps = run(found_losses(settings, need_broker(settings), state, yes=yes))
    if as_json:
        print_json({"accepted": yes and bool(steps), "losses": [_document(s) for s in steps]})
    elif not steps:
        say("nothing is lost")
    else:
        for step in steps:
            say(str(step.finding), f"  -> {step.resolved}")
        say("accepted; start the workers" if yes else "nothing was changed; --yes does it")
    if steps and not yes:
        raise typer.Exit(1)


def _document(step: Step) -> dict[str, Any]:
    return {
        "kind": step.finding.kind.value,
        "place": step.finding.place,
        "lost": step.finding.lost,
        "resolved": step.resolved,
    }


async def found_losses(
    settings: Settings, broker: Broker, state: State | None, *, yes: bool
) -> list[Step]:
    """What is lost and what is done about it; yes: do it.

    Errors: CommandError, where the group has workers; NotAcceptable, where more has to be said;
    KafkaError.
    """
    await broker.check()
    async with kafka_logs(broker, settings.app_id) as logs:
        await _nobody_works(settings, logs)
        here = await standing(settings, logs)
        group = Group(here, await bases_of(settings, logs, here.stored or ()))
        found = await examine(settings, logs, group)
        if not found:
            return []
        if yes:
            # What is missing is empty from now on.
            await prepare_topics(settings, broker)
            here = await standing(settings, logs)
        bounds = await _bounds(settings, logs, group, here.sources(settings))
        steps = plan_steps(settings, group, bounds, found, state)
        if yes:
            await _resolve(settings, broker, logs, group, steps)
    return steps


async def _nobody_works(settings: Settings, logs: KafkaLogs) -> None:
    workers = await member_count(logs.admin, settings.app_id)
    if workers is None:
        raise CommandError(
            f"whether group {settings.app_id} has workers is not to be known: let this user "
            "describe the group"
        )
    if workers:
        raise CommandError(
            f"group {settings.app_id} has {workers} workers: stop them all first, and wait until "
            "their session is over (CLV_SESSION_TIMEOUT)"
        )


async def _bounds(
    settings: Settings, logs: KafkaLogs, group: Group, sources: list[TopicPartition]
) -> Mapping[TopicPartition, Bounds]:
    """Bounds of all input logs; those that do not exist yet are empty."""
    count = max(
        (each.partitions for each in group.here.topics.values()), default=settings.partitions
    )
    planned = partitions_of(dict.fromkeys(settings.topics.sources, count))
    return dict.fromkeys(planned, Bounds(0, 0)) | await logs.bounds(sources)


async def _resolve(
    settings: Settings, broker: Broker, logs: KafkaLogs, group: Group, steps: list[Step]
) -> None:
    names = (*settings.topics.sources, changelog_topic(settings))
    topics = await logs.describe(names)
    partitions = topics[settings.topics.orders].partitions
    published = (settings.topics.updates, settings.topics.segment_changes)
    anew = {number for step in steps if step.anew for number in step.partitions}
    done = resolve(
        group,
        steps,
        shop=Shop.of(partitions, settings.economics),
        ids={topic: each.id for topic, each in topics.items()},
        first_versions={
            n: await _greatest_version(logs, [TopicPartition(topic, n) for topic in published])
            for n in sorted(anew)
        },
        at=time.time_ns() // 1_000_000,
    )
    emptied = {number for step in steps if step.emptied for number in step.partitions}
    keys = {number: await _keys(settings, logs, number) for number in emptied}
    await _write(settings, broker, done, keys)


async def _greatest_version(logs: KafkaLogs, tps: Collection[TopicPartition]) -> int:
    """The greatest version of any customer in logs of updates and segment changes."""
    greatest = 0
    async for _, records in logs.read(await logs.bounds(tps)):
        greatest = max(greatest, *map(_version, records), greatest)
    return greatest


def _version(record: Any) -> int:
    if record.value is not None:
        try:
            return _decode(record.value).data.version
        except msgspec.MsgspecError:
            # Not one of our documents: readers who compare versions ignore it too.
            return 0
    version = dict(record.headers).get(VERSION_HEADER, b"")
    return int(version) if version.isdigit() else 0


async def _keys(settings: Settings, logs: KafkaLogs, partition: int) -> set[bytes]:
    """The keys that a partition of the changelog holds, without those that are no customer's."""
    tp = TopicPartition(changelog_topic(settings), partition)
    held: set[bytes] = set()
    async for _, records in logs.read(await logs.bounds([tp])):
        for record in records:
            if record.key is not None:
                (held.discard if record.value is None else held.add)(record.key)
    return held - {BASIS_KEY, ERASURE_KEY}


async def _write(
    settings: Settings, broker: Broker, done: Resolution, gone: Mapping[int, Collection[bytes]]
) -> None:
    changelog = changelog_topic(settings)
    deleted = {
        TopicPartition(changelog, number): [Outgoing(key, None) for key in keys]
        for number, keys in gone.items()
    }
    async with (
        record_writer(broker) as writer,
        group_client(broker, settings.app_id) as group,
    ):
        await writer.write_all(deleted)
        await _store(writer, changelog, done.before)
        if done.commits:
            await group.commit(done.commits)
        await _store(writer, changelog, done.after)


async def _store(writer: RecordWriter, changelog: str, bases: Mapping[int, Basis]) -> None:
    await writer.write_all(
        {
            TopicPartition(changelog, number): [Outgoing(BASIS_KEY, encode_basis(basis))]
            for number, basis in bases.items()
        }
    )
