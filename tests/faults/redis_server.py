"""A Redis that can be killed, frozen, filled, and started again empty or from an older copy."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Self

from redis.asyncio import Redis
from redis.exceptions import RedisError

from streams.embedded.process import HOST
from streams.embedded.redis import redis_program
from tests.faults.processes import Process
from tests.servers.node import free_ports

START_SECONDS = 15.0
EVICT_SECONDS = 20.0
EVICT_STEP = 20_000
"""Bytes by which it must hold less each time."""


class RedisServer:
    """One Valkey process on a port that stays the same; an async context manager."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        # Not one of those given to outgoing connections: killed, it could not start again.
        [self.port] = free_ports(1)
        self.process: Process | None = None

    async def __aenter__(self) -> Self:
        self.directory.mkdir(parents=True, exist_ok=True)
        await self.start()
        return self

    async def __aexit__(self, *_error: object) -> None:
        await self.kill()

    @asynccontextmanager
    async def client(self) -> AsyncIterator[Redis]:
        """A client of its own port, past any proxy."""
        client = Redis(host=HOST, port=self.port, socket_timeout=10)
        try:
            yield client
        finally:
            await client.aclose()

    async def start(self) -> None:
        """Start it, empty or with what `restore` put there, and wait until it answers."""
        self.process = await Process.start(
            [
                redis_program(),
                *("--bind", HOST),
                *("--port", str(self.port)),
                *("--dir", str(self.directory)),
                *("--save", ""),
                *("--appendonly", "no"),
                *("--maxmemory-policy", "noeviction"),
            ],
            self.directory / "redis.log",
        )
        deadline = time.monotonic() + START_SECONDS
        async with self.client() as client:
            while True:
                with contextlib.suppress(RedisError, OSError):
                    await client.ping()
                    return
                if self.process.status is not None or time.monotonic() > deadline:
                    raise RuntimeError(f"Redis did not start:\n{self.process.tail()}")
                await asyncio.sleep(0.02)

    async def kill(self) -> None:
        """End it at once; everything it held is gone."""
        if self.process is not None:
            await self.process.kill()
            self.process = None
        self._dump.unlink(missing_ok=True)

    def freeze(self) -> None:
        """Let it answer nobody."""
        if self.process is not None:
            self.process.freeze()

    def thaw(self) -> None:
        """Let it answer again."""
        if self.process is not None:
            self.process.thaw()

    async def save(self) -> Path:
        """Write what it holds to a file, and return where."""
        copy = self.directory / "copy.rdb"
        async with self.client() as client:
            await client.save()
        shutil.move(self._dump, copy)
        return copy

    def restore(self, copy: Path) -> None:
        """Have the next start load this copy."""
        shutil.copy(copy, self._dump)

    async def limit_memory(self, more: int | None) -> None:
        """Let it take so many bytes more than it holds now, and evict nothing; none: no limit."""
        async with self.client() as client:
            await client.config_set("maxmemory-policy", "noeviction")
            limit = 0
            if more is not None:
                limit = int((await client.info("memory"))["used_memory"]) + more
            await client.config_set("maxmemory", limit)

    async def evict(self, keys: int) -> None:
        """Have it evict so many keys, any of them, and go on evicting.

        Raises
        ------
        AssertionError
            if it has not so many, or evicts none.
        """
        deadline = time.monotonic() + EVICT_SECONDS
        async with self.client() as client:
            await client.config_set("maxmemory-policy", "allkeys-random")
            before = await self._evicted(client)
            while (evicted := await self._evicted(client) - before) < keys:
                if time.monotonic() > deadline:
                    raise AssertionError(f"Redis was to evict {keys} keys, and evicted {evicted}")
                used = int((await client.info("memory"))["used_memory"])
                await client.config_set("maxmemory", used - EVICT_STEP)
                await asyncio.sleep(0.01)

    @staticmethod
    async def _evicted(client: Redis) -> int:
        return int((await client.info("stats"))["evicted_keys"])

    @property
    def _dump(self) -> Path:
        return self.directory / "dump.rdb"
