"""A Redis that is gone, frozen, slow, full, or not the one it was."""

from __future__ import annotations

import asyncio
import json
import random
from pathlib import Path

from streams.cache import CachedScore, ScoreCache
from tests.faults.breaks.kinds import Break, a_while
from tests.faults.breaks.lines import broken, delay, drop, refuse, to_redis
from tests.faults.redis_server import RedisServer
from tests.faults.world import World
from tests.servers.scores import put

TWO_DAYS = 2 * 24 * 3600 * 1000
GHOSTS = 5
MENDED_SECONDS = 60.0
"""In which Redis must be as it should be after what no worker is told of at once."""


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


async def old_dump(world: World, dice: random.Random) -> None:
    """Let a copy take over that is as one of two days ago.

    It holds customers who were erased since, of whom not even a tombstone is left in the log.
    """
    copy = await world.redis.save()
    await a_while(dice, 0.5, 1.5)
    aged = await _aged(world, copy)
    with world.redis_replaced():
        await world.redis.kill()
        world.redis.restore(aged)
        await world.redis.start()


async def _aged(world: World, copy: Path) -> Path:
    """The copy with all times put back, and with customers who are in it alone."""
    async with RedisServer(world.redis.directory / "aged") as old:
        await old.kill()
        old.restore(copy)
        await old.start()
        prefix = world.settings.redis_prefix
        async with old.client() as redis:
            for field, time in (await redis.hgetall(f"{prefix}:times")).items():
                await redis.hset(f"{prefix}:times", field, int(time) - TWO_DAYS)
            cache = ScoreCache(redis, prefix)
            async for key in redis.scan_iter(f"{prefix}:customer:{world.run_id}-*"):
                await put(cache, [_ghost(key.decode(), await redis.hgetall(key), world.run_id, n)
                                 for n in range(GHOSTS)])  # fmt: skip
                break
        return await old.save()


def _ghost(key: str, fields: dict[bytes, bytes], run_id: str, number: int) -> CachedScore:
    """A customer who has another one's score."""
    customer = key.rpartition(":")[2]
    name = f"{run_id}-{990_000 + number}"
    update = fields[b"update"].replace(customer.encode(), name.encode())
    segments = tuple(json.loads(fields[b"segments"]).items())
    return CachedScore(name, 0, float(fields[b"clv"]), segments, update)


async def evicts(world: World, dice: random.Random) -> None:
    """Let Redis evict keys, whichever it likes."""
    # Late, so that few of those who are evicted are written again for another reason.
    await a_while(dice, 1.5, 5.0)
    await world.redis.evict(dice.randint(10, 60))
    await a_while(dice, 0.5, 3.0)


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
    Break(
        "redis-old-dump",
        "redis",
        "a copy of Redis of two days ago takes over, with customers who were erased since",
        old_dump,
        mends=MENDED_SECONDS,
    ),
    Break(
        "redis-evicts",
        "redis",
        "Redis evicts keys for a while",
        evicts,
        mends=MENDED_SECONDS,
        watched=False,
    ),
    Break("redis-frozen", "redis", "Redis is frozen for eight seconds", frozen),
    Break("redis-slow", "redis", "Redis answers late", slow),
    Break("redis-full", "redis", "Redis refuses to hold more", full),
    Break("redis-cut-off", "redis", "nothing gets through to Redis", cut_off),
    Break("redis-refused", "redis", "connections to Redis are refused", refused),
    Break(
        "redis-away-and-kill", "redis", "a worker is killed while Redis is away", away_and_killed
    ),
]
