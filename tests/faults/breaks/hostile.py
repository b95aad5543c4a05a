"""Records and batches that are small as they are sent, and large when they are unpacked."""

from __future__ import annotations

import asyncio
import random

from tests.faults.breaks.backlogs import item
from tests.faults.breaks.kinds import Break, a_while
from tests.faults.items import Item, Placed
from tests.faults.maker import HISTORY_DAYS
from tests.faults.packing import Packed, gzip_batch
from tests.faults.workload import Workload
from tests.faults.world import World

EMPTY = ("", b"")
MEDIUM_HEADERS = 900
"""Nearly as many as are allowed: such a record is sent on under the right key."""

MANY_HEADERS = 510_000
"""Some 1,000,000 bytes as they are encoded: such a record is refused."""

TOO_MANY_HEADERS = 700_000
"""More than fit uncompressed into a record."""

MIB = 1024 * 1024
UNPACKED_RECORDS = 300
MOST_MEMORY = 400.0
"""MiB of a worker that gets such batches; without them it has some 125, with them some 220."""


def huge_headers(workload: Workload, dice: random.Random) -> list[Placed]:
    """Orders with 900 and with 510,000 empty headers, under the right key and a wrong one."""
    placed = []
    for number, count in enumerate((MEDIUM_HEADERS, MANY_HEADERS)):
        for wrong in (False, True):
            customer = dice.choice(workload.customers)
            data = {"order_id": f"headers{number}{wrong}", "currency": "USD", "total": "3.00"}
            days = dice.uniform(0, HISTORY_DAYS)
            event, _ = item(workload, customer, "order.placed", days, 2 * number + wrong, data)
            headers = [*event.headers, *[EMPTY] * count]
            others = [other for other in workload.customers if other != customer]
            key = dice.choice(others).encode() if wrong else event.key
            made = event._replace(headers=headers, key=key)
            placed.append(Placed(dice.random(), Item(made, None)))
    return placed


async def too_many_headers(world: World, dice: random.Random) -> None:
    """Publish a record with more headers than can be, in a batch with one that is none."""
    await _publish(world, dice, [Packed(b"x", b"{}", TOO_MANY_HEADERS), Packed(b"x", b"{}")])


async def unpacks_large(world: World, dice: random.Random) -> None:
    """Publish a batch of less than a MiB that unpacks to 300: in one record, or in many."""
    many = dice.random() < 0.5
    size, count = (MIB, UNPACKED_RECORDS) if many else (UNPACKED_RECORDS * MIB, 1)
    await _publish(world, dice, [Packed(b"x", b" " * size)] * count)


async def _publish(world: World, dice: random.Random, records: list[Packed]) -> None:
    batch = await asyncio.to_thread(gzip_batch, records)
    topic = dice.choice(world.settings.topics.inputs)
    await world.publish_sealed(topic, dice.randrange(world.settings.partitions), batch)
    await a_while(dice, 0.5, 1.5)
    dice.choice(world.fleet.slots).kill()


KINDS = [
    Break(
        "huge-headers",
        "input",
        "records with 900 to 700,000 empty headers, and a kill",
        too_many_headers,
        more=huge_headers,
        most_memory=MOST_MEMORY,
    ),
    Break(
        "unpacks-large",
        "input",
        "a batch of 300 kB that unpacks to 300 MB, and a kill",
        unpacks_large,
        most_memory=MOST_MEMORY,
    ),
]
