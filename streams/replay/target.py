"""New topics for a replay, under a prefix."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from models.errors import ClvError
from streams.kafka.clients import admin_client
from streams.kafka.connection import Broker
from streams.kafka.partitions import partitions_of
from streams.kafka.reading import log_bounds
from streams.kafka.topics import TopicPlan, create_missing
from streams.recording.format import Place, RecordedTopic
from streams.recording.live import live_slice

_CONFIG = {
    # Whole, and as they were: what expires, is compacted, or is stamped anew cannot be resumed.
    "cleanup.policy": "delete",
    "retention.ms": "-1",
    "message.timestamp.type": "CreateTime",
    "max.message.bytes": str(4 * 1024 * 1024),
}


class TargetUnusable(ClvError):
    """A replay cannot write to a topic; the text says which, and what to do."""


async def prepare_target(
    broker: Broker,
    topics: Sequence[RecordedTopic],
    counts: Mapping[str, int],
    replication: int,
    *,
    resume: bool,
) -> list[RecordedTopic]:
    """Create the topics that are missing; return all with their numbers of partitions.

    topics: roles, and names at the target. counts: wanted partitions by role. Raises TargetUnusable
    when a topic has records and resume is False, or other numbers of partitions; TopicsUnusable.
    """
    planned = [TopicPlan(topic.name, counts[topic.role], _CONFIG) for topic in topics]
    async with admin_client(broker) as admin:
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
    """Raise TargetUnusable if one of these topics ever had a record that a slice has."""
    counts = {topic.name: topic.partitions for topic in target}
    bounds = await log_bounds(broker, partitions_of(counts))
    models = {topic.name: topic for topic in target if topic.role == "models"}
    for tp, (_, end) in bounds.items():
        if end and not (
            tp.topic in models and await _has_nothing_recorded(broker, models[tp.topic])
        ):
            raise TargetUnusable(
                f"{tp} has {end} records already; replay to another prefix, "
                "or go on where an interrupted replay ended: --resume"
            )


async def _has_nothing_recorded(broker: Broker, models: RecordedTopic) -> bool:
    """Whether the topic of models has only what a slice leaves out: claims, first rules."""
    async with live_slice(broker, [models]) as shown:
        return await shown.next(Place(0, 0)) is None
