"""Kafka nodes that die, freeze, and refuse; lines to them that break."""

from __future__ import annotations

import asyncio
import random
import sys
from collections.abc import Awaitable, Callable, Sequence

from tests.faults.breaks.kinds import Break, Happen, a_while
from tests.faults.breaks.lines import (
    broken,
    delay,
    drop,
    refuse,
    throttle,
    to_kafka,
    to_one_node,
)
from tests.faults.processes import Process
from tests.faults.world import World
from tests.servers.kafka import KafkaNode

GROW_SECONDS = 80.0

Which = Callable[[World, random.Random], Awaitable[Sequence[KafkaNode]]]


async def a_leader(world: World, dice: random.Random) -> Sequence[KafkaNode]:
    """A node that leads one of the service's partitions."""
    topics = world.settings.topics
    topic = dice.choice([*topics.inputs, topics.updates])
    return [world.nodes[await _leader(world, topic, dice.randrange(world.settings.partitions))]]


async def _leader(world: World, topic: str, partition: int) -> int:
    """Index of the node that leads a partition."""
    async with world.admin() as admin:
        [described] = await admin.describe_topics([topic])
    [found] = [p for p in described["partitions"] if p["partition"] == partition]
    return int(found["leader"]) - 1


async def all_nodes(world: World, _dice: random.Random) -> Sequence[KafkaNode]:
    """All of them."""
    return world.nodes


def killed(which: Which, shortest: float, longest: float) -> Happen:
    """Nodes that die, and come back on their data after some seconds."""

    async def happen(world: World, dice: random.Random) -> None:
        for node in await which(world, dice):
            node.kill()
        await a_while(dice, shortest, longest)

    return happen


def frozen(which: Which, shortest: float, longest: float) -> Happen:
    """Nodes that freeze, perhaps for so long that others take their place."""

    async def happen(world: World, dice: random.Random) -> None:
        nodes = await which(world, dice)
        for node in nodes:
            node.freeze()
        await a_while(dice, shortest, longest)
        for node in nodes:
            node.thaw()

    return happen


node_killed = killed(a_leader, 0.5, 3.0)
nodes_killed = killed(all_nodes, 0.2, 1.5)
node_frozen = frozen(a_leader, 2.0, 7.0)
nodes_frozen = frozen(all_nodes, 1.5, 5.0)


async def resets(world: World, dice: random.Random) -> None:
    """Reset all connections, again and again."""
    for _ in range(4):
        for proxy in world.node_proxies:
            proxy.reset()
        await a_while(dice, 0.1, 0.8)


cut_off = broken(to_kafka, drop, 1.0, 6.0)
cut_off_from_one = broken(to_one_node, drop, 1.5, 6.0)
slow_line = broken(to_kafka, delay(0.3, 0.3), 2.0, 4.0)
narrow_line = broken(to_kafka, throttle(30_000), 2.0, 4.0)
refused = broken(to_kafka, refuse, 0.5, 3.0)


async def too_few_copies(world: World, dice: random.Random) -> None:
    """Have Kafka refuse all outputs: a copy is missing, and all are asked for."""
    topics = world.settings.topics
    for topic in (topics.updates, topics.segment_changes):
        await world.configure_topic(topic, "min.insync.replicas", "3")
    dice.choice(world.nodes).freeze()
    # A frozen copy is out of sync after three seconds.
    await a_while(dice, 4.0, 7.0)


async def too_large(world: World, dice: random.Random) -> None:
    """Have Kafka refuse every value update as too large."""
    await world.configure_topic(world.settings.topics.updates, "max.message.bytes", "100")
    await a_while(dice, 0.5, 3.0)


async def partitions_grown(world: World, dice: random.Random) -> None:
    """Stop the workers, give the topics more partitions, and start them again.

    What gives them is killed once, at any moment, and run again.
    """
    workers = len(world.fleet.slots)
    await a_while(dice, 0.5, 3.0)
    await world.fleet.resize(0)()
    partitions = world.settings.partitions + dice.randint(1, 2 * world.settings.partitions)
    status = await _grow(world, partitions, dice.uniform(1.0, 8.0))
    while status is None:
        # Its place in the group is free when its session has ended.
        await asyncio.sleep(world.setup.session)
        status = await _grow(world, partitions)
    if status != 0:
        said = (world.directory / "grow.log").read_text(errors="replace")[-2_000:]
        raise AssertionError(f"clv partitions grow {partitions} ended with {status}:\n{said}")
    world.fleet.resize(workers)


async def _grow(world: World, partitions: int, seconds: float | None = None) -> int | None:
    """Run `clv partitions grow`, while no worker runs; returns its exit status.

    seconds: after which it is killed, and returns none. If it was done before it was killed, it
    refuses to do it again, and that counts as done.
    """
    log = world.directory / "grow.log"
    command = [sys.executable, "-m", "streams.cli", "partitions", "grow", str(partitions)]
    process = await Process.start(command, log, world.fleet.environment)
    try:
        status = await asyncio.wait_for(process.process.wait(), seconds or GROW_SECONDS)
    except TimeoutError:
        await process.kill()
        if seconds is None:
            raise AssertionError(f"it grows for {GROW_SECONDS:g} s:\n{process.tail()}") from None
        return None
    said = " ".join(process.tail().split())
    if status != 0 and f"there are {partitions} partitions already" in said:
        status = 0
    if status == 0:
        world.settings = world.settings.model_copy(update={"partitions": partitions})
        world.logs.grow(partitions)
    return status


def _nodes(name: str, says: str, happen: Happen, workers: int = 1) -> Break:
    return Break(name, "broker", says, happen, workers, nodes=True)


KINDS = [
    _nodes("node-killed", "a Kafka node is killed and comes back", node_killed),
    _nodes("nodes-killed", "all Kafka nodes are killed and come back", nodes_killed),
    _nodes("node-frozen", "a Kafka node is frozen", node_frozen),
    _nodes("nodes-frozen", "all Kafka nodes are frozen", nodes_frozen),
    Break("cut-off", "broker", "nothing gets through to Kafka", cut_off, 2),
    _nodes("cut-off-from-one", "nothing gets through to one node", cut_off_from_one, 2),
    Break("slow-line", "broker", "everything to Kafka is 300 ms late", slow_line),
    Break("narrow-line", "broker", "little gets through to Kafka", narrow_line),
    Break("resets", "broker", "connections to Kafka are reset", resets),
    Break("refused", "broker", "connections to Kafka are refused", refused),
    _nodes("too-few-copies", "Kafka refuses outputs: too few copies in sync", too_few_copies),
    Break(
        "partitions-grown",
        "broker",
        "the partitions grow between two workers' lives, and that is killed once",
        partitions_grown,
        2,
        nodes=True,
        load=8,
        watched=False,
        leaves_another_world=True,
    ),
    _nodes("too-large", "Kafka refuses outputs: too large", too_large),
]
