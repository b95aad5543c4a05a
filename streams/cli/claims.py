"""`clv claims`: whose the outputs are."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from streams.claims import release_outputs
from streams.cli.configuration import load_settings, need_broker
from streams.cli.console import CommandError, print_json, say, warn
from streams.cli.options import AsJson, group
from streams.cli.running import command
from streams.cli.show import reading
from streams.kafka.clients import admin_client
from streams.kafka.groups import member_count
from streams.settings import Settings
from streams.topics import prepare_topics

claims = group("Which service writes to the output topics and to Redis.")


@claims.command()
@command
async def release(
    app_id: Annotated[str, typer.Argument(help="CLV_APP_ID of the service that was given up.")],
    force: Annotated[
        bool, typer.Option("--force", help="Although its group seems to have workers.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Let another service have the outputs of one that was given up, topics and keys in Redis.

    Its workers must have stopped. The topics and keys themselves stay as they are.
    """
    done = await _release(load_settings(), app_id, force=force)
    if as_json:
        print_json(done)
        return
    where = [*done["topics"], *([f"keys {done['redis_prefix']}:…"] if done["redis_prefix"] else [])]
    say(f"released by {app_id}: {', '.join(where)}")


async def _release(settings: Settings, app_id: str, *, force: bool = False) -> dict[str, Any]:
    broker = need_broker(settings)
    await prepare_topics(settings, broker)
    async with admin_client(broker) as admin:
        working = await member_count(admin, app_id)
    if working and not force:
        raise CommandError(
            f"group {app_id!r} has {working} workers; stop them first, or they would go on "
            "writing. One that was killed is a member until its session ends "
            "(CLV_SESSION_TIMEOUT); if you know that none runs: --force"
        )
    if working is None:
        warn(f"whether workers of group {app_id!r} still run cannot be seen; stop them")
    topics = await release_outputs(settings, broker, app_id)
    prefix = None
    if settings.redis is None:
        warn("CLV_REDIS is not set: what the service has in Redis stays claimed")
    else:
        async with reading(settings) as cache:
            if await cache.release(app_id):
                prefix = settings.redis_prefix
    if not topics and prefix is None:
        raise CommandError(
            f"{app_id!r} has claimed nothing in {settings.topics.models}, nor Redis keys "
            f"{settings.redis_prefix}:…; `clv doctor` shows whose they are"
        )
    return {"app_id": app_id, "topics": list(topics), "redis_prefix": prefix}
