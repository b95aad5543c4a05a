"""Ticks: in small steps, between which live events pass."""

import asyncio
from datetime import UTC, datetime

import pytest

from models.aggregate.record import decode_record
from models.contracts.clock import Tick
from models.engine import advance
from streams import pacing as pacing_module
from streams import ticks as ticks_module
from streams.pacing import LIVE_SECONDS
from streams.ticks import Ticks
from tests.test_models.events import KafkaRecord, milliseconds

from .support import Event, orders, topics, turns


async def test_time_passing_never_stores_an_older_record_over_a_newer(running, monkeypatch):
    monkeypatch.setattr(pacing_module, "MOST", 1)
    await running.folding.fold(orders(0, "c1", "c2", "c3"))
    await turns()
    tick = Tick(as_of=datetime(2026, 6, 1, tzinfo=UTC)).model_dump_json().encode()
    event = Event("clv.clock", KafkaRecord(0, milliseconds(1), None, tick))
    running.broker.held = True
    sweeping = asyncio.create_task(running.ticks.pass_time(event))
    await turns(2)
    await running.folding.fold(orders(10, "c1"))
    for _ in range(20):
        running.broker.arrive()
        await turns()
    await sweeping
    assert event.acked
    stored = {}
    for topic, key, value in running.broker.sent:
        if topic == "changelog":
            version = decode_record(value).version
            assert version > stored.get(key, 0)
            stored[key] = version
    assert stored == {b"c1": 3, b"c2": 2, b"c3": 2}


@pytest.mark.parametrize("live", [True, False])
async def test_a_sweep_rests_between_its_steps_for_live_events(live, running, monkeypatch):
    await running.folding.fold(orders(0, "c1", "c2", "c3"))
    await turns()
    if not live:
        running.pipeline.live_at -= LIVE_SECONDS
    monkeypatch.setattr(pacing_module, "MOST", 1)
    steps = []

    def advanced(*given, **named):
        steps.append("step")
        return advance(*given, **named)

    async def slept(seconds):
        for _ in range(20):
            await pause(0)
        if seconds:
            steps.append("rest")

    pause = asyncio.sleep
    monkeypatch.setattr(ticks_module, "advance", advanced)
    tick = Tick(as_of=datetime(2026, 6, 1, tzinfo=UTC)).model_dump_json().encode()
    event = Event("clv.clock", KafkaRecord(0, milliseconds(1), None, tick))
    with monkeypatch.context() as during:
        during.setattr(asyncio, "sleep", slept)
        await Ticks(running.pipeline).pass_time(event)
    await turns()
    assert event.acked
    # Three customers, and the key that is no customer.
    assert steps == (["step", "rest"] if live else ["step"]) * 4


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b'{"as_of": 3}', "invalid-field"),
        (b"not json", "invalid-field"),
        (b'{"as_of": "9999-12-31T23:59:59-14:00"}', "invalid-field"),
        (b'{"as_of": "2999-01-01T00:00:00Z"}', "future"),
    ],
)
async def test_a_tick_that_cannot_be_followed_becomes_a_dead_letter(running, value, reason):
    await running.folding.fold(orders(0, "c1"))
    await turns()
    before = dict(running.pipeline.table.states)
    event = Event("clv.clock", KafkaRecord(0, milliseconds(1), b"k", value))
    await running.ticks.pass_time(event)
    await turns()
    assert topics(running.broker)[-1] == "clv.dead-letters"
    assert running.pipeline.counts.dead_letters == {reason: 1}
    assert running.pipeline.table.states == before
    assert event.acked
