"""How far the workers of the configured group have come, by the offsets they have committed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition

from streams.clients import started
from streams.connection import Broker
from streams.ends import log_ends
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
    """Wait until what is in these topics now is committed, but for some; say whether it is.

    What is committed has its outputs published, and is cached unless Redis is away. Gives up when
    nothing has moved for `patience` seconds. within: so many records may be left. report: called
    with the records done and their total.
    """
    wanted = [TopicPartition(topic, number) for topic in topics for number in range(partitions)]
    client = AIOKafkaConsumer(
        **Broker.of(settings).client_options(), group_id=settings.app_id, enable_auto_commit=False
    )
    async with started(client) as consumer:
        ends = await log_ends(consumer, wanted)
        total = sum(ends.values())
        before, since = -1, time.monotonic()
        while True:
            offsets = [await consumer.committed(partition) or 0 for partition in wanted]
            done = sum(min(at, ends[each]) for each, at in zip(wanted, offsets, strict=True))
            report(done, total)
            if done >= total - within:
                return True
            now = time.monotonic()
            if done != before:
                before, since = done, now
            elif now - since > patience:
                return False
            await asyncio.sleep(POLL_SECONDS)
