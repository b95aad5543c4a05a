"""A Redis that is gone, frozen, slow, full, or not the one it was."""

from __future__ import annotations

import asyncio
import random

from tests.faults.breaks.kinds import Break, a_while
from tests.faults.breaks.lines import broken, delay, drop, refuse, to_redis
from tests.faults.world import World


async def emptied(world: World, dice: random.Random) -> None:
    """Kill Redis, and start it again with nothing in it."""
    with world.redis_replaced():
        await world.redis.kill()
        await a_while(dice, 0.0, 2.0)
        await world.redis.start()


async def older_copy(world: World, dice: random.Random) -> None:
    """Let an older copy take over, as when a replica that lagged is promoted."""
    copy = await world.redis.save()
    await a_while(dice, 0.5, 1.5)
    with world.redis_replaced():
        await world.redis.kill()
        world.redis.restore(copy)
        await world.redis.start()


async def frozen(world: World, dice: random.Random) -> None:
    """Freeze Redis for longer than a client waits."""
    world.redis.freeze()
    await asyncio.sleep(8.0)
    world.redis.thaw()


async def full(world: World, dice: random.Random) -> None:
    """Let Redis refuse to hold more."""
    await world.redis.limit_memory(dice.randint(0, 100_000))
    await a_while(dice, 1.0, 4.0)


async def away_and_killed(world: World, dice: random.Random) -> None:
    """Kill the worker while Redis is away, so that what waits for Redis is forgotten."""
    world.redis_proxy.refuse()
    await a_while(dice, 0.5, 2.0)
    dice.choice(world.fleet.slots).kill()
    await a_while(dice, 0.0, 3.0)


slow = broken(to_redis, delay(0.1, 0.5), 2.0, 4.0)
cut_off = broken(to_redis, drop, 1.0, 7.0)
refused = broken(to_redis, refuse, 0.5, 3.0)


KINDS = [
    Break("redis-emptied", "redis", "Redis is killed and comes back empty", emptied),
    Break("redis-older", "redis", "an older copy of Redis takes over", older_copy),
    Break("redis-frozen", "redis", "Redis is frozen for eight seconds", frozen),
    Break("redis-slow", "redis", "Redis answers late", slow),
    Break("redis-full", "redis", "Redis refuses to hold more", full),
    Break("redis-cut-off", "redis", "nothing gets through to Redis", cut_off),
    Break("redis-refused", "redis", "connections to Redis are refused", refused),
    Break(
        "redis-away-and-kill", "redis", "a worker is killed while Redis is away", away_and_killed
    ),
]
