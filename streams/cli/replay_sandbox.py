"""A replay into a sandbox: a worker in this process, and topics, group and cache of its own."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from pydantic import SecretStr, ValidationError

from streams.addresses import shown_url
from streams.cli.configuration import need_broker, need_erasure_key, need_redis
from streams.cli.console import CommandError, print_json
from streams.cli.digest import print_result, published_result, warn_of
from streams.cli.record_options import INPUTS
from streams.cli.replay_source import Asked, opened
from streams.cli.replay_topics import Into, Turns, forbid_own, publish_all, wanted_partitions
from streams.cli.show import reading
from streams.cli.worker import describe
from streams.clients import started
from streams.recording import Pace, RecordedTopic, Source
from streams.recording.publish import Published
from streams.recording.target import TargetUnusable, check_empty, prepare_target
from streams.settings import ERASURE_KEY_BYTES, Settings, Topics
from streams.topics import changelog_topic, partition_counts
from streams.worker import running_app

_POLL_SECONDS = 0.05


async def replay_into_sandbox(
    settings: Settings,
    asked: Asked,
    group: str,
    partitions: int | None,
    pace: Pace,
    *,
    resume: bool,
    as_json: bool,
) -> None:
    """Replay to a worker that has nothing in common with others, and print what came of it."""
    broker, redis = need_broker(settings), need_redis(settings)
    async with opened(settings, asked) as source:
        sandbox = sandbox_settings(settings, source, group, partitions)
        if sandbox.erasure_key is None:
            if resume:
                # What a former run remembers of erased customers is under the key that it had.
                need_erasure_key(sandbox)
            key = SecretStr(secrets.token_hex(ERASURE_KEY_BYTES))
            sandbox = sandbox.model_copy(update={"erasure_key": key})
        published = await _work(sandbox, source, asked.name, pace, redis, resume=resume)
    result = await published_result(sandbox)
    if as_json:
        print_json(
            {
                "published": published.sent,
                "already_there": published.found,
                "app_id": sandbox.app_id,
                "topics": sandbox.topics.model_dump(),
                "redis_prefix": sandbox.redis_prefix,
                "currency": sandbox.economics.currency,
                **result.document(),
            }
        )
    else:
        print_result(
            result,
            sandbox.economics.currency,
            published=f"{published.sent:,}, and {published.found:,} were there already",
            app_id=f"{sandbox.app_id}, with topics {sandbox.topics.updates} and others at {broker}",
            cache=f"keys {sandbox.redis_prefix}:… in {shown_url(redis)}",
        )
    warn_of(result)


def sandbox_settings(
    settings: Settings, source: Source, group: str, partitions: int | None
) -> Settings:
    """Settings of a service that shares no name with the configured one; CommandError."""
    if group in (settings.app_id, settings.redis_prefix):
        raise CommandError(
            f"--group {group!r} is the configured service's own name; take another one"
        )
    names = settings.topics.model_dump()
    try:
        topics = Topics(**{role: f"{group}.{name}" for role, name in names.items()})
        sandbox = settings.model_copy(
            update={
                "app_id": Settings.model_validate({"app_id": group}).app_id,
                "topics": topics,
                "redis_prefix": group,
                "partitions": partitions or _partitions(source),
                "state_dir": None,
                "health_port": None,
            }
        )
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise CommandError(f"--group {group!r} makes no names of topics: {problem}") from error
    forbid_own(settings, {**topics.model_dump(), "changelog": changelog_topic(sandbox)})
    return sandbox


def _partitions(source: Source) -> int:
    """As many as were recorded."""
    counts = wanted_partitions(source, None)
    return max((n for role, n in counts.items() if role != "models"), default=1)


async def prepare_sandbox(sandbox: Settings, counts: Mapping[str, int], *, resume: bool) -> None:
    """Make the topics that are replayed into, and see that nothing is there before; CommandError.

    counts: partitions by role.
    """
    broker = need_broker(sandbox)
    wanted = {"clock": sandbox.partitions, "models": 1} | dict.fromkeys(INPUTS, sandbox.partitions)
    names = sandbox.topics.model_dump()
    try:
        if not resume:
            names["changelog"] = changelog_topic(sandbox)
            known = await partition_counts(broker)
            there = [RecordedTopic(r, n, known[n]) for r, n in names.items() if n in known]
            await check_empty(broker, there)
            await _check_group(sandbox, there)
        topics = [RecordedTopic(role, names[role], count) for role, count in wanted.items()]
        await prepare_target(
            broker, topics, wanted | dict(counts), sandbox.replication, resume=resume
        )
    except TargetUnusable as error:
        raise CommandError(str(error)) from error


async def _check_group(sandbox: Settings, topics: Sequence[RecordedTopic]) -> None:
    """Refuse a name that was used before, whose topics were deleted; CommandError."""
    client = AIOKafkaConsumer(
        **need_broker(sandbox).client_options(),
        group_id=sandbox.app_id,
        enable_auto_commit=False,
    )
    async with started(client) as consumer:
        for topic in topics:
            for number in range(topic.partitions):
                if await consumer.committed(TopicPartition(topic.name, number)):
                    raise CommandError(
                        f"group {sandbox.app_id!r} has committed offsets of {topic.name}, which "
                        "is empty: the new records would be passed over. Take another --group"
                    )
    async with reading(sandbox) as cache:
        if customers := await cache.size():
            raise CommandError(
                f"the cache holds {customers} customers under {sandbox.redis_prefix!r} already; "
                "take another --group"
            )


async def _work(
    sandbox: Settings, source: Source, title: str, pace: Pace, redis: str, *, resume: bool
) -> Published:
    broker = need_broker(sandbox)
    names = {t.role: sandbox.topics.model_dump()[t.role] for t in source.topics}
    counts = wanted_partitions(source, sandbox.partitions)
    await prepare_sandbox(sandbox, counts, resume=resume)
    app = None
    try:
        async with running_app(sandbox, broker, redis) as (app, pipeline):
            turn = Turns(sandbox, pipeline.partitions, pipeline.feed)
            published = await publish_all(
                source, title, Into(broker, names, counts, sandbox.replication), pace,
                resume=resume, turn=turn.take,
            )  # fmt: skip
            topics = sandbox.topics
            await turn.done(topics.sources)
            await pipeline.cache.flush()
            while pipeline.cache.pending and not app.crashed:  # noqa: ASYNC110 - it tells nobody
                await asyncio.sleep(_POLL_SECONDS)
    except Exception as error:
        if app is not None and app.crashed:
            reason = describe(app.crash_reason)
            raise CommandError(f"the sandbox's worker crashed: {reason}") from error
        raise
    return published
