"""The Faust app: topics, table and agents, put together in one place."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import faust
from faust.types import TP

from streams.basis.keeper import Keeper
from streams.basis.logs import Logs
from streams.cache import CacheWriter
from streams.connection import Broker
from streams.parameters import ParameterFeed
from streams.pipeline import Pipeline
from streams.settings import Settings
from streams.topics import TABLE_NAME
from streams.transport import batch_app


def build_app(
    settings: Settings,
    broker: Broker,
    partitions: int,
    feed: ParameterFeed,
    cache: CacheWriter,
    *,
    now: Callable[[], int] | None = None,
    logs: Logs | None = None,
    has_basis: bool = False,
) -> tuple[faust.App, Pipeline]:
    """The app and its pipeline; agents for the input topics, for identities and for the clock.

    now: milliseconds since 1970; none: the wall clock. logs: what the state is compared with; none:
    nothing is. has_basis: what `check_start` returned.
    """
    app = batch_app(
        settings.app_id,
        **broker.faust_settings(),
        broker_commit_interval=settings.commit_interval,
        broker_session_timeout=settings.session_timeout,
        broker_heartbeat_interval=settings.heartbeat_interval,
        broker_max_poll_records=settings.poll_records,
        topic_partitions=partitions,
        topic_replication_factor=settings.replication,
        # All topics are there already; a worker may have no right to create any.
        topic_allow_declare=False,
        topic_disable_leader=True,
        state_dir=settings.state_dir,
        digest_key=settings.erasure_secret,
    )
    app.one_by_one = frozenset({settings.topics.clock})
    table = app.Table(TABLE_NAME, partitions=partitions)
    keeper = None
    if logs is not None:
        keeper = Keeper(app, table, settings, logs, partitions=partitions, has_basis=has_basis)
    pipeline = Pipeline(
        app,
        table,
        settings,
        partitions=partitions,
        feed=feed,
        cache=cache,
        now=now,
        keeper=keeper,
    )

    async def fold(stream: Any) -> None:
        async for event in stream.noack().events():
            await pipeline.fold(event)

    async def exchange(stream: Any) -> None:
        async for event in stream.noack().events():
            await pipeline.exchange(event)

    async def pass_time(stream: Any) -> None:
        async for event in stream.noack().events():
            await pipeline.pass_time(event)

    for name in (*settings.topics.inputs, settings.topics.rerouted):
        app.agent(app.topic(name), name=f"fold {name}")(fold)
    app.agent(app.topic(settings.topics.identity), name="exchange")(exchange)

    async def follow(_app: Any, assigned: set[TP], **_: Any) -> None:
        pipeline.assigned()
        orders = settings.topics.orders
        cache.assigned({tp.partition for tp in assigned if tp.topic == orders})

    app.on_partitions_assigned.connect(follow)
    app.agent(app.topic(settings.topics.clock), name="pass time")(pass_time)
    return app, pipeline
