"""Workers that die at the worst moment, freeze, come and go."""

from __future__ import annotations

import asyncio
import random

from streams.transport.lease import FENCED
from tests.faults.breaks.kinds import Break, Happen, a_while
from tests.faults.fleet import Slot
from tests.faults.world import World


async def kill(world: World, dice: random.Random) -> None:
    """Kill a worker at any moment."""
    dice.choice(world.fleet.slots).kill()


async def kill_often(world: World, dice: random.Random) -> None:
    """Kill again and again: at the start, in recovery, in a rebalance, or at work."""
    for _ in range(4):
        dice.choice(world.fleet.slots).kill()
        await a_while(dice, 0.3, 3.0)


async def kill_all(world: World, dice: random.Random) -> None:
    """Kill all workers at the same time."""
    for slot in world.fleet.slots:
        slot.kill()


def kill_at(point: str, most: int) -> Happen:
    """A worker that dies at one of the first calls of a point."""

    async def happen(world: World, dice: random.Random) -> None:
        slot = dice.choice(world.fleet.slots)
        died = world.fleet.next_end(slot.number)
        nth = dice.randint(1, most)
        slot.arm(point, nth)
        await world.fleet.dies_at(slot, died, point, nth)

    return happen


async def kill_in_recovery(world: World, dice: random.Random, most: int = 3) -> None:
    """Kill a worker, and the one that starts in its place while it reads the changelog.

    most: pieces that it may read of it at most.
    """
    slot = dice.choice(world.fleet.slots)
    died = world.fleet.next_end(slot.number)
    slot.next_arguments = ["--at", "recovery", "--nth", str(dice.randint(1, most))]
    slot.arm()
    slot.kill()
    await died
    await world.fleet.dies_at(slot, world.fleet.next_end(slot.number))


async def kill_in_rebalance(world: World, dice: random.Random) -> None:
    """A worker joins, and another dies while it gives up or gets its partitions."""
    slot = dice.choice(world.fleet.slots)
    died = world.fleet.next_end(slot.number)
    point = dice.choice(["revoke", "assign"])
    slot.arm(point)
    world.fleet.resize(len(world.fleet.slots) + 1)
    await world.fleet.dies_at(slot, died, point)


async def _asked_to_stop(world: World, slot: Slot) -> None:
    """Have a worker stop, which finishes what it has, if it is still its; another starts."""
    waiting = world.fleet.next_end(slot.number)
    slot.terminate()
    ended = await waiting
    if not ended.asked and ended.status != FENCED:
        raise AssertionError(
            f"worker {slot.number} ended with status {ended.status} when it was asked to stop: "
            f"{ended.words}"
        )


async def terminate(world: World, dice: random.Random) -> None:
    """Ask a worker to stop."""
    await _asked_to_stop(world, dice.choice(world.fleet.slots))


async def rolling_restart(world: World, dice: random.Random) -> None:
    """Restart all workers, one after the other."""
    for slot in world.fleet.slots:
        await _asked_to_stop(world, slot)
        await a_while(dice, 0.5, 2.0)


async def _frozen(world: World, dice: random.Random, shortest: float, longest: float) -> None:
    slot = dice.choice(world.fleet.slots)
    slot.freeze()
    await a_while(dice, shortest, longest)
    slot.thaw()


async def freeze(world: World, dice: random.Random) -> None:
    """Freeze a worker past its session, while the other takes its partitions; then thaw it."""
    session = world.setup.session
    await _frozen(world, dice, 1.25 * session, 3.0 * session)
    await asyncio.sleep(1.0)


async def freeze_often(world: World, dice: random.Random) -> None:
    """Freeze one worker after the other for times about as long as a session."""
    session = world.setup.session
    for _ in range(3):
        await _frozen(world, dice, 0.5 * session, 1.5 * session)
        await a_while(dice, 0.0, 0.5)


async def join_and_leave(world: World, dice: random.Random) -> None:
    """Two more workers join, and leave again."""
    for count in (2, 3):
        world.fleet.resize(count)
        await a_while(dice, 0.5, 2.0)
    for count in (2, 1):
        await world.fleet.resize(count)()
        await a_while(dice, 0.0, 1.0)


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
