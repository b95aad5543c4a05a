"""What the service publishes of a data set, to the byte.

    python -m tests.published_bytes cdnow 5000

It prints how the core ran, how many records were published by topic's role, and a digest of all of
them: keys, values and headers, in order.
"""

from __future__ import annotations

import asyncio
import json
import logging
import sys
from collections import Counter
from hashlib import sha256
from itertools import islice

import msgspec
import structlog

from streams.cli.sources import open_source
from streams.datasets import DATASETS
from streams.outcome.outcome import Outcome
from streams.recording.format import Recorded
from streams.replay.memory import in_memory
from streams.replay.orders import FromOrders
from streams.testing import shop_settings
from streams.versions import core_is_compiled

AT_ONCE = 250
"""Records that are published together, so that batches are the same in every run."""


async def published(name: str, events: int) -> dict[str, object]:
    """Replay the first events of a data set, and what time brings after them."""
    settings = shop_settings(economics={"currency": DATASETS[name].currency})
    source = open_source(name, settings.economics)
    orders = FromOrders(
        lambda: islice(source.events(), events),
        lambda: DATASETS[name].last,
        settings.partitions,
    )
    digest, counts = sha256(), Counter[str]()
    async with in_memory(settings, orders, Outcome(detailed=False)) as replay:

        async def feed(records: list[Recorded]) -> None:
            for record in await replay.feed(records):
                counts[record.role] += 1
                digest.update(msgspec.msgpack.encode(record))

        waiting: list[Recorded] = []
        async for record in orders.records():
            waiting.append(record)
            if len(waiting) == AT_ONCE:
                await feed(waiting)
                waiting = []
        await feed(waiting)
    return {
        "compiled": core_is_compiled(), "records": dict(counts), "digest": digest.hexdigest(),
    }  # fmt: skip


if __name__ == "__main__":
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    print(json.dumps(asyncio.run(published(sys.argv[1], int(sys.argv[2])))))
