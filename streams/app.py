"""The Faust app: topics, table and agents, put together in one place."""

from __future__ import annotations

from typing import Any

import faust

from streams.cache import CacheWriter
from streams.parameters import ParameterFeed
from streams.pipeline import Pipeline
from streams.settings import Settings
from streams.topics import TABLE_NAME
from streams.transport import batch_app


def build_app(
    settings: Settings, broker: str, partitions: int, feed: ParameterFeed, cache: CacheWriter
) -> tuple[faust.App, Pipeline]:
    """The app and its pipeline; one agent for each input topic, and one for the clock."""
    app = batch_app(
        settings.app_id,
        broker=f"kafka://{broker}",
        broker_commit_interval=settings.commit_interval,
        broker_session_timeout=settings.session_timeout,
        broker_heartbeat_interval=settings.heartbeat_interval,
        broker_max_poll_records=settings.poll_records,
        topic_partitions=partitions,
        topic_replication_factor=settings.replication,
    )
    table = app.Table(TABLE_NAME, partitions=partitions)
    pipeline = Pipeline(app, table, settings, partitions=partitions, feed=feed, cache=cache)

    async def fold(stream: Any) -> None:
        async for event in stream.noack().events():
            await pipeline.fold(event)

    async def pass_time(stream: Any) -> None:
        async for event in stream.noack().events():
            await pipeline.pass_time(event)

    for name in settings.topics.inputs:
        app.agent(app.topic(name), name=f"fold {name}")(fold)
    app.agent(app.topic(settings.topics.clock), name="pass time")(pass_time)
    return app, pipeline
