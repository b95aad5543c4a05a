"""Workers that end, freeze, come and go, and wrong clocks, while silence brings changes."""

from __future__ import annotations

import asyncio
import random
from functools import partial
from typing import Any

from tests.faults.breaks.clients import HOUR
from tests.faults.breaks.kinds import Break, Happen, a_while
from tests.faults.breaks.workers import freeze_often, join_and_leave, kill_in_recovery
from tests.faults.silence_runs import ENVIRONMENT
from tests.faults.world import World

LOOK_SECONDS = 0.1
SECONDS = 11.0
"""About as long as it takes the clock to go through all stages, if nothing breaks."""


async def nothing(_world: World, _dice: random.Random) -> None:
    """Nothing."""


async def kill_all_along(world: World, dice: random.Random) -> None:
    """Kill a worker every few seconds, for as long as time passes."""
    for _ in range(6):
        dice.choice(world.fleet.slots).kill()
        await a_while(dice, 1.0, SECONDS / 4)


async def kill_in_sweeps(world: World, dice: random.Random) -> None:
    """Kill a worker at points of its work, over and over."""
    for _ in range(4):
        slot = dice.choice(world.fleet.slots)
        point = dice.choice(["changelog", "sent", "outputs", "changes", "redis", "commit"])
        slot.arm(point, dice.randint(1, 12))
        await a_while(dice, 1.5, SECONDS / 3)


async def wrong_clocks(world: World, dice: random.Random) -> None:
    """Set the clock of each worker up to two hours forward and back, over and over."""
    for _ in range(10):
        for slot in world.fleet.slots:
            slot.arm(clock_offset=dice.randint(-2 * HOUR, 2 * HOUR))
        await a_while(dice, 0.3, SECONDS / 8)


async def kill_in_recoveries(world: World, dice: random.Random) -> None:
    """Kill a worker, and again while it reads the changelog, which has little in it; twice."""
    while not world.logs.latest:  # noqa: ASYNC110 - nobody tells when the first comes
        await asyncio.sleep(LOOK_SECONDS)
    for _ in range(2):
        await kill_in_recovery(world, dice, most=1)
        await a_while(dice, 0.5, 2.0)


async def twice(happen: Happen, world: World, dice: random.Random) -> None:
    """Have it happen, and once more."""
    await happen(world, dice)
    await a_while(dice, 0.5, 2.0)
    await happen(world, dice)


def _kind(name: str, says: str, happen: Happen, workers: int = 2, **more: Any) -> Break:
    return Break(
        f"silence-{name}",
        "silence",
        f"time passes, and {says}",
        happen,
        workers,
        environment=ENVIRONMENT,
        time_passes=True,
        **more,
    )


KINDS = [
    _kind("none", "nothing fails", nothing),
    _kind("kill", "workers are killed all along", kill_all_along),
    _kind("kill-at", "workers are killed at points of their work", kill_in_sweeps),
    _kind("recovery", "one is killed, and again in recovery", kill_in_recoveries, 1),
    _kind("rebalance", "workers come and go", partial(twice, join_and_leave), 1),
    _kind("frozen", "workers are frozen in turns", partial(twice, freeze_often)),
    _kind("clock", "the workers' clocks are wrong", wrong_clocks),
    _kind(
        "renewed", "other parameters and rules come into force while workers are killed",
        kill_all_along, renewed=True, leaves_another_world=True,
    ),
]  # fmt: skip
