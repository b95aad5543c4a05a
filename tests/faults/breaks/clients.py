"""Clocks that are wrong."""

from __future__ import annotations

import random

from tests.faults.breaks.kinds import Break, a_while
from tests.faults.world import World

HOUR = 3_600_000


async def clock_steps(world: World, dice: random.Random) -> None:
    """Set the workers' clocks up to two hours forward and back, several times."""
    for _ in range(4):
        for slot in world.fleet.slots:
            slot.arm(clock_offset=dice.randint(-2 * HOUR, 2 * HOUR))
        await a_while(dice, 0.2, 1.0)


KINDS = [
    Break("clock-steps", "clock", "the workers' clocks jump by up to two hours", clock_steps, 2),
]
