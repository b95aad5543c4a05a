"""The plan of the service's topics: names, partitions, retention and compaction."""

from __future__ import annotations

from collections.abc import Mapping

from streams.kafka.clients import admin_client
from streams.kafka.connection import Broker
from streams.kafka.topics import TopicPlan, TopicsUnusable, counted, create_missing
from streams.outgoing import OUTPUTS
from streams.retention import COMPACT, KEEP, LARGE, MONTH
from streams.settings import Settings

TABLE_NAME = "customers"


def changelog_topic(settings: Settings) -> str:
    """Return the name of the customers' changelog topic, as Faust forms it."""
    return f"{settings.app_id}-{TABLE_NAME}-changelog"


def plan(settings: Settings) -> list[TopicPlan]:
    """Return all topics of the service. All except the models have the same partition count."""
    topics, count = settings.topics, settings.partitions
    return [
        *(TopicPlan(name, count, KEEP) for name in topics.inputs),
        TopicPlan(topics.clock, count, KEEP),
        TopicPlan(topics.identity, count, {**MONTH, **LARGE}),
        TopicPlan(topics.rerouted, count, MONTH),
        TopicPlan(topics.updates, count, COMPACT),
        TopicPlan(topics.segment_changes, count, MONTH),
        # A dead letter is a whole record and the headers that say why: no longer than it takes to
        # put right what it was refused for, since it holds whatever was published.
        TopicPlan(topics.dead_letters, count, {**MONTH, **LARGE}),
        TopicPlan(changelog_topic(settings), count, {**COMPACT, **LARGE}),
        TopicPlan(topics.models, 1, COMPACT),
        *(TopicPlan(each.topic.name, count, each.topic.config) for each in OUTPUTS if each.topic),
    ]


def co_partitioned(settings: Settings) -> list[str]:
    """Return the topics that have the same partition count."""
    return [topic.name for topic in plan(settings) if topic.name != settings.topics.models]


async def prepare_topics(settings: Settings, broker: Broker) -> int:
    """Create missing topics and check the partition counts; return the common count.

    Raises
    ------
    TopicsUnusable
        if partition counts differ, or the broker refuses to create a topic, or does not list it
        afterwards.
    BrokerUnusable
        if no bootstrap server accepts the connection.
    """
    await broker.check()
    async with admin_client(broker) as admin:
        count = _common_count(settings, await counted(admin))
        planned = plan(settings.model_copy(update={"partitions": count}))
        # What somebody else creates meanwhile may have another count.
        return _common_count(settings, await create_missing(admin, planned, settings.replication))


def _common_count(settings: Settings, counts: Mapping[str, int]) -> int:
    """Return the partition count of the existing topics, or the configured one."""
    known = {name: counts[name] for name in co_partitioned(settings) if name in counts}
    if len(set(known.values())) > 1:
        raise TopicsUnusable(_mismatch(known, changelog_topic(settings)))
    return next(iter(known.values()), settings.partitions)


def uneven(counts: Mapping[str, int], changelog: str) -> str:
    """Return what to do about topics with different partition counts, with or without state."""
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
