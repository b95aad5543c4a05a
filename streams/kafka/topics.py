"""Topics at a broker: creating them, giving them partitions, and what the broker says of them."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence, Set
from dataclasses import dataclass, field
from typing import Any

from aiokafka.admin import NewPartitions, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    InvalidPartitionsError,
    InvalidReplicationFactorError,
    PolicyViolationError,
    TopicAlreadyExistsError,
    UnsupportedVersionError,
    for_code,
)

from models.errors import ClvError
from streams.kafka.clients import Admin, admin_client
from streams.kafka.connection import Broker
from streams.kafka.errors import KafkaError

KNOWN_WITHIN = 30.0
KNOWN_POLL = 0.1
LED_WITHIN = 60.0


class TopicsUnusable(ClvError):
    """The topics at the broker cannot be used as they are; the text says which, and what to do."""


class NotEnlarged(ClvError):
    """Topics cannot have as many partitions; the text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class TopicPlan:
    """A topic as it should be; config: what is not the broker's default."""

    name: str
    partitions: int
    config: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class TopicFacts:
    """A topic at the broker; replicas: the fewest of any partition; config: None when not told."""

    name: str
    partitions: int
    replicas: int
    out_of_sync: int = 0
    leaderless: int = 0
    config: Mapping[str, str | None] | None = None

    def number(self, setting: str) -> int | None:
        """A setting that is a number, None when the broker does not tell it."""
        value = None if self.config is None else self.config.get(setting)
        return None if value is None else int(value)


def differences(planned: TopicPlan, found: TopicFacts | None) -> list[str]:
    """How a topic differs from its plan, in words; replicas are left to who made it."""
    if found is None:
        return ["missing"]
    differing = []
    if found.partitions != planned.partitions:
        differing.append(f"{found.partitions} partitions, not {planned.partitions}")
    if found.config is None:
        return [*differing, "the broker does not tell its settings"]
    for setting, wanted in planned.config.items():
        has = found.config.get(setting)
        if has is not None and has != wanted:
            differing.append(f"{setting}={has}, not {wanted}")
    return differing


async def partition_counts(broker: Broker) -> dict[str, int]:
    """The partitions of all topics at the broker. Errors: KafkaError."""
    async with admin_client(broker) as admin:
        return await counted(admin)


async def counted(admin: Admin) -> dict[str, int]:
    """The topics whose partitions are known; one just created is listed without any at first."""
    names = await admin.list_topics()
    described = await admin.describe_topics(names) if names else []
    return {t["topic"]: len(t["partitions"]) for t in described if t["partitions"]}


async def create_missing(
    admin: Admin, planned: Sequence[TopicPlan], replication: int
) -> dict[str, int]:
    """Create those of the topics that are missing; returns the partition counts of all topics.

    Raises TopicsUnusable when the broker refuses to create one, or does not show it afterwards.
    """
    counts = await counted(admin)
    missing = [topic for topic in planned if topic.name not in counts]
    if not missing:
        return counts
    await create_new(admin, missing, replication)
    return await _counts_with(admin, {topic.name for topic in missing})


async def create_new(admin: Admin, planned: Sequence[TopicPlan], replication: int) -> set[str]:
    """Order the creation of topics; returns those that are new. Errors: TopicsUnusable."""
    response = await admin.create_topics(
        [
            NewTopic(topic.name, topic.partitions, replication, topic_configs=dict(topic.config))
            for topic in planned
        ]
    )
    created = set()
    for name, code, *message in response.topic_errors:
        error: type[KafkaError] = for_code(code)
        if not code:
            created.add(name)
        elif error is not TopicAlreadyExistsError:
            remedy = "create it yourself, or give the service the right to"
            if error is InvalidReplicationFactorError:
                remedy = (
                    f"set CLV_REPLICATION, now {replication}, to no more than the brokers that are "
                    "up"
                )
            raise TopicsUnusable(
                f"the broker did not create topic {name}: {error.__name__} {message}; {remedy}"
            )
    return created


async def _counts_with(admin: Admin, created: Set[str]) -> dict[str, int]:
    """The partition counts of all topics, once the broker knows those that were just created."""
    counts: dict[str, int] = {}
    try:
        async with asyncio.timeout(KNOWN_WITHIN):
            while True:
                counts = await counted(admin)
                if created <= counts.keys():
                    return counts
                await asyncio.sleep(KNOWN_POLL)
    except TimeoutError:
        unknown = ", ".join(sorted(created - counts.keys()))
        raise TopicsUnusable(
            f"the broker took the order to create {unknown}, but does not list it after "
            f"{KNOWN_WITHIN:g} s. Look at the broker's log, or whether this user may describe it"
        ) from None


async def ask_whether(admin: Admin, topics: Collection[str], partitions: int) -> None:
    """Ask the broker whether these can have so many partitions; nothing is changed.

    Raises NotEnlarged when they cannot; KafkaError when this user may not, or the broker is away.
    """
    if topics:
        await _enlarge(admin, topics, partitions, only_ask=True)


async def enlarge(admin: Admin, topics: Collection[str], partitions: int) -> None:
    """Give topics so many partitions, and return when each has a leader; errors as above."""
    if not topics:
        return
    await _enlarge(admin, topics, partitions, only_ask=False)
    missing = set(topics)
    try:
        async with asyncio.timeout(LED_WITHIN):
            while True:
                missing = {t for t in missing if not await _is_led(admin, t, partitions)}
                if not missing:
                    return
                await asyncio.sleep(KNOWN_POLL)
    except TimeoutError:
        raise NotEnlarged(
            f"the broker took the order for {partitions} partitions of "
            f"{', '.join(sorted(missing))}, but they have no leaders after {LED_WITHIN:g} s: "
            "see whether all brokers are up, and run this again"
        ) from None


async def _is_led(admin: Admin, topic: str, partitions: int) -> bool:
    [described] = await admin.describe_topics([topic])
    led = [p for p in described["partitions"] if p["leader"] >= 0 and not p["error_code"]]
    return len(led) == partitions


async def _enlarge(
    admin: Admin, topics: Collection[str], partitions: int, *, only_ask: bool
) -> None:
    wanted = {topic: NewPartitions(partitions) for topic in sorted(topics)}
    try:
        await admin.create_partitions(wanted, validate_only=only_ask)
    except (IncompatibleBrokerVersion, UnsupportedVersionError) as error:
        raise NotEnlarged(
            "this broker cannot give a topic more partitions, as the embedded one cannot: on it, "
            "start with as many as are needed (CLV_PARTITIONS); Apache Kafka can"
        ) from error
    except (InvalidPartitionsError, PolicyViolationError) as error:
        raise NotEnlarged(f"the broker does not make {partitions} partitions: {error}") from error


async def topic_facts(admin: Admin, names: Collection[str]) -> list[TopicFacts]:
    """What the broker says of these topics; raises KafkaError."""
    if not names:
        return []
    configs = await _configs(admin, names)
    facts = []
    for topic in await admin.describe_topics(list(names)):
        partitions = topic["partitions"]
        facts.append(
            TopicFacts(
                topic["topic"],
                partitions=len(partitions),
                replicas=min((len(each["replicas"]) for each in partitions), default=0),
                out_of_sync=sum(len(each["isr"]) < len(each["replicas"]) for each in partitions),
                leaderless=sum(each["leader"] < 0 for each in partitions),
                config=configs.get(topic["topic"]),
            )
        )
    return facts


async def _configs(admin: Admin, names: Collection[str]) -> dict[str, dict[str, str | None]]:
    """The configuration by topic, of those that the broker tells."""
    resources = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    configs: dict[str, dict[str, str | None]] = {}
    try:
        responses: list[Any] = await admin.describe_configs(resources)
    except KafkaError:
        # A broker, or a user's rights, may leave it out; the check of it says so.
        return configs
    for response in responses:
        for resource in response.resources:
            code, name, entries = resource[0], resource[3], resource[4]
            if not code:
                configs[name] = {entry[0]: entry[1] for entry in entries}
    return configs
