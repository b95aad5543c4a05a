"""What is done to the lines from the workers to Kafka and to Redis."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

from tests.faults.breaks.kinds import Happen, a_while
from tests.faults.proxy import Proxy
from tests.faults.world import World

Which = Callable[[World, random.Random], Sequence[Proxy]]
What = Callable[[Proxy, random.Random], None]


def to_kafka(world: World, _dice: random.Random) -> Sequence[Proxy]:
    """The lines to all nodes."""
    return world.node_proxies


def to_one_node(world: World, dice: random.Random) -> Sequence[Proxy]:
    """The line to a node."""
    return [dice.choice(world.node_proxies)]


def to_redis(world: World, _dice: random.Random) -> Sequence[Proxy]:
    """The line to Redis."""
    return [world.redis_proxy]


def drop(proxy: Proxy, _dice: random.Random) -> None:
    """Let nothing through, and have what was under way arrive later."""
    proxy.drop()


def refuse(proxy: Proxy, _dice: random.Random) -> None:
    """End all connections, and refuse new ones."""
    proxy.refuse()


def delay(shortest: float, longest: float) -> What:
    """Make everything late, in each direction, by some seconds."""
    return lambda proxy, dice: proxy.delay(dice.uniform(shortest, longest))


def throttle(bytes_per_second: float) -> What:
    """Let only so much through in each direction of each connection."""
    return lambda proxy, _dice: proxy.throttle(bytes_per_second)


def broken(which: Which, what: What, shortest: float, longest: float) -> Happen:
    """Lines that something is done to, for some seconds."""

    async def happen(world: World, dice: random.Random) -> None:
        for proxy in which(world, dice):
            what(proxy, dice)
        await a_while(dice, shortest, longest)

    return happen
