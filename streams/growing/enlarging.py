"""More partitions for topics that are there."""

from __future__ import annotations

import asyncio
from collections.abc import Collection

from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.errors import (
    IncompatibleBrokerVersion,
    InvalidPartitionsError,
    PolicyViolationError,
    UnsupportedVersionError,
)

from streams.growing.stage import GrowthRefused

_SHOWN_SECONDS = 60.0
_POLL_SECONDS = 0.1


async def ask_whether(admin: AIOKafkaAdminClient, topics: Collection[str], partitions: int) -> None:
    """Ask the broker whether these can have so many partitions; nothing is changed.

    Raises
    ------
    GrowthRefused
        when they cannot.
    KafkaError
        when this user may not, or the broker is away.
    """
    if topics:
        await _request(admin, topics, partitions, only_ask=True)


async def enlarge(admin: AIOKafkaAdminClient, topics: Collection[str], partitions: int) -> None:
    """Give topics so many partitions, and return when each has a leader; errors as above."""
    if not topics:
        return
    await _request(admin, topics, partitions, only_ask=False)
    missing = set(topics)
    try:
        async with asyncio.timeout(_SHOWN_SECONDS):
            while True:
                missing = {t for t in missing if not await _is_there(admin, t, partitions)}
                if not missing:
                    return
                await asyncio.sleep(_POLL_SECONDS)
    except TimeoutError:
        raise GrowthRefused(
            f"the broker took the order for {partitions} partitions of "
            f"{', '.join(sorted(missing))}, but they have no leaders after {_SHOWN_SECONDS:g} s: "
            "see whether all brokers are up, and run this again"
        ) from None


async def _is_there(admin: AIOKafkaAdminClient, topic: str, partitions: int) -> bool:
    [described] = await admin.describe_topics([topic])
    led = [p for p in described["partitions"] if p["leader"] >= 0 and not p["error_code"]]
    return len(led) == partitions


async def _request(
    admin: AIOKafkaAdminClient, topics: Collection[str], partitions: int, *, only_ask: bool
) -> None:
    wanted = {topic: NewPartitions(partitions) for topic in sorted(topics)}
    try:
        await admin.create_partitions(wanted, validate_only=only_ask)
    except (IncompatibleBrokerVersion, UnsupportedVersionError) as error:
        raise GrowthRefused(
            "this broker cannot give a topic more partitions, as the embedded one cannot: on it, "
            "start with as many as are needed (CLV_PARTITIONS); Apache Kafka can"
        ) from error
    except (InvalidPartitionsError, PolicyViolationError) as error:
        raise GrowthRefused(f"the broker does not make {partitions} partitions: {error}") from error
