"""The topics at the broker: creating what is missing, and refusing what cannot work."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import (
    InvalidReplicationFactorError,
    KafkaError,
    TopicAlreadyExistsError,
    for_code,
)
from aiokafka.partitioner import murmur2

from streams.clients import started
from streams.connection import Broker
from streams.settings import Settings

TABLE_NAME = "customers"
KNOWN_WITHIN = 30.0
KNOWN_POLL = 0.1

TOMBSTONES_STAY_MS = 24 * 3600 * 1000
"""Whoever goes on reading before they have passed sees every tombstone."""

COMPACTED_WITHIN_MS = 24 * 3600 * 1000
"""What is replaced or deleted is compacted away after so long, once the partition is written to
again: without a limit an erased customer's record may stay for ever."""

SEGMENT_MS = 24 * 3600 * 1000
"""Retention takes whole segments: so much longer may a record stay than the retention says."""

_COMPACT = {
    "cleanup.policy": "compact",
    "delete.retention.ms": str(TOMBSTONES_STAY_MS),
    "max.compaction.lag.ms": str(COMPACTED_WITHIN_MS),
}
_KEEP = {"cleanup.policy": "delete", "retention.ms": "-1"}
_MONTH = {
    "cleanup.policy": "delete",
    "retention.ms": str(30 * 24 * 3600 * 1000),
    "segment.ms": str(SEGMENT_MS),
}
_LARGE = {"max.message.bytes": str(4 * 1024 * 1024)}


def home_partition(key: bytes, partitions: int) -> int:
    """The partition of a key by Kafka's default partitioner."""
    return (int(murmur2(key)) & 0x7FFFFFFF) % partitions


class TopicsUnusable(Exception):
    """The topics at the broker cannot be used as they are; the text says which, and what to do."""


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """A topic as it should be."""

    name: str
    partitions: int
    config: Mapping[str, str]


def changelog_topic(settings: Settings) -> str:
    """Name of the changelog topic of the customers' table, as Faust forms it."""
    return f"{settings.app_id}-{TABLE_NAME}-changelog"


def plan(settings: Settings) -> list[TopicPlan]:
    """All topics of the service. All but the models have one partition count."""
    topics, count = settings.topics, settings.partitions
    return [
        *(TopicPlan(name, count, _KEEP) for name in topics.inputs),
        TopicPlan(topics.clock, count, {}),
        TopicPlan(topics.identity, count, _MONTH | _LARGE),
        TopicPlan(topics.rerouted, count, _MONTH),
        TopicPlan(topics.updates, count, _COMPACT),
        TopicPlan(topics.segment_changes, count, _MONTH),
        # A dead letter is a whole record and the headers that say why: no longer than it takes to
        # put right what it was refused for, since it holds whatever was published.
        TopicPlan(topics.dead_letters, count, _MONTH | _LARGE),
        TopicPlan(changelog_topic(settings), count, _COMPACT | _LARGE),
        TopicPlan(topics.models, 1, _COMPACT),
    ]


async def prepare_topics(settings: Settings, broker: Broker) -> int:
    """Create missing topics and check the partition counts; returns the common count.

    Raises
    ------
    TopicsUnusable
        when partition counts differ where they must not, or the broker refuses to create a topic,
        or does not show it afterwards.
    BrokerUnusable
        when no bootstrap server lets us in.
    """
    await broker.check()
    async with started(AIOKafkaAdminClient(**broker.client_options())) as admin:
        count = _common_count(settings, await _counts(admin))
        planned = plan(settings.model_copy(update={"partitions": count}))
        # What somebody else creates meanwhile may have another count.
        return _common_count(settings, await create_missing(admin, planned, settings.replication))


def _common_count(settings: Settings, counts: Mapping[str, int]) -> int:
    """The partition count of those topics that exist, or the one that is configured."""
    together = {topic.name for topic in plan(settings)} - {settings.topics.models}
    known = {name: count for name, count in counts.items() if name in together}
    if len(set(known.values())) > 1:
        raise TopicsUnusable(_mismatch(known, changelog_topic(settings)))
    return next(iter(known.values()), settings.partitions)


def uneven(counts: Mapping[str, int], changelog: str) -> str:
    """What to do about topics with different partition counts, which have no state or have one."""
    if changelog in counts:
        most = max(counts.values())
        return (
            "stop all workers and run "
            f"`clv partitions grow {most}`, which gives all one count and moves the customers"
        )
    return "make new topics with one count, and name them by CLV_TOPICS__…"


def _mismatch(counts: Mapping[str, int], changelog: str) -> str:
    listed = ", ".join(f"{name}: {count}" for name, count in sorted(counts.items()))
    return (
        f"these topics must have the same number of partitions, but have {listed}. A customer's "
        f"events of all topics are worked on together, in one partition. To do: "
        f"{uneven(counts, changelog)}"
    )


async def partition_counts(broker: Broker) -> dict[str, int]:
    """The partitions of all topics at the broker. Errors: KafkaError."""
    async with started(AIOKafkaAdminClient(**broker.client_options())) as admin:
        return await _counts(admin)


async def create_missing(
    admin: AIOKafkaAdminClient, planned: Sequence[TopicPlan], replication: int
) -> dict[str, int]:
    """Create those of the topics that are missing; returns the partition counts of all topics.

    Raises
    ------
    TopicsUnusable
        when the broker refuses to create one, or does not show it afterwards.
    """
    counts = await _counts(admin)
    missing = [topic for topic in planned if topic.name not in counts]
    if not missing:
        return counts
    response = await admin.create_topics(
        [
            NewTopic(topic.name, topic.partitions, replication, topic_configs=dict(topic.config))
            for topic in missing
        ]
    )
    for name, code, *message in response.topic_errors:
        error: type[KafkaError] = for_code(code)
        if code and error is not TopicAlreadyExistsError:
            raise TopicsUnusable(
                f"the broker did not create topic {name}: {error.__name__} {message}; "
                + _remedy(error, replication)
            )
    return await _counts_with(admin, {topic.name for topic in missing})


async def _counts_with(admin: AIOKafkaAdminClient, created: Set[str]) -> dict[str, int]:
    """The partition counts of all topics, once the broker knows those that were just created."""
    counts: dict[str, int] = {}
    try:
        async with asyncio.timeout(KNOWN_WITHIN):
            while True:
                counts = await _counts(admin)
                if created <= counts.keys():
                    return counts
                await asyncio.sleep(KNOWN_POLL)
    except TimeoutError:
        unknown = ", ".join(sorted(created - counts.keys()))
        raise TopicsUnusable(
            f"the broker took the order to create {unknown}, but does not list it after "
            f"{KNOWN_WITHIN:g} s. Look at the broker's log, or whether this user may describe it"
        ) from None


async def _counts(admin: AIOKafkaAdminClient) -> dict[str, int]:
    """The topics whose partitions are known; one just created is listed without any at first."""
    names = await admin.list_topics()
    described = await admin.describe_topics(names) if names else []
    return {t["topic"]: len(t["partitions"]) for t in described if t["partitions"]}


def _remedy(error: type[KafkaError], replication: int) -> str:
    if error is InvalidReplicationFactorError:
        return f"set CLV_REPLICATION, now {replication}, to no more than the brokers that are up"
    return "create it yourself, or give the service the right to"
