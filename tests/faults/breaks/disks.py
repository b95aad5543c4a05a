"""The disk where workers keep a copy of their tables."""

from __future__ import annotations

import asyncio
import random
from pathlib import Path

from tests.faults.breaks.kinds import Break
from tests.faults.world import World


def _files(world: World) -> list[Path]:
    return sorted(path for path in world.state_directory.rglob("*") if path.is_file())


async def corrupted(world: World, dice: random.Random) -> None:
    """Kill a worker and overwrite parts of its files before the next starts."""
    slot = dice.choice(world.fleet.slots)
    slot.may_start.clear()
    died = world.fleet.next_end(slot.number)
    slot.kill()
    await died
    files = [path for path in _files(world) if path.stat().st_size > 0]
    if not files:
        raise AssertionError(f"there are no files to damage in {world.state_directory}")
    for path in files:
        content = bytearray(path.read_bytes())
        for _ in range(dice.randint(1, 20)):
            content[dice.randrange(len(content))] ^= dice.randint(1, 255)
        if dice.random() < 0.3:
            del content[dice.randrange(len(content)) :]
        path.write_bytes(content)


async def removed(world: World, dice: random.Random) -> None:
    """Kill a worker and lose some of its files."""
    slot = dice.choice(world.fleet.slots)
    slot.may_start.clear()
    died = world.fleet.next_end(slot.number)
    slot.kill()
    await died
    for path in _files(world):
        if dice.random() < 0.5:
            path.unlink()


async def full(world: World, dice: random.Random) -> None:
    """Let the disk be full, and start a worker on it."""
    world.fill_state_disk()
    await asyncio.sleep(dice.uniform(0.5, 2.0))
    dice.choice(world.fleet.slots).kill()
    await asyncio.sleep(dice.uniform(1.0, 4.0))


KINDS = [
    Break("state-corrupted", "disk", "the copies on disk are damaged", corrupted, durable=True),
    Break("state-removed", "disk", "some of the copies on disk are lost", removed, durable=True),
    Break("disk-full", "disk", "the disk of the copies is full", full, durable=True, root=True),
]
