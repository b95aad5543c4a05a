"""The same events come to the same, on whatever broker, with however many workers that die."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from models.context import Context
from models.contracts.clock import Tick
from models.economics import Economics
from streams.batch import end_of_day, fit_states, fold_events
from streams.cli.digest import published_result
from streams.cli.record_options import ROLES, topics_at_broker
from streams.datasets import DATASETS
from streams.datasets.dataset import DatasetMissingError
from streams.kafka.connection import Broker
from streams.outcome.outcome import Outcome
from streams.publisher import Publisher
from streams.recording import BEGINNING, END, Recording, live_slice, record_slice
from streams.replay.memory import in_memory
from streams.replay.source import FromFile
from streams.settings import Settings
from tests.test_streams.service.cluster import Cluster, cluster

ECONOMICS = Economics(currency="GBP")
PATIENCE = 120
PATIENT = {"CLV_SESSION_TIMEOUT": "10", "CLV_HEARTBEAT_INTERVAL": "1"}


@pytest.mark.kafka
@pytest.mark.slow
async def test_two_replays_two_brokers_and_a_killed_worker_make_one_digest(
    tmp_path: Path, monkeypatch
):
    # One worker is to die, and no other to be given up because the machine is busy.
    usual = Cluster.environment
    monkeypatch.setattr(Cluster, "environment", lambda self: usual(self) | PATIENT)
    dataset = DATASETS["online-retail"]
    try:
        events = list(dataset.events())
    except DatasetMissingError as missing:
        pytest.skip(str(missing))
    folded = fold_events(events, Context(ECONOMICS), end_of_day(dataset.as_of, ECONOMICS))
    parameters = fit_states(folded.states, dataset.as_of, "day", ECONOMICS).parameters
    tick = Tick(as_of=dataset.as_of, parameters=parameters.version)
    path = tmp_path / "online-retail.clvrec"
    found = {}
    async with cluster(tmp_path, "embedded", economics=ECONOMICS) as service:
        await service.publish_parameters(parameters)
        await asyncio.gather(*(service.start_worker() for _ in range(2)))
        await service.publish(events)
        await finished(service, tick)
        found["embedded"] = await published_result(service.settings)
        await recorded(service.settings, path)
    async with cluster(
        tmp_path, "kafka", economics=ECONOMICS, partitions=6, poll_records=300
    ) as service:
        await service.publish_parameters(parameters)
        await asyncio.gather(*(service.start_worker() for _ in range(3)))
        half = len(events) // 2
        await service.publish(events[:half])
        await service.settled()
        await killed_in_the_middle(service, events[half:])
        await finished(service, tick)
        found["kafka"] = await published_result(service.settings)
    for number in range(2):
        outcome = Outcome(detailed=False)
        async with in_memory(
            Settings(economics=ECONOMICS), FromFile(Recording(path)), outcome
        ) as replay:
            await replay.run()
        found[f"memory {number}"] = outcome.result()
    digests = {name: result.digests for name, result in found.items()}
    assert all(each == digests["embedded"] for each in digests.values()), digests
    assert {name: result.disagreements for name, result in found.items()} == dict.fromkeys(
        found, ()
    )
    assert found["kafka"].customers == 4_372
    assert len({tuple(result.dead_letters.items()) for result in found.values()}) == 1


async def killed_in_the_middle(service, events) -> None:
    """Publish, and kill a worker that has records in work."""
    async with Publisher(service.broker, service.settings.topics, service.partitions) as publisher:
        publishing = asyncio.create_task(publisher.publish(events))
        topic = service.settings.topics.updates
        before = len(await service.records(topic))
        async with asyncio.timeout(PATIENCE):
            while len(await service.records(topic)) == before:  # noqa: ASYNC110 - at the broker
                await asyncio.sleep(0.01)
        await service.workers[0].stop(signal.SIGKILL)
        await publishing
    await service.start_worker()


async def finished(service, tick) -> None:
    """Have everybody valued, and stop the workers."""
    await service.settled()
    await service.tick(tick)
    await service.settled()


async def recorded(settings: Settings, path: Path) -> None:
    topics = await topics_at_broker(settings, ROLES)
    async with live_slice(Broker.of(settings), topics) as live:
        await record_slice(path, live, BEGINNING, END)
