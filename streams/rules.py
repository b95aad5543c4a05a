"""Rules of segments on `clv.models`: the first ones of a service, and others in their place."""

from __future__ import annotations

from datetime import datetime

import structlog

from models.errors import ClvError
from models.segments import Rules
from models.timeline import Timeline
from streams.kafka.connection import Broker
from streams.registry.reading import read_registry, registry_reader, write_document
from streams.registry.records import rules_key
from streams.settings import Settings

log = structlog.get_logger(__name__)


class RulesPublished(ClvError):
    """Rules of this version, or from this time, are published already: read them again."""


async def begin_rules(settings: Settings, broker: Broker) -> Timeline[Rules]:
    """Return the rules of the service; if it has none, put the configured ones in force for ever.

    All workers go by what is published, so that those of a rolling restart agree, whatever is in
    their configuration. Of two that begin a service at once, the first to write decides.
    Errors: KafkaError, TimeoutError.
    """
    topic, configured = settings.topics.models, settings.rules
    async with registry_reader(broker, topic, settings.economics.currency) as reader:
        registry = await reader.read()
        if not registry.rules.published:
            last = await write_document(broker, topic, rules_key(configured.version), configured)
            registry = await reader.read(last)
            log.info("rules put in force", version=configured.version)
    latest = registry.rules.latest
    if latest is not None and is_other(settings, latest):
        log.warning(
            "the configured rules of segments are not those in force, and are not used",
            configured=configured.version,
            in_force=latest.version,
            remedy="see what they would change by `clv segments diff`, and put them in force by "
            "`clv segments apply`",
        )
    return registry.rules


def is_other(settings: Settings, in_force: Rules) -> bool:
    """Return whether the configuration has rules that are not those in force."""
    return settings.dimensions is not None and settings.dimensions != in_force.dimensions


def version_for(rules: Rules, published: Timeline[Rules]) -> str:
    """Return a version that has not been used: that of the rules, or with a number after it."""
    used = {each.version for each in published.published}
    number = 2
    version = rules.version
    while version in used:
        version = f"{rules.version}-{number}"
        number += 1
    return version


async def publish_rules(settings: Settings, broker: Broker, rules: Rules, since: datetime) -> Rules:
    """Put rules in force from a time on, under a version of their own; return them.

    Errors: KafkaError, TimeoutError; RulesPublished if somebody else has just published some.
    """
    topic, currency = settings.topics.models, settings.economics.currency
    registry = await read_registry(broker, topic, currency)
    version = version_for(rules, registry.rules)
    complete = rules.model_copy(update={"version": version, "holds_from": since})
    await write_document(broker, topic, rules_key(version), complete)
    registry = await read_registry(broker, topic, currency)
    if registry.rules.by_version.get(version) != complete:
        raise RulesPublished(
            f"rules {version} were published by somebody else at the same time; see "
            "`clv segments history`, and apply yours again if they are still wanted"
        )
    return complete
