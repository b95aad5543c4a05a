"""Recount ranking, segments and totals from the customers' hashes, whatever is wrong in them.

Writers wait meanwhile. Readers see the old ones until the new ones replace them atomically. An
interrupted repair leaves the old ones, and lets writers in after LEASE_SECONDS.
"""

from typing import NamedTuple
from uuid import uuid4

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from models.errors import ClvError
from streams.cache.keys import CacheKeys
from streams.cache.scripts import Argument, Script, scan

LEASE_SECONDS = 30
"""How long a repair may be silent before another one may start."""

# Customers per script call; Redis serves other clients between calls.
CHUNK = 256


class Repaired(NamedTuple):
    """How many customers were counted (some twice), and how many hashes were no scores: deleted."""

    customers: int
    broken: int


class Repairing(ClvError):
    """Another repair of this cache is running; wait for it."""


class Repair:
    """One repair of the cache under a prefix."""

    def __init__(self, redis: Redis, keys: CacheKeys) -> None:
        self._redis = redis
        self._keys = keys
        self._token = uuid4().hex
        self._fresh = f"{keys.repair}:{self._token}"
        self._recount = Script("account.lua", "recount.lua")
        self._swap = Script("swap.lua")
        self._made = {":ranking"}
        self._counted = 0
        self._broken = 0

    async def run(self, stamp: str) -> Repaired:
        """Recount, and drop the marks, so that missing customers are read again.

        stamp: the server's stamp to store (see server.py), or empty. Errors: RedisError, Repairing.
        """
        taken = await self._redis.set(
            self._keys.repairing, self._token, nx=True, px=LEASE_SECONDS * 1000
        )
        if not taken:
            raise Repairing(
                f"the cache under {self._keys.prefix} is being repaired by somebody else, or a "
                f"repair was interrupted less than {LEASE_SECONDS} s ago; try again later"
            )
        try:
            old = await self._count()
            names = sorted(self._made)
            arguments: list[Argument] = [
                self._keys.prefix, self._fresh, self._token, stamp, len(old), *old, *names,
            ]  # fmt: skip
            await self._swap.call(self._redis, self._keys.ranking, arguments)
        except BaseException:
            await self._give_up()
            raise
        return Repaired(self._counted, self._broken)

    async def _count(self) -> list[bytes]:
        """Count all customers; return the old keys of segments and totals."""
        old: dict[bytes, None] = {}
        own, left = self._fresh.encode(), self._keys.repair.encode()
        async for keys in scan(self._redis, self._keys.pattern):
            old |= dict.fromkeys(key for key in keys if self._keys.is_derived(key))
            # Left by interrupted repairs.
            stale = [k for k in keys if k.startswith(left + b":") and not k.startswith(own)]
            if stale:
                await self._redis.unlink(*stale)
            customers = [
                key.removeprefix(self._keys.customers)
                for key in keys
                if key.startswith(self._keys.customers)
            ]
            # At least one call per step, to keep the lease.
            for start in range(0, max(len(customers), 1), CHUNK):
                await self._add(customers[start : start + CHUNK])
        return list(old)

    async def _add(self, customers: list[bytes]) -> None:
        packed = msgspec.msgpack.encode([each.decode() for each in customers])
        broken, *labels = await self._recount.call(
            self._redis,
            f"{self._fresh}:ranking",
            [self._fresh, self._keys.prefix, self._token, LEASE_SECONDS * 1000, packed, ""],
        )
        self._broken += broken
        self._counted += len(customers) - broken
        for dimension, name in zip(labels[::2], labels[1::2], strict=True):
            self._made.add(f":segment:{dimension.decode()}:{name.decode()}")
            self._made.add(f":totals:{dimension.decode()}")

    async def _give_up(self) -> None:
        """Let writers in at once if Redis answers; otherwise the lease expires."""
        try:
            if await self._redis.get(self._keys.repairing) == self._token.encode():
                await self._redis.delete(self._keys.repairing)
        except RedisError:
            return
