"""The disk where workers keep a copy of their tables."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

from tests.faults.breaks.kinds import Break, a_while
from tests.faults.world import World

FILES_SECONDS = 20.0


def _files(world: World) -> list[Path]:
    files = (path for path in world.state_directory.rglob("*") if path.is_file())
    return sorted(path for path in files if path.stat().st_size > 0)


async def _written(world: World) -> None:
    """Wait until a copy has something in it."""
    deadline = time.monotonic() + FILES_SECONDS
    while not _files(world):
        if time.monotonic() > deadline:
            raise AssertionError(
                f"no worker wrote a copy to {world.state_directory} within {FILES_SECONDS:g} s"
            )
        await asyncio.sleep(0.05)


async def _between_two_workers(world: World, dice: random.Random) -> list[Path]:
    """Kill a worker, and let none start before the world is healed; returns what it left."""
    await _written(world)
    slot = dice.choice(world.fleet.slots)
    slot.may_start.clear()
    died = world.fleet.next_end(slot.number)
    slot.kill()
    await died
    return _files(world)


async def corrupted(world: World, dice: random.Random) -> None:
    """Kill a worker and overwrite parts of its files before the next starts."""
    for path in await _between_two_workers(world, dice):
        content = bytearray(path.read_bytes())
        for _ in range(dice.randint(1, 20)):
            content[dice.randrange(len(content))] ^= dice.randint(1, 255)
        if dice.random() < 0.3:
            del content[dice.randrange(len(content)) :]
        path.write_bytes(content)


async def removed(world: World, dice: random.Random) -> None:
    """Kill a worker and lose some of its files."""
    files = await _between_two_workers(world, dice)
    for path in dice.sample(files, dice.randint(1, len(files))):
        path.unlink()


async def full(world: World, dice: random.Random) -> None:
    """Let the disk be full, and start a worker on it."""
    world.fill_state_disk()
    await a_while(dice, 0.5, 2.0)
    dice.choice(world.fleet.slots).kill()
    await a_while(dice, 1.0, 4.0)


KINDS = [
    Break(
        "state-corrupted", "disk", "the copies on disk are damaged", corrupted, durable=True, load=6
    ),
    Break(
        "state-removed",
        "disk",
        "some of the copies on disk are lost",
        removed,
        durable=True,
        load=6,
    ),
    Break("disk-full", "disk", "the disk of the copies is full", full, durable=True, root=True),
]
