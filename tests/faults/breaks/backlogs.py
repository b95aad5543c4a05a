"""What one customer's record must bear: thousands of changes at once, hundreds of merges."""

from __future__ import annotations

import asyncio
import random
import time
from datetime import timedelta
from typing import Any

from models.contracts import TOPIC_OF_TYPE
from streams.files.outgoing import cloud_event
from tests.faults.breaks.kinds import Break, a_while
from tests.faults.items import Item, Placed
from tests.faults.maker import HISTORY_DAYS, SOURCES
from tests.faults.progress import uncommitted
from tests.faults.workload import Workload
from tests.faults.world import World

CHANGES = 10_000
MERGES = 300
WIDE = "😀" * 180
"""Four bytes each; with the rest of an id nearly as long as one may be."""

BEGIN_SECONDS = 60.0


def item(workload: Workload, customer: str, event_type: str, days: float, number: int,
         data: dict[str, Any]) -> Item:  # fmt: skip
    """An event of a day, and where Kafka's default partitioner puts it."""
    field = {"order.placed": "placed_at", "order.cancelled": "cancelled_at",
             "customer.merged": "merged_at"}[event_type]  # fmt: skip
    time = workload.now - timedelta(days=HISTORY_DAYS - days)
    event = cloud_event(
        TOPIC_OF_TYPE[event_type],
        event_type,
        source=SOURCES[0],
        event_id=f"{workload.run_id}/more-{number}",
        time=time,
        data={"customer_id": customer, field: time.isoformat(timespec="milliseconds"), **data},
        customer_id=customer,
    )
    return Item(event, None)


def changing(workload: Workload, dice: random.Random) -> list[Placed]:
    """A customer who orders and cancels in turns: each event changes two segments."""
    customer = f"{workload.run_id}-{800_000 + dice.randrange(100_000)}"
    placed = []
    for number in range(CHANGES):
        days, order = HISTORY_DAYS * (number + 1) / (CHANGES + 1), f"o{number // 2}"
        data: dict[str, Any] = {"order_id": order}
        if number % 2 == 0:
            data |= {"currency": "USD", "total": "1.00"}
        event_type = "order.cancelled" if number % 2 else "order.placed"
        made = item(workload, customer, event_type, days, number, data)
        placed.append(Placed(number / CHANGES, made))
    return placed


def merging(workload: Workload, dice: random.Random) -> list[Placed]:
    """Hundreds of customers with wide ids, some of whom bought, who turn out to be one."""
    host = f"{workload.run_id}-{800_000:06d}{WIDE}"
    placed = []
    for number in range(MERGES):
        guest = f"{workload.run_id}-{800_001 + number:06d}{WIDE}"
        if dice.random() < 0.6:
            data = {"order_id": f"o{number}", "currency": "USD", "total": "2.00"}
            days = dice.uniform(0, HISTORY_DAYS)
            bought = item(workload, guest, "order.placed", days, 2 * number, data)
            placed.append(Placed(dice.uniform(0, 0.9), bought))
        merged = {"merged_from": guest}
        days = dice.uniform(0, HISTORY_DAYS)
        made = item(workload, host, "customer.merged", days, 2 * number + 1, merged)
        placed.append(Placed(dice.uniform(0, 0.9), made))
    return placed


async def kill_twice(world: World, dice: random.Random) -> None:
    """Kill a worker when it has begun to tell, and the next one too."""
    for _ in range(2):
        await _tells(world)
        await a_while(dice, 0.2, 2.0)
        died = world.fleet.next_end(0)
        world.fleet.slots[0].kill()
        await died


async def _tells(world: World) -> None:
    """Wait until there are more value updates than now, or nothing is left to be done."""
    updates = world.logs.records[world.settings.topics.updates]
    deadline, before = time.monotonic() + BEGIN_SECONDS, None
    async with world.admin() as admin:
        while time.monotonic() < deadline:
            lag = await uncommitted(world, admin)
            before = len(updates) if before is None else before
            if len(updates) > before or not lag:
                return
            await asyncio.sleep(0.1)
    raise AssertionError(f"no worker told anything within {BEGIN_SECONDS:g} s")


KINDS = [
    Break(
        "outbox-backlog",
        "input",
        "10,000 changes of one customer wait when the worker starts, which is killed twice",
        kill_twice,
        more=changing,
        backlog=True,
        # As many as a worker takes at once unless told otherwise.
        environment=(("CLV_POLL_RECORDS", "5000"),),
    ),
    Break(
        "many-merges",
        "input",
        "300 customers with ids of 800 bytes become one, while the worker is killed twice",
        kill_twice,
        more=merging,
        identities=True,
    ),
]
