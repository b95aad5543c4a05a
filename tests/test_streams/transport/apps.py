"""Faust apps over the in-memory broker: stock Faust, or ours."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, Protocol

import faust

from streams.testing.broker import POLL_SECONDS, MemoryBroker
from streams.testing.recovering import MemoryRecovery
from streams.testing.transport import BatchMemoryTransport, MemoryTransport
from streams.transport import batch_app

DEADLINE_SECONDS = 5.0
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
        app.transport = BatchMemoryTransport(app, broker)
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


@asynccontextmanager
async def running(app: faust.App) -> AsyncIterator[faust.App]:
    """A started app over the in-memory broker, stopped at the end."""
    app.finalize()
    broker = app.transport.broker
    if isinstance(app.transport, BatchMemoryTransport):
        app.tables._recovery = MemoryRecovery(app, app.tables, beacon=app.tables.beacon)
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
    """Faust's table manager sleeps a second at its start, in case of tables defined late."""


async def until(condition: Callable[[], Any], seconds: float = DEADLINE_SECONDS) -> None:
    """Wait until something holds; fail if it does not in time."""
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 - of many kinds
            await asyncio.sleep(POLL_SECONDS)
