"""Publishing that a customer is erased, and waiting until the workers have done it."""

from __future__ import annotations

import asyncio
import time
import uuid
from collections.abc import Mapping
from datetime import datetime

from models.errors import ClvError
from models.events.identities import CustomerErased
from models.events.kinds import IDENTITIES
from streams.basis.logs import KafkaLogs
from streams.files.outgoing import cloud_event
from streams.kafka.connection import Broker
from streams.kafka.partitions import TopicPartition, home_partition, partitions_of
from streams.kafka.writing import Outgoing, record_writer
from streams.settings import Settings
from streams.topics import prepare_topics

SOURCE = "/clv/erase"
"""CloudEvents source of the erasures that the command publishes."""

_POLL_SECONDS = 0.2
_MOST_ROUNDS = 20
"""Messages between workers lead to others: an erasure reaches everybody merged in a few rounds."""


class NotErasedInTime(ClvError):
    """The workers did not get to the erasure; the text says where they are."""


async def publish_erasure(
    settings: Settings, broker: Broker, customer_id: str, erased_at: datetime
) -> tuple[TopicPartition, int]:
    """Publish `customer.erased`; returns where it is. Errors: KafkaError, TopicsUnusable."""
    partitions = await prepare_topics(settings, broker)
    event = cloud_event(
        IDENTITIES,
        "customer.erased",
        source=SOURCE,
        event_id=str(uuid.uuid4()),
        time=erased_at,
        data=CustomerErased(customer_id=customer_id, erased_at=erased_at).model_dump(),
        customer_id=customer_id,
    )
    key = customer_id.encode()
    home = TopicPartition(settings.topics.identities, home_partition(key, partitions))
    async with record_writer(broker) as writer:
        written = await writer.write(home, [Outgoing(key, event.value, event.headers)])
    return home, written.begin


async def done_by_workers(
    settings: Settings, logs: KafkaLogs, at: Mapping[TopicPartition, int], seconds: float
) -> None:
    """Wait until the workers have committed these offsets, and what followed from them.

    Errors: NotErasedInTime after so many seconds; KafkaError.
    """
    until = time.monotonic() + seconds
    await _committed(logs, {tp: offset + 1 for tp, offset in at.items()}, until)
    topics = await logs.describe([settings.topics.identity, settings.topics.rerouted])
    between = partitions_of({name: each.partitions for name, each in topics.items()})
    ends: dict[TopicPartition, int] = {}
    for _ in range(_MOST_ROUNDS):
        bounds = await logs.bounds(between)
        following = {tp: found.end for tp, found in bounds.items() if found.end > found.begin}
        if following == ends:
            return
        await _committed(logs, following, until)
        ends = following


async def _committed(logs: KafkaLogs, wanted: Mapping[TopicPartition, int], until: float) -> None:
    while True:
        held = await logs.committed(list(wanted))
        behind = {tp: end for tp, end in wanted.items() if held.get(tp, 0) < end}
        if not behind:
            return
        if time.monotonic() >= until:
            listed = ", ".join(
                f"{tp} is at {held.get(tp, 0)} of {end}" for tp, end in sorted(behind.items())
            )
            raise NotErasedInTime(
                f"the erasure is published, and the workers have not done it: {listed}. See "
                "whether one runs (`clv doctor`), then look again with --look"
            )
        await asyncio.sleep(_POLL_SECONDS)
