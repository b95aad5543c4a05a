"""The fitted parameters that workers use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from models.contracts.parameters import Parameters
from streams.cli.checks.check import Check
from streams.kafka.connection import Broker
from streams.parameters import ParameterFeed
from streams.settings import Settings

NAME = "parameters"

OLD = timedelta(days=180)
"""People change; half a year is when the fit of a shop is worth another look."""


async def parameters(settings: Settings, broker: Broker) -> list[Check]:
    """Check the newest parameters; raises KafkaError."""
    async with ParameterFeed(broker, settings.topics.models) as feed:
        return [judge(settings, feed.timeline.latest, datetime.now(UTC))]


def judge(settings: Settings, current: Parameters | None, now: datetime) -> Check:
    """Judge the parameters that are current."""
    if current is None:
        return no_parameters()
    currency = settings.economics.currency
    if current.currency != currency:
        found = f"{current.version} is in {current.currency}, values are in {currency}"
        return Check(NAME, "fail", found, f"fit on orders in {currency}, and publish")
    found = f"{current.version}, fitted on {current.customers} customers"
    age = now - current.fitted_until
    if age > OLD:
        found += f" until {current.fitted_until.date()}, {age.days} days ago"
        return Check(NAME, "warn", found, "run `clv fitter`, or fit on newer orders by `clv fit`")
    return Check(NAME, "ok", found)


def no_parameters() -> Check:
    """Nothing is published."""
    advice = "run `clv fitter`, or publish some by `clv fit FILE --publish`"
    return Check(NAME, "warn", "none are published: weak prior ones are used", advice)
