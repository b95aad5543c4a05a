"""The fitted parameters that workers use."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from models.contracts.parameters import Parameters
from streams.cli.checks.check import Check
from streams.connection import Broker
from streams.parameters import ParameterFeed
from streams.settings import Settings

NAME = "parameters"

OLD = timedelta(days=180)
"""People change; half a year is when the fit of a shop is worth another look."""


async def parameters(settings: Settings, broker: Broker) -> Check:
    """Check the newest parameters; raises KafkaError."""
    async with ParameterFeed(settings.topics.models, **broker.client_options()) as feed:
        return judge(settings, feed.current, datetime.now(UTC))


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
        return Check(NAME, "warn", found, "fit on newer orders by `clv fit FILE --publish`")
    return Check(NAME, "ok", found)


def no_parameters() -> Check:
    """Nothing is published."""
    return Check(
        NAME,
        "warn",
        "none are published: the simple average is used",
        "publish some by `clv fit FILE --publish`",
    )
