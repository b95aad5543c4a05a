"""Workers that die at the worst moment, freeze, come and go."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable

from tests.faults.breaks.kinds import Break
from tests.faults.world import World


async def kill(world: World, dice: random.Random) -> None:
    """Kill a worker at any moment."""
    dice.choice(world.fleet.slots).kill()


async def kill_often(world: World, dice: random.Random) -> None:
    """Kill again and again: at the start, in recovery, in a rebalance, or at work."""
    for _ in range(4):
        dice.choice(world.fleet.slots).kill()
        await asyncio.sleep(dice.uniform(0.3, 3.0))


async def kill_all(world: World, dice: random.Random) -> None:
    """Kill all workers at the same time."""
    for slot in world.fleet.slots:
        slot.kill()


def kill_at(point: str, most: int) -> Callable[[World, random.Random], Awaitable[None]]:
    """A worker that dies at one of the first calls of a point."""

    async def happen(world: World, dice: random.Random) -> None:
        slot = dice.choice(world.fleet.slots)
        died = world.fleet.next_end(slot.number)
        slot.arm(point, dice.randint(1, most))
        await world.fleet.dies_at(slot, died)

    return happen


async def kill_in_recovery(world: World, dice: random.Random) -> None:
    """Kill a worker, and the one that starts in its place while it reads the changelog."""
    slot = dice.choice(world.fleet.slots)
    died = world.fleet.next_end(slot.number)
    slot.next_arguments = ["--at", "recovery", "--nth", str(dice.randint(1, 3))]
    slot.arm()
    slot.kill()
    await died
    await world.fleet.dies_at(slot, world.fleet.next_end(slot.number))


async def kill_in_rebalance(world: World, dice: random.Random) -> None:
    """A worker joins, and another dies while it gives up or gets its partitions."""
    slot = dice.choice(world.fleet.slots)
    died = world.fleet.next_end(slot.number)
    slot.arm(dice.choice(["revoke", "assign"]), 1)
    world.fleet.resize(len(world.fleet.slots) + 1)
    await world.fleet.dies_at(slot, died)


async def terminate(world: World, dice: random.Random) -> None:
    """Ask a worker to stop; it finishes what it has, and another starts."""
    slot = dice.choice(world.fleet.slots)
    ended = world.fleet.next_end(slot.number)
    slot.terminate()
    if status := (await ended).status:
        raise AssertionError(f"the worker ended with status {status} when it was asked to stop")


async def freeze(world: World, dice: random.Random) -> None:
    """Freeze a worker past its session, while the other takes its partitions; then thaw it."""
    slot = dice.choice(world.fleet.slots)
    slot.freeze()
    await asyncio.sleep(dice.uniform(2.5, 6.0))
    slot.thaw()
    await asyncio.sleep(1.0)


async def freeze_often(world: World, dice: random.Random) -> None:
    """Freeze one worker after the other for times about as long as a session."""
    for _ in range(3):
        slot = dice.choice(world.fleet.slots)
        slot.freeze()
        await asyncio.sleep(dice.uniform(1.0, 3.0))
        slot.thaw()
        await asyncio.sleep(dice.uniform(0.0, 0.5))


async def join_and_leave(world: World, dice: random.Random) -> None:
    """Two more workers join, and leave again."""
    for count in (2, 3):
        world.fleet.resize(count)
        await asyncio.sleep(dice.uniform(0.5, 2.0))
    for count in (2, 1):
        await world.fleet.resize(count)()
        await asyncio.sleep(dice.uniform(0.0, 1.0))


async def rolling_restart(world: World, dice: random.Random) -> None:
    """Restart all workers, one after the other."""
    for slot in world.fleet.slots:
        ended = world.fleet.next_end(slot.number)
        slot.terminate()
        await ended
        await asyncio.sleep(dice.uniform(0.5, 2.0))


KINDS = [
    Break("kill", "worker", "a worker is killed in the middle of a batch", kill),
    Break("kill-often", "worker", "workers are killed four times in a row", kill_often, 2, load=6),
    Break("kill-all", "worker", "all workers are killed at once", kill_all, 2),
    Break("kill-at-send", "worker", "killed with something half sent", kill_at("send", 12)),
    Break("kill-at-changelog", "worker", "killed before it stores", kill_at("changelog", 5)),
    Break("kill-at-sent", "worker", "killed while it stores", kill_at("sent", 5)),
    Break("kill-at-outputs", "worker", "killed when stored, not told", kill_at("outputs", 5)),
    Break("kill-at-changes", "worker", "killed when half is told", kill_at("changes", 5)),
    Break("kill-at-redis", "worker", "killed when told, not in Redis", kill_at("redis", 5)),
    Break("kill-at-written", "worker", "killed before the acknowledgement", kill_at("written", 5)),
    Break("kill-at-commit", "worker", "killed before the commit", kill_at("commit", 2)),
    Break("kill-after-commit", "worker", "killed after the commit", kill_at("committed", 2)),
    Break("kill-in-recovery", "worker", "killed, and again in recovery", kill_in_recovery, load=6),
    Break("kill-in-rebalance", "worker", "killed in a rebalance", kill_in_rebalance, load=8),
    Break("terminate", "worker", "a worker is asked to stop", terminate),
    Break(
        "freeze", "worker", "a worker is frozen past its session, then goes on", freeze, 2, load=8
    ),
    Break("freeze-often", "worker", "workers are frozen in turns", freeze_often, 2, load=6),
    Break("join-and-leave", "worker", "workers come and go", join_and_leave, load=8),
    Break(
        "rolling-restart", "worker", "all workers are restarted in turn", rolling_restart, 3, load=8
    ),
]
