"""How far the workers of the configured group have come, by the offsets they have committed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from streams.kafka.connection import Broker
from streams.kafka.groups import group_client
from streams.kafka.partitions import partitions_of
from streams.kafka.reading import log_bounds
from streams.settings import Settings

POLL_SECONDS = 0.2


async def caught_up(
    settings: Settings,
    topics: Sequence[str],
    partitions: int,
    *,
    patience: float,
    within: int = 0,
    report: Callable[[int, int], None] = lambda _done, _total: None,
) -> bool:
    """Wait until the group has committed what is in these topics now; return whether it has.

    The outputs are published then, and cached unless Redis is away. Gives up when nothing has moved
    for `patience` seconds. within: how many records may be left. report: called with the records
    done and their total.
    """
    broker = Broker.of(settings)
    wanted = partitions_of(dict.fromkeys(topics, partitions))
    ends = {tp: at.end for tp, at in (await log_bounds(broker, wanted)).items()}
    total = sum(ends.values())
    async with group_client(broker, settings.app_id) as group:
        before, since = -1, time.monotonic()
        while True:
            done = sum([min(await group.committed(tp) or 0, ends[tp]) for tp in wanted])
            report(done, total)
            if done >= total - within:
                return True
            now = time.monotonic()
            if done != before:
                before, since = done, now
            elif now - since > patience:
                return False
            await asyncio.sleep(POLL_SECONDS)
