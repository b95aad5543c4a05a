"""Ask the broker, and have the answers judged."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Collection, Sequence

from streams.claims import claimed_text, claims_reader, outputs
from streams.cli.checks.check import Check
from streams.cli.checks.group import group_checks
from streams.cli.checks.parameters import no_parameters, parameters
from streams.cli.checks.rules import rules
from streams.cli.checks.topics import topic_checks
from streams.cli.configuration import need_broker
from streams.cli.console import CommandError
from streams.cli.worker import describe
from streams.kafka.clients import Admin
from streams.kafka.connection import Broker, BrokerUnusable, SecurityUnusable
from streams.kafka.errors import KafkaError
from streams.kafka.groups import once_there
from streams.kafka.topics import TopicFacts, topic_facts
from streams.settings import Settings
from streams.topics import plan

SECONDS = 10.0
"""How long the broker may take for one group of answers."""


async def broker(settings: Settings) -> list[Check]:
    """Check the broker, the topics, the consumer group and the parameters."""
    if settings.broker is None:
        advice = "set CLV_BROKER=host:port; `clv demo` needs none"
        return [Check("broker", "warn", "none is configured", advice)]
    try:
        address = need_broker(settings)
        await address.check(SECONDS)
        admin = Admin(**address.client_options(), request_timeout_ms=5_000)
    except (CommandError, SecurityUnusable) as error:
        return [Check("broker", "fail", str(error), "correct it")]
    except BrokerUnusable as error:
        advice = "start it, or correct CLV_BROKER or the login in CLV_KAFKA_SECURITY__…"
        return [Check("broker", "fail", f"{address} does not answer: {error}", advice)]
    try:
        async with asyncio.timeout(SECONDS):
            await admin.start()
            brokers, names, facts = await once_there(lambda: _ask(settings, admin))
        checks = [
            Check("broker", "ok", f"{address} answers; {brokers} in the cluster"),
            *topic_checks(settings, facts, brokers),
        ]
    except (KafkaError, TimeoutError, OSError) as error:
        found = f"{address} does not answer: {describe(error)}"
        return [Check("broker", "fail", found, "start it, or correct CLV_BROKER")]
    else:
        group = once_there(lambda: group_checks(settings, address, admin, facts, names))
        advice = "see whether all brokers run, and whether this user may read the group"
        checks += await _in_time(group, "offsets", advice, f"those of group {settings.app_id} ")
        if settings.topics.models not in names:
            return [*checks, no_parameters(), Check("outputs", "ok", "claimed by nobody yet")]
        checks += await _in_time(parameters(settings, address), "parameters")
        checks += await _in_time(rules(settings, address), "rules")
        return checks + await _in_time(_outputs(settings, address), "outputs")
    finally:
        await _close(admin)


async def _ask(
    settings: Settings, admin: Admin
) -> tuple[int, Collection[str], Sequence[TopicFacts]]:
    """How many brokers there are, the names of all topics, and the facts about ours."""
    names = await admin.list_topics()
    brokers = len((await admin.describe_cluster())["brokers"])
    wanted = [topic.name for topic in plan(settings) if topic.name in names]
    return brokers, names, await topic_facts(admin, wanted)


async def _in_time(
    asked: Awaitable[list[Check]], name: str, advice: str = "see the broker", what: str = ""
) -> list[Check]:
    """The checks, or one that says that what they judge cannot be read in time."""
    try:
        async with asyncio.timeout(SECONDS):
            return await asked
    except (KafkaError, TimeoutError, OSError) as error:
        return [Check(name, "fail", f"{what}cannot be read: {describe(error)}", advice)]


async def _close(admin: Admin) -> None:
    try:
        async with asyncio.timeout(SECONDS):
            await admin.close()
    except TimeoutError:
        # Everything was asked; a broker that hangs now changes no answer.
        return


async def _outputs(settings: Settings, address: Broker) -> list[Check]:
    name = "outputs"
    async with claims_reader(settings, address) as reader:
        claims = await reader.read()
    if held := claims.held_by_others(settings):
        found = f"{', '.join(held)}: another service's"
        return [Check(name, "fail", found, f"workers refuse them: {claimed_text(held, settings)}")]
    ours = any(claims.holder(topic) for topic in outputs(settings))
    return [Check(name, "ok", f"claimed by {settings.app_id if ours else 'nobody yet'}")]
