"""Faust apps over the in-memory broker: stock Faust, or ours."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import faust
from faust.types import TP

from streams.transport import batch_app
from streams.transport.memory.broker import POLL_SECONDS, MemoryBroker
from streams.transport.memory.driver import MemoryTransport, run_in_memory
from streams.transport.table import PartitionedTable

DEADLINE_SECONDS = 60.0
Work = Callable[[Any], Awaitable[None]]


class Kind(Protocol):
    """A Faust app over the in-memory broker: stock Faust, or ours."""

    name: str

    def app(self, broker: MemoryBroker, **settings: Any) -> faust.App:
        """An app that is not started."""

    def agent(
        self, app: faust.App, topic: str, work: Work, *, concurrency: int = 1, **schema: Any
    ) -> None:
        """Work on each record of a topic, and acknowledge it as one does here."""


class Stock:
    name = "stock"

    def app(self, broker: MemoryBroker, **settings: Any) -> faust.App:
        app = faust.App(
            "app", broker="kafka://nowhere", store="memory://", web_enabled=False, **settings
        )
        app.transport = MemoryTransport(app, broker)
        return app

    def agent(
        self,
        app: faust.App,
        topic: str,
        work: Work,
        *,
        concurrency: int = 1,
        **schema: Any,
    ) -> None:
        async def run(stream: Any) -> None:
            async for event in stream.events():
                await work(event.message)

        app.agent(app.topic(topic, **schema), concurrency=concurrency, name="run")(run)


class Ours:
    name = "ours"

    def app(self, broker: MemoryBroker, **settings: Any) -> faust.App:
        app = batch_app("app", broker="kafka://nowhere", **settings)
        run_in_memory(app, broker)
        return app

    def agent(
        self,
        app: faust.App,
        topic: str,
        work: Work,
        *,
        concurrency: int = 1,
        **schema: Any,
    ) -> None:
        async def run(stream: Any) -> None:
            async for event in stream.noack().events():
                for record in event.value.records:
                    await work(record)
                event.ack()

        app.agent(app.topic(topic, **schema), concurrency=concurrency, name="run")(run)


def put(table: Any, source: TP, key: bytes, value: bytes | None) -> None:
    """Set a key of the partition in work, or delete it, and tell the changelog."""
    if isinstance(table, PartitionedTable):
        table.update_partition(source, {key: value})
        table.send_items(source.partition, {key: value})
    elif value is None:
        del table[key]
    else:
        table[key] = value


def contents(table: Any) -> dict[bytes, bytes]:
    """All keys and values that a worker holds."""
    if not isinstance(table, PartitionedTable):
        return dict(table.items())
    parts = table.data.partitions.values()
    return {key: value for held in parts for key, value in held.items()}


@asynccontextmanager
async def running(app: faust.App) -> AsyncIterator[faust.App]:
    """A started app over the in-memory broker, stopped at the end."""
    app.finalize()
    broker = app.transport.broker
    # Faust's table manager sleeps a second at its start, in case of tables defined late.
    app.tables.sleep = _no_sleep
    try:
        await app.start()
        await until(lambda: app.consumer.flow_active and not app.rebalancing)
        yield app
    finally:
        broker.refusing.clear()
        broker.release()
        async with asyncio.timeout(DEADLINE_SECONDS):
            await app.stop()


async def _no_sleep(_seconds: float) -> None:
    """Nothing."""


async def until(condition: Callable[[], Any], seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until something holds; fail if it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - of many kinds
            await asyncio.sleep(POLL_SECONDS)
