"""What was sent on before the partitions grew comes first afterwards: in memory, step by step."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest
from faust.types import TP

from models.aggregate.record import BASIS_KEY
from models.routing import Route, route_header
from streams.basis.record import decode_basis, encode_basis
from streams.files.outgoing import OutgoingEvent, cloud_event
from streams.kafka.partitions import home_partition
from streams.settings import Settings
from streams.testing import running_topology
from streams.testing.settings import shop_settings
from streams.testing.topology import Topology
from streams.topics import changelog_topic

CUSTOMER = "c1"
TIME = datetime(2026, 1, 3, 10, tzinfo=UTC)
SENT_ON = 300
"""The first orders were misrouted where they were published, which is their home now."""

ALL = 800
"""More than are remembered: an order that so many newer ones have overtaken is refused."""


def order(number: int) -> OutgoingEvent:
    placed_at = TIME + timedelta(hours=number)
    return cloud_event(
        "orders", "order.placed", source="/shop", event_id=f"o{number}", time=placed_at,
        customer_id=CUSTOMER,
        data={
            "order_id": f"o{number}", "customer_id": CUSTOMER, "placed_at": placed_at,
            "currency": "EUR", "total": "40.00",
        },
    )  # fmt: skip


def in_turns() -> Settings:
    """Settings of a worker that gets forty records of each log at a time."""
    return shop_settings(poll_records=40)


def at_home(topology: Topology, topic: str) -> TP:
    return TP(topic, home_partition(CUSTOMER.encode(), topology.partitions))


def stored(topology: Topology) -> list[bytes]:
    """What is stored in the customer's partition under the customer's key, oldest first."""
    log = topology.broker.logs[at_home(topology, changelog_topic(topology.settings))]
    return [r.value for r in log if r.key == CUSTOMER.encode() and r.value is not None]


def publish(topology: Topology) -> None:
    topics, broker = topology.settings.topics, topology.broker
    orders, rerouted = at_home(topology, topics.orders), at_home(topology, topics.rerouted)
    for number in range(ALL):
        event = order(number)
        offset = broker.append(orders, event.value, event.key, headers=event.headers)
        if number < SENT_ON:
            route = route_header(Route(f"{orders.topic}/{orders.partition}", offset, event.key))
            broker.append(rerouted, event.value, event.key, headers=(*event.headers, route))
    broker.commit({orders: SENT_ON})


def say_first(topology: Topology, end: int, generation: str = "") -> None:
    """Say up to where the rerouted records come first, as a growth does at its end."""
    tp = at_home(topology, changelog_topic(topology.settings))
    log = topology.broker.logs[tp]
    held = next(r.value for r in reversed(log) if r.key == BASIS_KEY and r.value is not None)
    basis = decode_basis(held, tp.partition)
    rerouted = topology.settings.topics.rerouted
    basis.first = {f"{rerouted}/{tp.partition}{generation}": end}
    topology.broker.append(tp, encode_basis(basis), key=BASIS_KEY)


async def outcome(topology: Topology) -> tuple[int, int]:
    """How many orders count, and how many are dead letters."""
    await topology.settled()
    letters = topology.broker.records(topology.settings.topics.dead_letters)
    return (await topology.updates.last(CUSTOMER)).totals.orders, len(letters)


async def killed_after(topology: Topology, batches: int) -> None:
    """Start a worker, and kill it when it has stored so many batches; it commits nothing."""
    topology.broker.may_commit.clear()
    before = len(stored(topology))
    await topology.start_worker()
    async with asyncio.timeout(30):
        while len(stored(topology)) < before + batches:  # noqa: ASYNC110 - the broker tells nobody
            await asyncio.sleep(0)
    await topology.kill_worker()
    topology.broker.may_commit.set()


@pytest.mark.parametrize("batches", [[], [1], [2, 1], [3], [4, 2]])
async def test_newer_events_wait_for_those_that_were_sent_on(batches):
    """batches: stored by workers that are killed then."""
    async with running_topology(in_turns()) as topology:
        await topology.stop_worker()
        publish(topology)
        say_first(topology, SENT_ON)
        for number in batches:
            await killed_after(topology, number)
        await topology.start_worker()
        assert await outcome(topology) == (ALL, 0)


async def test_they_wait_for_nothing_that_is_lost():
    async with running_topology(in_turns()) as topology:
        await topology.stop_worker()
        publish(topology)
        # The log ends before that.
        say_first(topology, SENT_ON + 10)
        await topology.start_worker()
        assert await outcome(topology) == (ALL, 0)


async def test_they_do_not_wait_for_another_log_of_the_name():
    async with running_topology(in_turns()) as topology:
        await topology.stop_worker()
        publish(topology)
        say_first(topology, SENT_ON, generation="#1")
        await topology.start_worker()
        counted, refused = await outcome(topology)
        # Without an order among the two logs, the later ones of those sent on are overtaken.
        assert counted + refused == ALL
        assert 0 < refused < SENT_ON
