"""Topics of their own for a replay, under a prefix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from streams.clients import started
from streams.connection import Broker
from streams.ends import log_ends
from streams.recording.format import RecordedTopic
from streams.recording.live import live_slice
from streams.recording.merge import Place
from streams.topics import TopicPlan, create_missing

_CONFIG = {
    # Whole, and as they were: what expires, is compacted, or is stamped anew cannot be resumed.
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "message.timestamp.type": "CreateTime",
    "max.message.bytes": str(4 * 1024 * 1024),
}


class TargetUnusable(Exception):
    """Topics that a replay cannot write to; the text says which, and what to do."""


async def prepare_target(
    broker: Broker,
    topics: Sequence[RecordedTopic],
    counts: Mapping[str, int],
    replication: int,
    *,
    resume: bool,
) -> list[RecordedTopic]:
    """Make the topics that are missing; returns them with the partitions that they have.

    topics: roles, and names at the target. counts: wanted partitions by role, for those to be made.

    Raises
    ------
    TargetUnusable
        when one has records and is not to be resumed, or has another number of partitions.
    TopicsUnusable
        when the broker does not make one.
    """
    planned = [TopicPlan(topic.name, counts[topic.role], _CONFIG) for topic in topics]
    async with started(AIOKafkaAdminClient(**broker.client_options())) as admin:
        there = await create_missing(admin, planned, replication)
    target = [RecordedTopic(topic.role, topic.name, there[topic.name]) for topic in topics]
    _check_counts(target)
    if not resume:
        await check_empty(broker, target)
    return target


def _check_counts(target: Sequence[RecordedTopic]) -> None:
    together = {topic.name: topic.partitions for topic in target if topic.role != "models"}
    if len(set(together.values())) > 1:
        listed = ", ".join(f"{name}: {count}" for name, count in sorted(together.items()))
        raise TargetUnusable(
            f"these topics must have the same number of partitions, but have {listed}; replay to "
            "another prefix"
        )


async def check_empty(broker: Broker, target: Sequence[RecordedTopic]) -> None:
    """Raise TargetUnusable where one of these topics, which exist, ever had a record.

    Claims of a worker that is there already do not count.
    """
    client = AIOKafkaConsumer(**broker.client_options(), enable_auto_commit=False)
    tps = [
        TopicPartition(topic.name, number) for topic in target for number in range(topic.partitions)
    ]
    async with started(client) as consumer:
        ends = await log_ends(consumer, tps)
    models = {topic.name: topic for topic in target if topic.role == "models"}
    for tp, end in ends.items():
        if end and not (tp.topic in models and await _has_claims_only(broker, models[tp.topic])):
            raise TargetUnusable(
                f"{tp.topic}[{tp.partition}] has {end} records already; replay to another prefix, "
                "or go on where an interrupted replay ended: --resume"
            )


async def _has_claims_only(broker: Broker, models: RecordedTopic) -> bool:
    """Say whether nothing is in the topic of the parameters but claims, which are never shown."""
    async with live_slice(broker, [models]) as shown:
        return await shown.next(Place(0, 0)) is None
