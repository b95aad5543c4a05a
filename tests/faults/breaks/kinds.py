"""What a kind of break is."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from tests.faults.items import Placed
from tests.faults.workload import Workload
from tests.faults.world import World

Happen = Callable[[World, random.Random], Awaitable[None]]
"""Breaks something, and waits as long as it is to stay broken."""

More = Callable[[Workload, random.Random], list[Placed]]
"""Makes events that are published beside the usual ones."""


@dataclass(frozen=True, slots=True)
class Break:
    """One way in which something fails while events are worked on.

    happen: the world is healed after it. workers: how many there are. nodes: it needs Apache
    Kafka's three. durable: it needs workers that keep their tables on disk. root: it mounts a disk.
    identities, too_large, more: what the events have beside the usual. load: seconds over which
    they are published, so that it breaks while they come. backlog: they are all published before
    any worker starts. environment: of the workers, beside the usual. most_memory: MiB that no
    worker may ever hold. mends: seconds after all is done in which Redis must have mended. watched:
    whether customers in Redis may not go back meanwhile. leaves_another_world: no other run can
    take place in it. time_passes: more than a year passes meanwhile, and what it brings is due in
    the midst of it. renewed: other parameters and rules come into force meanwhile.
    """

    name: str
    family: str
    says: str
    happen: Happen
    workers: int = 1
    nodes: bool = False
    durable: bool = False
    root: bool = False
    identities: bool = False
    too_large: int = 0
    more: More | None = None
    load: float = 3.0
    backlog: bool = False
    environment: tuple[tuple[str, str], ...] = ()
    most_memory: float | None = None
    mends: float = 0.0
    watched: bool = True
    leaves_another_world: bool = False
    time_passes: bool = False
    renewed: bool = False

    @property
    def fits_a_soak(self) -> bool:
        """Whether it can happen at any time in a world that goes on."""
        needs_a_run = self.family in ("none", "input") or self.leaves_another_world
        needs_a_run = needs_a_run or self.time_passes
        return not needs_a_run and not self.mends

    @property
    def cheap(self) -> bool:
        """Whether twenty runs of it are soon done, in one world with others."""
        own_world = (
            self.nodes or self.durable or self.root or self.environment or self.leaves_another_world
        )
        return not own_world and not self.mends


async def a_while(dice: random.Random, shortest: float, longest: float) -> None:
    """Wait for some seconds."""
    await asyncio.sleep(dice.uniform(shortest, longest))
