"""The broker: what is asked of it, and of whom the answers are judged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError

from streams.claims import claimed_text, claims_reader, outputs
from streams.cli.checks.check import Check
from streams.cli.checks.group import group_checks
from streams.cli.checks.parameters import no_parameters, parameters
from streams.cli.checks.topics import TopicFacts, topic_checks
from streams.cli.configuration import need_broker
from streams.cli.console import CommandError
from streams.cli.worker import describe
from streams.connection import Broker, BrokerUnusable, SecurityUnusable
from streams.settings import Settings
from streams.topics import plan

SECONDS = 10.0
"""How long the broker may take for one group of answers."""

AGAIN_SECONDS = 0.5

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class _Seen:
    brokers: int
    names: Collection[str]
    facts: Sequence[TopicFacts]


async def broker(settings: Settings) -> list[Check]:
    """Check the broker, the topics, the consumer group and the parameters."""
    if settings.broker is None:
        advice = "set CLV_BROKER=host:port; `clv demo` needs none"
        return [Check("broker", "warn", "none is configured", advice)]
    try:
        address = need_broker(settings)
        await address.check(SECONDS)
        admin = AIOKafkaAdminClient(**address.client_options(), request_timeout_ms=5_000)
    except (CommandError, SecurityUnusable) as error:
        return [Check("broker", "fail", str(error), "correct it")]
    except BrokerUnusable as error:
        advice = "start it, or correct CLV_BROKER or the login in CLV_KAFKA_SECURITY__…"
        return [Check("broker", "fail", f"{address} does not answer: {error}", advice)]
    try:
        async with asyncio.timeout(SECONDS):
            await admin.start()
            seen = await _patiently(lambda: _ask(settings, admin))
        checks = [
            Check("broker", "ok", f"{address} answers; {seen.brokers} in the cluster"),
            *topic_checks(settings, seen.facts, seen.brokers),
        ]
    except (KafkaError, TimeoutError, OSError) as error:
        found = f"{address} does not answer: {describe(error)}"
        return [Check("broker", "fail", found, "start it, or correct CLV_BROKER")]
    else:
        checks += await _group(settings, address, admin, seen)
        checks.append(await _parameters(settings, address, seen.names))
        checks.append(await _outputs(settings, address, seen.names))
        return checks
    finally:
        await _close(admin)


async def _patiently(ask: Callable[[], Awaitable[Answer]]) -> Answer:
    """Ask again while the cluster is finding its order: a node is down, a group is new.

    The caller bounds the time.
    """
    while True:
        try:
            return await ask()
        except KafkaError as error:
            if not error.retriable:
                raise
            await asyncio.sleep(AGAIN_SECONDS)


async def _ask(settings: Settings, admin: AIOKafkaAdminClient) -> _Seen:
    names = await admin.list_topics()
    brokers = len((await admin.describe_cluster())["brokers"])
    wanted = [topic.name for topic in plan(settings) if topic.name in names]
    return _Seen(brokers, names, await topic_facts(admin, wanted))


async def _group(
    settings: Settings, address: Broker, admin: AIOKafkaAdminClient, seen: _Seen
) -> list[Check]:
    try:
        async with asyncio.timeout(SECONDS):
            return await _patiently(
                lambda: group_checks(settings, address, admin, seen.facts, seen.names)
            )
    except (KafkaError, TimeoutError, OSError) as error:
        found = f"those of group {settings.app_id} cannot be read: {describe(error)}"
        advice = "see whether all brokers run, and whether this user may read the group"
        return [Check("offsets", "fail", found, advice)]


async def _close(admin: AIOKafkaAdminClient) -> None:
    try:
        async with asyncio.timeout(SECONDS):
            await admin.close()
    except TimeoutError:
        # Everything was asked; a broker that hangs now changes no answer.
        return


async def _parameters(settings: Settings, address: Broker, known: Collection[str]) -> Check:
    if settings.topics.models not in known:
        return no_parameters()
    try:
        async with asyncio.timeout(SECONDS):
            return await parameters(settings, address)
    except (KafkaError, TimeoutError) as error:
        return Check("parameters", "fail", f"cannot be read: {describe(error)}", "see the broker")


async def _outputs(settings: Settings, address: Broker, known: Collection[str]) -> Check:
    name = "outputs"
    if settings.topics.models not in known:
        return Check(name, "ok", "claimed by nobody yet")
    try:
        async with asyncio.timeout(SECONDS), claims_reader(settings, address) as reader:
            claims = await reader.read()
    except (KafkaError, TimeoutError) as error:
        return Check(name, "fail", f"cannot be read: {describe(error)}", "see the broker")
    if held := claims.held_by_others(settings):
        found = f"{', '.join(held)}: another service's"
        return Check(name, "fail", found, f"workers refuse them: {claimed_text(held, settings)}")
    ours = [topic for topic in outputs(settings) if claims.holder(topic)]
    return Check(name, "ok", f"claimed by {settings.app_id}" if ours else "claimed by nobody yet")


async def topic_facts(admin: AIOKafkaAdminClient, names: Sequence[str]) -> list[TopicFacts]:
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


async def _configs(
    admin: AIOKafkaAdminClient, names: Sequence[str]
) -> dict[str, dict[str, str | None]]:
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
