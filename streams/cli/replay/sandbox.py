"""A replay into a sandbox: a worker in this process with its own topics, group and cache."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Annotated

import typer
from pydantic import SecretStr, ValidationError

from streams.addresses import shown_url
from streams.cli.configuration import load_settings, need_broker, need_erasure_key, need_redis
from streams.cli.console import CommandError, print_json
from streams.cli.digest import print_result, published_result, warn_of
from streams.cli.options import AsJson
from streams.cli.record_options import INPUTS, Since, Until
from streams.cli.replay.options import Partitions, Resume, SourceName, Speed, parse_speed
from streams.cli.replay.source import Asked, opened
from streams.cli.replay.topics import Turns, forbid_own, publish_all
from streams.cli.show import reading
from streams.cli.worker import worker_here
from streams.kafka.groups import group_client
from streams.kafka.partitions import partitions_of
from streams.kafka.topics import partition_counts
from streams.recording import RecordedTopic
from streams.replay.placing import Pace
from streams.replay.publish import Published
from streams.replay.source import Source, most_partitions
from streams.replay.target import check_empty, prepare_target
from streams.settings import ERASURE_KEY_BYTES, Settings, Topics
from streams.topics import changelog_topic

_POLL_SECONDS = 0.05


async def sandbox(
    source: SourceName,
    *,
    group: Annotated[
        str, typer.Option(metavar="NAME", help="App id, and prefix of everything of the sandbox.")
    ],
    since: Since = None,
    until: Until = None,
    partitions: Partitions = None,
    speed: Speed = "max",
    resume: Resume = False,
    as_json: AsJson = False,
) -> None:
    """Into a worker in this process. Topics, group and cache are its own."""
    settings = load_settings()
    asked = Asked.of(source, since, until, settings.economics)
    if not group:
        raise CommandError("--group is empty: all names of the sandbox begin with it")
    pace = parse_speed(speed)
    broker, redis = need_broker(settings), need_redis(settings)
    async with opened(settings, asked) as records:
        target = sandbox_settings(settings, records, group, partitions)
        if target.erasure_key is None:
            if resume:
                # What a former run remembers of erased customers is under the key that it had.
                need_erasure_key(target)
            key = SecretStr(secrets.token_hex(ERASURE_KEY_BYTES))
            target = target.model_copy(update={"erasure_key": key})
        published = await _work(target, records, asked.name, pace, redis, resume=resume)
    result = await published_result(target)
    if as_json:
        print_json(
            {
                "published": published.sent,
                "already_there": published.found,
                "app_id": target.app_id,
                "topics": target.topics.model_dump(),
                "redis_prefix": target.redis_prefix,
                "currency": target.economics.currency,
                **result.document(),
            }
        )
    else:
        print_result(
            result,
            target.economics.currency,
            published=f"{published.sent:,}, and {published.found:,} were there already",
            app_id=f"{target.app_id}, with topics {target.topics.updates} and others at {broker}",
            cache=f"keys {target.redis_prefix}:… in {shown_url(redis)}",
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
                "partitions": partitions or most_partitions(source),
                "state_dir": None,
                "health_port": None,
            }
        )
    except ValidationError as error:
        problem = error.errors(include_url=False)[0]["msg"]
        raise CommandError(f"--group {group!r} makes no names of topics: {problem}") from error
    forbid_own(settings, {**topics.model_dump(), "changelog": changelog_topic(sandbox)})
    return sandbox


async def prepare_sandbox(sandbox: Settings, *, resume: bool) -> None:
    """Create the target topics, and check that they, the group and the cache are empty.

    Errors: TargetUnusable, CommandError.
    """
    broker = need_broker(sandbox)
    wanted = {"clock": sandbox.partitions, "models": 1} | dict.fromkeys(INPUTS, sandbox.partitions)
    names = sandbox.topics.model_dump()
    if not resume:
        names["changelog"] = changelog_topic(sandbox)
        known = await partition_counts(broker)
        there = [RecordedTopic(r, n, known[n]) for r, n in names.items() if n in known]
        await check_empty(broker, there)
        await _check_group(sandbox, there)
    topics = [RecordedTopic(role, names[role], count) for role, count in wanted.items()]
    await prepare_target(broker, topics, wanted, sandbox.replication, resume=resume)


async def _check_group(sandbox: Settings, topics: Sequence[RecordedTopic]) -> None:
    """Refuse a name with committed offsets or cached customers of an earlier use; CommandError."""
    async with group_client(need_broker(sandbox), sandbox.app_id) as group:
        for tp in partitions_of({topic.name: topic.partitions for topic in topics}):
            if await group.committed(tp):
                raise CommandError(
                    f"group {sandbox.app_id!r} has committed offsets of {tp.topic}, which is "
                    "empty: the new records would be passed over. Take another --group"
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
    await prepare_sandbox(sandbox, resume=resume)
    async with worker_here(sandbox, broker, redis, "the sandbox's worker") as (app, pipeline):
        turn = Turns(sandbox, pipeline.partitions, pipeline.feed)
        published = await publish_all(
            sandbox, source, title, names,
            partitions=sandbox.partitions, pace=pace, resume=resume, turn=turn.take,
        )  # fmt: skip
        await turn.done(sandbox.topics.sources)
        await pipeline.cache.flush()
        while pipeline.cache.pending and not app.crashed:  # noqa: ASYNC110 - it tells nobody
            await asyncio.sleep(_POLL_SECONDS)
    return published
