"""What Redis holds: all of it at the end, and whether a customer ever goes back on the way."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Self

from redis.asyncio import Redis
from redis.exceptions import RedisError

from tests.faults.limits import standing_in

READ_AT_ONCE = 500
PAUSE_SECONDS = 0.02
OUTAGE_PAUSE_SECONDS = 0.1
STOP_SECONDS = 10.0


@dataclass
class RedisState:
    """Everything under a cache's prefix.

    totals: by dimension, then by the field's name. raw: every key, member and value, as bytes.
    """

    hashes: dict[str, dict[str, bytes]] = field(default_factory=dict)
    ranking: dict[str, float] = field(default_factory=dict)
    members: dict[tuple[str, str], set[str]] = field(default_factory=dict)
    totals: dict[str, dict[str, int]] = field(default_factory=dict)
    raw: list[bytes] = field(default_factory=list)


async def read_redis(url: str, prefix: str = "clv") -> RedisState:
    """Read a cache whole; call it when nobody writes. Errors: RedisError."""
    state = RedisState()
    async with _client(url) as redis:
        keys = [key async for key in redis.scan_iter(match=f"{prefix}:*", count=1_000)]
        for start in range(0, len(keys), READ_AT_ONCE):
            part = keys[start : start + READ_AT_ONCE]
            async with redis.pipeline(transaction=False) as pipe:
                for key in part:
                    pipe.type(key)
                kinds = await pipe.execute()
                for key, kind in zip(part, kinds, strict=True):
                    _ask(pipe, key, kind)
                contents = await pipe.execute()
            for key, kind, content in zip(part, kinds, contents, strict=True):
                _take(state, key.decode().removeprefix(f"{prefix}:"), kind, content)
                state.raw.append(key)
    return state


def _ask(pipe: Any, key: bytes, kind: bytes) -> None:
    if kind == b"hash":
        pipe.hgetall(key)
    elif kind == b"zset":
        pipe.zrange(key, 0, -1, withscores=True)
    elif kind == b"set":
        pipe.smembers(key)
    elif kind == b"string":
        pipe.get(key)
    else:
        raise ValueError(f"Redis key {key!r} is a {kind!r}; the cache has no such keys")


def _take(state: RedisState, name: str, kind: bytes, content: Any) -> None:
    family, _, rest = name.partition(":")
    if kind == b"hash":
        state.raw += [part for pair in content.items() for part in pair]
        fields = {field_name.decode(): value for field_name, value in content.items()}
        if family == "customer":
            state.hashes[rest] = fields
        elif family == "totals":
            state.totals[rest] = {field_name: int(value) for field_name, value in fields.items()}
    elif kind == b"zset":
        state.raw += [member for member, _ in content]
        if family == "ranking":
            state.ranking = {member.decode(): score for member, score in content}
    elif kind == b"set":
        state.raw += content
        dimension, _, segment = rest.partition(":")
        state.members[dimension, segment] = {member.decode() for member in content}
    elif content is not None:
        state.raw.append(content)


class Decrease(NamedTuple):
    """A customer's position was lower than one read before."""

    customer: str
    before: int
    after: int


class RedisObserver:
    """Reads customers' positions all the time, and notes every one that goes back.

    An async context manager with a connection of its own; outages are counted and lived through. A
    customer that is gone and comes back with a lower position has gone back too. order: the field
    of a customer's hash that must never fall. AssertionError at the end for a hash without it.
    """

    def __init__(
        self, url: str, customers: Sequence[str], prefix: str = "clv", *, order: str = "position"
    ) -> None:
        self._url = url
        self._order = order
        self._keys = [(customer, f"{prefix}:customer:{customer}") for customer in customers]
        self._seen: dict[str, int] = {}
        self._epoch = 0
        self._replacing = 0
        self._task: asyncio.Task[None] | None = None
        self._stopping = False
        self.decreases: list[Decrease] = []
        self.reads = 0
        self.outages = 0

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch(), name="redis-observer")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._task is not None
        self._stopping = True
        self._task.cancel()
        await asyncio.wait([self._task], timeout=STOP_SECONDS)
        if not self._task.done():
            raise AssertionError(f"the observer did not stop:\n{standing_in(self._task)}")
        if not self._task.cancelled():
            self._task.result()

    async def failed(self) -> None:
        """Wait until something is wrong with what is read, and raise it."""
        assert self._task is not None
        await asyncio.shield(self._task)

    def reset(self) -> None:
        """Forget what was seen: from now on another copy answers."""
        self._epoch += 1
        self._seen.clear()

    @contextmanager
    def replacing(self) -> Iterator[None]:
        """Note nothing meanwhile, and start afresh: Redis is being replaced by an older copy."""
        self._replacing += 1
        try:
            yield
        finally:
            self._replacing -= 1
            self.reset()

    async def _watch(self) -> None:
        # On a busy machine a cancellation has got lost in the client, which nobody would notice.
        while not self._stopping:
            try:
                async with _client(self._url) as redis:
                    while not self._stopping:
                        await self._round(redis)
                        await asyncio.sleep(PAUSE_SECONDS)
            except (RedisError, OSError):
                self.outages += 1
                await asyncio.sleep(OUTAGE_PAUSE_SECONDS)

    async def _round(self, redis: Redis) -> None:
        for start in range(0, len(self._keys), READ_AT_ONCE):
            part = self._keys[start : start + READ_AT_ONCE]
            epoch = self._epoch
            async with redis.pipeline(transaction=False) as pipe:
                for _, key in part:
                    pipe.hmget(key, self._order, "update")
                found = await pipe.execute()
            if self._replacing or epoch != self._epoch:
                continue
            self.reads += len(part)
            for (customer, key), (place, update) in zip(part, found, strict=True):
                if place is not None:
                    self._note(customer, int(place))
                elif update is not None:
                    raise AssertionError(f"{key} has an update, but no field {self._order!r}")

    def _note(self, customer: str, after: int) -> None:
        before = self._seen.get(customer)
        if before is not None and after < before:
            self.decreases.append(Decrease(customer, before, after))
        self._seen[customer] = after


@asynccontextmanager
async def _client(url: str) -> AsyncIterator[Redis]:
    redis = Redis.from_url(url, socket_timeout=5.0, socket_connect_timeout=2.0)
    try:
        yield redis
    finally:
        await redis.aclose()
