"""Looking into every store for what is left of a customer, and waiting for what is soon gone."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from redis.asyncio import Redis

from streams.basis.logs import KafkaLogs
from streams.erasing.seeking import Seeker
from streams.erasing.stores import in_directory, in_file, in_redis
from streams.erasing.topics import in_topics, remembers
from streams.erasing.trace import Proof, Trace
from streams.settings import Settings

_POLL_SECONDS = 1.0

TopicConfigs = Mapping[str, Mapping[str, str | None] | None]
"""Configuration of each topic that exists; None where the broker does not tell."""


@dataclass(frozen=True, slots=True)
class Stores:
    """Where to look, beside the topics; redis: None where none is configured."""

    redis: Redis | None
    state_dirs: Sequence[Path]
    files: Sequence[Path]


async def prove(
    settings: Settings,
    logs: KafkaLogs,
    stores: Stores,
    configs: TopicConfigs,
    ids: Sequence[str],
    *,
    within: float,
    until_gone: bool = False,
) -> Proof:
    """Look everywhere for these ids, the customer's own first.

    within: seconds to wait until Redis and the copies are without them, which follow the changelog;
    until_gone: also until the topics are. Errors: KafkaError, RedisError, OSError.
    """
    seeker = Seeker(ids)
    until = time.monotonic() + within
    while True:
        remembered = await remembers(settings, logs, seeker.ids[0])
        looked, traces = await in_topics(settings, logs, seeker, configs)
        beside = await _beside(settings, stores, seeker)
        while any(trace.until.at is None for trace in beside) and time.monotonic() < until:
            await asyncio.sleep(_POLL_SECONDS)
            beside = await _beside(settings, stores, seeker)
        proof = Proof(seeker.ids, looked, [*traces, *beside], remembered, _now())
        if not (until_gone and proof.traces) or time.monotonic() >= until:
            break
        await asyncio.sleep(_POLL_SECONDS)
    if stores.redis is None:
        proof.skipped.append("Redis: none is configured, set CLV_REDIS")
    else:
        proof.looked.append(f"Redis: keys {settings.redis_prefix}:…")
    proof.looked += [f"directory {directory}" for directory in stores.state_dirs]
    for path in stores.files:
        if (trace := in_file(path, seeker)) is not None:
            proof.traces.append(trace)
        proof.looked.append(f"file {path}")
    return proof


async def _beside(settings: Settings, stores: Stores, seeker: Seeker) -> list[Trace]:
    traces: list[Trace] = []
    if stores.redis is not None:
        traces += await in_redis(stores.redis, settings.redis_prefix, seeker, _now())
    for directory in stores.state_dirs:
        traces += in_directory(directory, seeker)
    return traces


def _now() -> int:
    return time.time_ns() // 1_000_000
