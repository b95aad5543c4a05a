"""A pipeline between stand-ins."""

from types import SimpleNamespace

import pytest

from models.timeline import Timeline
from streams.folding import Folding
from streams.pipeline import Pipeline
from streams.settings import Settings
from streams.ticks import Ticks

from .support import Broker, Cache, Table


@pytest.fixture
def running():
    broker, crashes = Broker(), []

    async def crash(error):
        crashes.append(error)

    consumer = SimpleNamespace(committed_to=lambda tp: 0)
    app = SimpleNamespace(producer=broker, crash=crash, consumer=consumer)
    feed = SimpleNamespace(timeline=Timeline(), rules=Timeline())
    cache = Cache()
    pipeline = Pipeline(app, Table(broker), Settings(), partitions=1, feed=feed, cache=cache)
    return SimpleNamespace(
        pipeline=pipeline,
        folding=Folding(pipeline, pause_seconds=0.0),
        ticks=Ticks(pipeline, step_seconds=None),
        broker=broker,
        cache=cache,
        crashes=crashes,
    )
