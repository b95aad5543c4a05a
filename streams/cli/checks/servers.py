"""Kafka and Redis, asked at the same time, each for a bounded time."""

from __future__ import annotations

import asyncio

from streams.cli.checks.broker import broker
from streams.cli.checks.check import Check
from streams.cli.checks.redis import redis
from streams.cli.checks.security import security
from streams.settings import Settings


async def servers(settings: Settings) -> list[Check]:
    """Check the servers, their contents, and the ways to them."""
    at_broker, at_redis = await asyncio.gather(broker(settings), redis(settings))
    return [*at_broker, *at_redis, *security(settings)]
