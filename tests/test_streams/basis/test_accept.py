"""`clv accept-loss`: what is done about a loss, and what the values are afterwards."""

import json
from pathlib import Path

import pytest

from streams.basis.accept import NotAcceptable
from streams.cli.accept_loss import found_losses
from streams.cli.checks import servers
from streams.cli.console import CommandError
from streams.topics import changelog_topic
from tests.test_streams.service.cluster import cluster

from .support import (
    clv,
    committed,
    counted,
    delete,
    delete_before,
    grow,
    keyed,
    make_anew,
    orders,
    totals,
)

pytestmark = [pytest.mark.kafka, pytest.mark.slow]

A, B = keyed(0, 1, 2) + keyed(1, 1, 2)
"""Customers of partitions 0 and 1; each has three orders of 40 USD."""


@pytest.fixture
async def service(tmp_path: Path):
    """Two partitions on Apache Kafka, worked on, and no worker."""
    async with cluster(tmp_path, "kafka", partitions=2) as running:
        await running.start_worker()
        await running.publish([*orders(A, "1", "2", "3"), *orders(B, "1", "2", "3")])
        await running.settled()
        assert await running.workers[0].stop() == 0
        assert await totals(running) == {A: (3, 120.0), B: (3, 120.0)}
        yield running


async def shown(service, state=None):
    """The losses that the command shows, by place; nothing is changed."""
    steps = await found_losses(service.settings, service.broker, state, yes=False)
    return {step.finding.place: step.resolved for step in steps}


async def accepted(service, *options, state=None):
    """Accept what is lost; returns the losses. Then nothing is, and a worker goes on."""
    losses = await shown(service, state)
    status, out, said = await clv(service, "accept-loss", "--yes", "--json", *options)
    assert status == 0, said
    document = json.loads(out)
    assert document["accepted"]
    assert {loss["place"]: loss["resolved"] for loss in document["losses"]} == losses
    checks = await servers(service.settings)
    assert not [check for check in checks if check.status == "fail"]
    assert [check for check in checks if check.name == "accepted losses"]
    assert await shown(service) == {}
    await service.start_worker()
    return set(losses)


async def test_nothing_is_done_while_a_worker_runs(service):
    await service.start_worker()
    await service.publish(orders(A, "4"))
    await service.settled()
    with pytest.raises(CommandError, match="has 1 workers: stop them all first"):
        await found_losses(service.settings, service.broker, None, yes=True)


async def test_after_retention_reading_goes_on_with_the_first_event_that_is_there(service):
    await service.publish(orders(A, *"4567"))
    topic = service.settings.topics.orders
    await delete_before(service, topic, 0, 5)
    assert await accepted(service) == {f"{topic}[0]"}
    await service.settled()
    # 4 and 5 are gone.
    assert await totals(service) == {A: (5, 200.0), B: (3, 120.0)}
    assert '"a loss was accepted"' in service.workers[-1].log.read_text()


@pytest.mark.parametrize("published", [1, 5])
async def test_a_topic_that_was_made_anew_is_read_from_its_beginning(service, published):
    topic = service.settings.topics.orders
    await make_anew(service, topic)
    await service.publish(orders(A, *map(str, range(10, 10 + published))))
    assert await accepted(service) == {f"{topic}[0]", f"{topic}[1]"}
    await service.settled()
    assert await totals(service) == {A: (3 + published, 40.0 * (3 + published)), B: (3, 120.0)}
    # Its records are no replays after a restart either, and those that are count once.
    await service.workers[-1].stop()
    await service.start_worker()
    await service.publish(orders(A, "10", "30"))
    await service.settled()
    assert (await totals(service))[A] == (4 + published, 40.0 * (4 + published))


async def test_a_topic_that_is_gone_is_created_and_begins_anew(service):
    topic = service.settings.topics.orders
    await delete(service, topic)
    status, _, said = await clv(service, "accept-loss")
    assert (status, "nothing was changed" in said) == (1, True)
    assert await accepted(service) == {topic}
    await service.publish(orders(A, "20"))
    await service.settled()
    assert await totals(service) == {A: (4, 160.0), B: (3, 120.0)}


@pytest.mark.parametrize("made_anew", [True, False])
async def test_a_state_is_computed_anew_under_greater_versions(service, made_anew):
    before = {c: data["version"] for c, data in (await service.updates()).items()}
    changelog = changelog_topic(service.settings)
    await (make_anew if made_anew else delete)(service, changelog)
    with pytest.raises(NotAcceptable, match="--rebuild"):
        await found_losses(service.settings, service.broker, None, yes=True)
    await accepted(service, "--rebuild", state="rebuild")
    await service.publish(orders(A, "4"))
    await service.settled()
    assert await totals(service) == {A: (4, 160.0), B: (3, 120.0)}
    after = {c: data["version"] for c, data in (await service.updates()).items()}
    assert after == {A: before[A] + 4, B: before[B] + 3}


async def test_a_state_may_begin_from_nothing(service):
    before = {c: data["version"] for c, data in (await service.updates()).items()}
    await delete(service, changelog_topic(service.settings))
    topic = service.settings.topics.orders
    await accepted(service, "--from-nothing", state="from-nothing")
    assert await committed(service, topic, 0) == 3
    await service.publish(orders(A, "4"))
    await service.settled()
    updates = await service.updates()
    assert updates[A]["totals"]["orders"] == 1
    assert updates[A]["version"] == before[A] + 1
    assert updates[B]["version"] == before[B]


async def test_what_is_no_loss_is_not_accepted(service):
    await grow(service, 4, *counted(service))
    with pytest.raises(NotAcceptable, match="clv partitions grow 4"):
        await found_losses(service.settings, service.broker, None, yes=True)
