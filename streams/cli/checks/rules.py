"""The rules of segments that workers go by."""

from __future__ import annotations

from datetime import UTC, datetime

from models.calendar import milliseconds
from models.segments import DEFAULT_RULES, Rules
from models.timeline import Timeline
from streams.cli.checks.check import Check
from streams.kafka.connection import Broker
from streams.parameters import ParameterFeed, RulesUnreadable
from streams.rules import is_other
from streams.settings import Settings

NAME = "rules"


async def rules(settings: Settings, broker: Broker) -> list[Check]:
    """Check the rules in force; raises KafkaError."""
    try:
        async with ParameterFeed(broker, settings.topics.models) as feed:
            return [judge(settings, feed.rules, datetime.now(UTC))]
    except RulesUnreadable as error:
        return [Check(NAME, "fail", str(error), "run the version that published them")]


def judge(settings: Settings, published: Timeline[Rules], now: datetime) -> Check:
    """Judge the rules in force at a time."""
    current = published.at(milliseconds(now))
    if current is None:
        return Check(NAME, "ok", "none are published: the first worker puts its own in force")
    found = f"{current.version}, {len(current.dimensions)} dimensions"
    see = "see `clv segments diff`, and put them in force by `clv segments apply`"
    if is_other(settings, current):
        return Check(NAME, "warn", f"{found}; the configuration has others", see)
    older = current.version.startswith("default-") and current.version != DEFAULT_RULES.version
    if older and settings.dimensions is None:
        found += f"; this version of the program has newer default rules, {DEFAULT_RULES.version}"
        return Check(NAME, "ok", found, "`clv segments show --default` prints them")
    return Check(NAME, "ok", found)
