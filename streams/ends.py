"""Where partitions end."""

from __future__ import annotations

from collections.abc import Collection

from aiokafka import AIOKafkaConsumer, TopicPartition

_POLL_MILLISECONDS = 50


async def log_ends(
    consumer: AIOKafkaConsumer, partitions: Collection[TopicPartition]
) -> dict[TopicPartition, int]:
    """The offset after the last record of each partition; the consumer is assigned to them.

    The greater of what ListOffsets and a fetch say: the one is too small on the embedded broker,
    the other just after a new leader was elected. Errors: KafkaError.
    """
    if not partitions:
        return {}
    listed: dict[TopicPartition, int] = await consumer.end_offsets(list(partitions))
    consumer.assign(list(partitions))
    for tp, end in listed.items():
        consumer.seek(tp, end)
    while any(consumer.highwater(tp) is None for tp in partitions):
        await consumer.getmany(timeout_ms=_POLL_MILLISECONDS)
    return {tp: max(end, consumer.highwater(tp)) for tp, end in listed.items()}
