"""Build the Faust app: topics, table and agents."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from streams.basis.keeper import Keeper
from streams.basis.logs import Logs
from streams.cache.writer import CacheWriter
from streams.folding import PAUSE_SECONDS, Folding
from streams.kafka.connection import Broker
from streams.kafka.partitions import TopicPartition
from streams.pacing import STEP_SECONDS
from streams.parameters import Feed
from streams.pipeline import Pipeline
from streams.settings import Settings
from streams.ticks import Ticks
from streams.topics import TABLE_NAME
from streams.transport import BatchApp, batch_app, faust_settings


def build_app(
    settings: Settings,
    broker: Broker,
    partitions: int,
    feed: Feed,
    cache: CacheWriter,
    *,
    now: Callable[[], int] | None = None,
    logs: Logs | None = None,
    has_basis: bool = False,
    pause_seconds: float = PAUSE_SECONDS,
    step_seconds: float | None = STEP_SECONDS,
) -> tuple[BatchApp, Pipeline]:
    """Return the app and its pipeline, with agents for the input topics, identities and the clock.

    now: returns milliseconds since 1970; None: the wall clock. logs: the broker's logs, with which
    the state is compared; None: no comparison. has_basis: the result of `check_start`.
    pause_seconds: see `Folding`. step_seconds: see `Ticks`.
    """
    app = batch_app(
        settings.app_id,
        **faust_settings(broker),
        broker_commit_interval=settings.commit_interval,
        broker_session_timeout=settings.session_timeout,
        broker_heartbeat_interval=settings.heartbeat_interval,
        broker_max_poll_records=settings.poll_records,
        topic_partitions=partitions,
        topic_replication_factor=settings.replication,
        # All topics exist already; a worker may have no right to create any.
        topic_allow_declare=False,
        topic_disable_leader=True,
        state_dir=settings.state_dir,
        digest_key=settings.erasure_secret,
    )
    app.one_by_one = frozenset({settings.topics.clock})
    # Who had the partitions before may have used parameters or rules that are on their way here.
    app.before_flow = (feed.caught_up,)
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
    folding = Folding(pipeline, pause_seconds=pause_seconds)
    ticks = Ticks(pipeline, step_seconds=step_seconds)

    async def fold(stream: Any) -> None:
        async for event in stream.noack().events():
            await folding.fold(event)

    async def exchange(stream: Any) -> None:
        async for event in stream.noack().events():
            await pipeline.exchange(event)

    async def pass_time(stream: Any) -> None:
        async for event in stream.noack().events():
            await ticks.pass_time(event)

    for name in (*settings.topics.inputs, settings.topics.rerouted):
        app.agent(app.topic(name), name=f"fold {name}")(fold)
    app.agent(app.topic(settings.topics.identity), name="exchange")(exchange)

    async def follow(_app: Any, assigned: set[TopicPartition], **_: Any) -> None:
        pipeline.assigned()
        orders = settings.topics.orders
        cache.assigned({tp.partition for tp in assigned if tp.topic == orders})

    app.on_partitions_assigned.connect(follow)
    app.agent(app.topic(settings.topics.clock), name="pass time")(pass_time)
    return app, pipeline
