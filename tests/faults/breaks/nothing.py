"""No break at all: what the others are measured against, and input that is break enough."""

from __future__ import annotations

import random

from tests.faults.breaks.kinds import Break
from tests.faults.world import World


async def nothing(world: World, dice: random.Random) -> None:
    """Let the service work."""


KINDS = [
    Break("none", "none", "nothing fails", nothing),
    Break(
        "hostile-input",
        "input",
        "customers erased and merged, records of more than a MiB, beside all the usual mistakes",
        nothing,
        workers=2,
        identities=True,
        too_large=2,
    ),
]
