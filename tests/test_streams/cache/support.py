"""A Redis for tests of the cache, and what must hold of everything in it."""

import asyncio
import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import redis.asyncio

from streams.cache import CachedScore
from streams.cache.writer import CacheWriter
from streams.embedded import EmbeddedRedis

PATIENCE = 60.0
"""Seconds that a busy machine may take for what is done at once."""

IMPATIENT = pytest.mark.parametrize("client", [1.0], indirect=True)
"""For tests of a Redis that hangs: the client gives it up after a second, twice."""


def score(
    customer_id: str,
    position: int,
    clv: float = 1.0,
    lifecycle: str = "active",
    tier: str = "gold",
    update: bytes | None = None,
) -> CachedScore:
    document = json.dumps({"customer_id": customer_id, "position": position}).encode()
    segments = (("lifecycle", lifecycle), ("tier", tier))
    return CachedScore(customer_id, position, clv, segments, document if update is None else update)


class Server(EmbeddedRedis):
    """An embedded Redis that can be killed outright and started again on its port.

    It comes back from the last SAVE to its directory, or empty if there was none.
    """

    def __init__(self, directory: Path) -> None:
        super().__init__()
        self.directory = directory

    def command(self, port: int) -> Sequence[str]:
        return [*super().command(port), "--dir", str(self.directory)]

    async def kill(self) -> int:
        port = self.port
        self._kill()
        return port

    async def restart(self, port: int) -> None:
        await self._start_on(port)


async def assert_consistent(client: redis.asyncio.Redis, prefix: str = "clv") -> None:
    """Recompute ranking, members and totals from the customers' hashes and compare them all."""
    ranking: dict[bytes, float] = {}
    members: dict[bytes, set[bytes]] = {}
    totals: dict[bytes, dict[bytes, int]] = {}
    start = f"{prefix}:customer:".encode()
    async for key in client.scan_iter(match=f"{prefix}:customer:*"):
        fields = await client.hgetall(key)
        customer_id, clv = key.removeprefix(start), float(fields[b"clv"])
        ranking[customer_id] = clv
        for dimension, name in json.loads(fields[b"segments"]).items():
            members.setdefault(f"{prefix}:segment:{dimension}:{name}".encode(), set()).add(
                customer_id
            )
            sums = totals.setdefault(f"{prefix}:totals:{dimension}".encode(), {})
            for field, number in (("customers", 1), ("value_cents", math.floor(clv * 100 + 0.5))):
                held = f"{name}:{field}".encode()
                sums[held] = sums.get(held, 0) + number
    places = await client.zrange(f"{prefix}:ranking", 0, -1, withscores=True)
    assert {member: clv for member, clv in places} == ranking  # noqa: C416 - lists in RESP3
    held_members = {
        key: await client.smembers(key)
        async for key in client.scan_iter(match=f"{prefix}:segment:*")
    }
    assert held_members == members
    held_totals = {
        key: {field: int(number) for field, number in (await client.hgetall(key)).items()}
        async for key in client.scan_iter(match=f"{prefix}:totals:*")
    }
    assert {key: without_zeros(sums) for key, sums in held_totals.items()} == {
        key: without_zeros(sums) for key, sums in totals.items()
    }


def without_zeros(sums: dict[bytes, int]) -> dict[bytes, int]:
    """Drop sums of nothing: Redis need not have a field for a segment worth exactly zero."""
    return {field: number for field, number in sums.items() if number}


async def until_written(writer: CacheWriter, seconds: float = PATIENCE) -> None:
    async with asyncio.timeout(seconds):
        while writer.pending or not writer.healthy or writer.catching_up:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
