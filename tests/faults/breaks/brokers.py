"""Kafka nodes that die, freeze, and refuse; lines to them that break."""

from __future__ import annotations

import asyncio
import random

from tests.faults.breaks.kinds import Break
from tests.faults.world import World
from tests.servers.kafka import KafkaNode


async def _a_leader(world: World, dice: random.Random) -> KafkaNode:
    """A node that leads one of the service's partitions."""
    topics = world.settings.topics
    topic = dice.choice([*topics.inputs, topics.updates])
    return world.nodes[await world.leader(topic, dice.randrange(world.settings.partitions))]


async def node_killed(world: World, dice: random.Random) -> None:
    """Kill a node; it comes back on its data."""
    node = await _a_leader(world, dice)
    node.kill()
    await asyncio.sleep(dice.uniform(0.5, 3.0))


async def nodes_killed(world: World, dice: random.Random) -> None:
    """Kill all nodes at once."""
    for node in world.nodes:
        node.kill()
    await asyncio.sleep(dice.uniform(0.2, 1.5))


async def node_frozen(world: World, dice: random.Random) -> None:
    """Freeze a node, perhaps for so long that others take its place."""
    node = await _a_leader(world, dice)
    node.freeze()
    await asyncio.sleep(dice.uniform(2.0, 7.0))
    node.thaw()


async def nodes_frozen(world: World, dice: random.Random) -> None:
    """Freeze all nodes."""
    for node in world.nodes:
        node.freeze()
    await asyncio.sleep(dice.uniform(1.5, 5.0))
    for node in world.nodes:
        node.thaw()


async def cut_off(world: World, dice: random.Random) -> None:
    """Let nothing through between workers and Kafka, for longer than a session."""
    for proxy in world.node_proxies:
        proxy.drop()
    await asyncio.sleep(dice.uniform(1.0, 6.0))


async def cut_off_from_one(world: World, dice: random.Random) -> None:
    """Let nothing through between workers and one node."""
    dice.choice(world.node_proxies).drop()
    await asyncio.sleep(dice.uniform(1.5, 6.0))


async def slow_line(world: World, dice: random.Random) -> None:
    """Make everything to and from Kafka 300 ms late."""
    for proxy in world.node_proxies:
        proxy.delay(0.3)
    await asyncio.sleep(dice.uniform(2.0, 4.0))


async def narrow_line(world: World, dice: random.Random) -> None:
    """Let only 30 kB a second through each connection."""
    for proxy in world.node_proxies:
        proxy.throttle(30_000)
    await asyncio.sleep(dice.uniform(2.0, 4.0))


async def resets(world: World, dice: random.Random) -> None:
    """Reset all connections, again and again."""
    for _ in range(4):
        for proxy in world.node_proxies:
            proxy.reset()
        await asyncio.sleep(dice.uniform(0.1, 0.8))


async def refused(world: World, dice: random.Random) -> None:
    """End all connections to Kafka, and refuse new ones."""
    for proxy in world.node_proxies:
        proxy.refuse()
    await asyncio.sleep(dice.uniform(0.5, 3.0))


async def too_few_copies(world: World, dice: random.Random) -> None:
    """Have Kafka refuse all outputs: a copy is missing, and all are asked for."""
    topics = world.settings.topics
    for topic in (topics.updates, topics.segment_changes):
        await world.configure_topic(topic, "min.insync.replicas", "3")
    dice.choice(world.nodes).freeze()
    # A frozen copy is out of sync after three seconds.
    await asyncio.sleep(dice.uniform(4.0, 7.0))


async def too_large(world: World, dice: random.Random) -> None:
    """Have Kafka refuse every value update as too large."""
    await world.configure_topic(world.settings.topics.updates, "max.message.bytes", "100")
    await asyncio.sleep(dice.uniform(0.5, 3.0))


def _nodes(name: str, says: str, happen: object, workers: int = 1) -> Break:
    return Break(name, "broker", says, happen, workers, nodes=True)  # type: ignore[arg-type]


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
    _nodes("too-large", "Kafka refuses outputs: too large", too_large),
]
