"""The latest score of every customer in Redis, with a ranking, segments and exact totals."""

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from streams.addresses import shown_url
from streams.cache.age import oldest_trusted
from streams.cache.arguments import Call, Written, call_arguments
from streams.cache.connection import RedisUnusable, is_about_certificates, is_outage
from streams.cache.keys import CacheKeys
from streams.cache.ports import Standing
from streams.cache.repair import Repair, Repaired
from streams.cache.score import CachedScore, Item, RankedCustomer, SegmentTotals
from streams.cache.scripts import SCAN_COUNT, Script, scan
from streams.cache.server import ServerFacts, owned_text, server_facts

T = TypeVar("T")
# Customers per script call; Redis serves other clients between calls, every few milliseconds.
CHUNK = 256
# Up to this many members, a segment is sorted whole; above, its members are picked off the ranking.
SMALL_SEGMENT = 1_000
# Places of the ranking that one script call looks at: about a millisecond of Redis.
WALK = 1_000


class ScoreCache:
    """The cache under one prefix; any number of writers and readers may share it.

    owner: the app id of the service that writes; another service's cache is not written. Empty: no
    check. secret: the erasure key, which writers must have.

    Errors: RedisError from every method that talks to Redis, see `is_outage`.
    """

    def __init__(
        self, redis: Redis, prefix: str = "clv", owner: str = "", secret: bytes = b""
    ) -> None:
        if redis.connection_pool.connection_kwargs.get("decode_responses"):
            raise ValueError("the cache holds bytes: use a Redis client without decode_responses")
        self._redis = redis
        self._keys = CacheKeys(prefix)
        self.prefix = prefix
        self.app_id = owner
        self._secret = secret
        self._write = Script("account.lua", "remove.lua", "put.lua", "mark.lua")
        self._members = Script("members.lua")
        self._standing = Script("standing.lua")
        self._finish = Script("finish.lua")

    async def write(self, calls: Sequence[Call]) -> list[Written | RedisError]:
        """Make the calls in order and in one round trip; return the result of each.

        A mark moves atomically with the customers of its call, and only if Redis holds the expected
        mark. So it does not move after a refused call, or on another copy of the data.
        """
        if not calls:
            return []
        arguments = [
            call_arguments(self._keys.prefix, call, self.app_id, self._secret) for call in calls
        ]
        replies = await self._write.run(self._redis, [self._keys.ranking], arguments)
        return [
            reply
            if isinstance(reply, RedisError)
            else Written(int(reply[0]), int(reply[1]), reply[2].decode())
            for reply in replies
        ]

    async def marks(self, partitions: Sequence[int]) -> list[str]:
        """Return the mark of each partition: everything before it is in this Redis; empty: none."""
        if not partitions:
            return []
        held: Any = await self._redis.hmget(self._keys.marks, [str(p) for p in partitions])
        return ["" if mark is None else mark.decode() for mark in held]

    async def standing(self, partition: int, now: int) -> Standing:
        """Return a partition's `Standing`, and note it if this Redis has no customers.

        now: milliseconds since 1970, as all times.
        """
        mark, since = await self._run(self._standing, partition, now, oldest_trusted(now))
        return Standing(mark.decode(), int(since) if since else None)

    async def finish(self, partition: int, own: tuple[str, str], end: int, since: int) -> bool:
        """Set a partition's mark after all of it was read, and since when it can be trusted.

        own: name and value of the refill's own mark. Returns False if Redis holds another one, so
        that some of the refill may be lost.
        """
        return bool(
            await self._run(self._finish, partition, *own, str(end), since, oldest_trusted(since))
        )

    async def _run(self, script: Script, *arguments: str | int) -> Any:
        given = [self._keys.prefix, *arguments]
        return await script.call(self._redis, self._keys.ranking, given)

    async def check_login(self, url: str) -> None:
        """Raise RedisUnusable if Redis refuses the login; do nothing if it is only away."""
        try:
            await self.size()
        except RedisError as error:
            if not is_outage(error) or is_about_certificates(error):
                raise RedisUnusable(
                    f"{shown_url(url)} does not let us in: {error}; see CLV_REDIS and "
                    "redis_security"
                ) from error

    async def owner(self) -> str | None:
        """Return the app id of the service that owns this cache, or None."""
        held: Any = await self._redis.get(self._keys.owner)
        return None if held is None else str(held.decode())

    async def own(self) -> str:
        """Make this service the owner if there is none; return the owner."""
        await self._redis.set(self._keys.owner, self.app_id, nx=True)
        return await self.owner() or self.app_id

    async def release(self, app_id: str) -> bool:
        """Remove this service as the owner; return whether it was."""
        if await self.owner() != app_id:
            return False
        await self._redis.delete(self._keys.owner)
        return True

    async def facts(self) -> ServerFacts:
        """Return the server's facts about eviction."""
        return await server_facts(self._redis)

    async def check_whole(self, facts: ServerFacts) -> bool:
        """Return whether nothing was evicted since the cache was last known to be whole.

        An empty cache proves nothing: ranking and marks may have been evicted. If nothing was, the
        server's stamp is stored for the next check.
        """
        stamp = await self.whole_stamp()
        if stamp == facts.stamp:
            return True
        if facts.evicted_since(stamp):
            return False
        await self._redis.set(self._keys.whole, facts.stamp)
        return True

    async def whole_stamp(self) -> str | None:
        """Return the server's stamp (see server.py) of when the cache was last whole."""
        held: Any = await self._redis.get(self._keys.whole)
        return None if held is None else str(held.decode())

    async def repair(self, facts: ServerFacts) -> Repaired:
        """Recount ranking, segments and totals from the customers, and drop the marks.

        Writers are refused meanwhile (an outage to a CacheWriter). Errors: Repairing.
        """
        return await Repair(self._redis, self._keys).run(facts.stamp)

    async def scan_customers(self) -> AsyncIterator[list[str]]:
        """Yield all customer ids in parts; some may come twice, as with Redis' SCAN."""
        async for keys in scan(self._redis, self._keys.customer_pattern):
            yield [key.removeprefix(self._keys.customers).decode() for key in keys]

    async def scan_updates(self) -> AsyncIterator[list[bytes]]:
        """Yield the published updates of all customers in parts, each customer's once."""
        seen: set[bytes] = set()
        async for keys in scan(self._redis, self._keys.customer_pattern):
            fresh = [key for key in dict.fromkeys(keys) if key not in seen]
            seen.update(fresh)
            async with self._redis.pipeline(transaction=False) as pipeline:
                for key in fresh:
                    pipeline.hget(key, "update")
                found: list[Any] = await pipeline.execute()
            yield [update for update in found if update is not None]

    async def get(self, customer_id: str) -> CachedScore | None:
        """Return a customer's score, or None."""
        fields: Any = await self._redis.hgetall(self._keys.customer(customer_id))
        if not fields:
            return None
        return CachedScore(
            customer_id,
            int(fields[b"position"]),
            float(fields[b"clv"]),
            tuple(json.loads(fields[b"segments"]).items()),
            fields[b"update"],
        )

    async def top(self, n: int) -> list[RankedCustomer]:
        """Return the `n` customers of the highest value, highest first."""
        if n <= 0:
            return []
        places: Any = await self._redis.zrange(
            self._keys.ranking, 0, n - 1, desc=True, withscores=True
        )
        return [_ranked(member, clv) for member, clv in places]

    async def ranked(self, count: int, after: RankedCustomer | None = None) -> list[RankedCustomer]:
        """Return `count` customers behind another one, by value, highest first.

        after: as it was read; if their value has changed meanwhile, or they are gone, all of the
        same value come again.
        """
        if count <= 0:
            return []
        start = 0 if after is None else await self._place_behind(after)
        places: Any = await self._redis.zrange(
            self._keys.ranking, start, start + count - 1, desc=True, withscores=True
        )
        return [_ranked(member, clv) for member, clv in places]

    async def _place_behind(self, after: RankedCustomer) -> int:
        ranking, member = self._keys.ranking, after.customer_id
        async with self._redis.pipeline() as pipeline:
            pipeline.zscore(ranking, member)
            pipeline.zrevrank(ranking, member)
            pipeline.zcount(ranking, f"({after.clv!r}", "+inf")
            value, rank, above = await pipeline.execute()
        if value is not None and float(value) == after.clv:
            return int(rank) + 1
        return int(above)

    async def walk(
        self,
        start: int,
        count: int,
        within: Sequence[tuple[str, str]] = (),
        *,
        rising: bool = False,
    ) -> tuple[int, list[tuple[int, RankedCustomer]]]:
        """Look at `count` places of the ranking from place `start`.

        within: pairs of dimension and segment; customers outside of any of them are left out.
        rising: the lowest value is at place 0 instead of the highest. Returns how many places
        there were, and the customers with their places.
        """
        found: Any = await self._redis.zrange(
            self._keys.ranking, start, start + count - 1, desc=not rising, withscores=True
        )
        members = [member for member, _ in found]
        fits = [True] * len(found)
        if members and within:
            async with self._redis.pipeline(transaction=False) as pipeline:
                for dimension, segment in within:
                    pipeline.smismember(self._keys.segment(dimension, segment), members)
                fits = [all(each) for each in zip(*await pipeline.execute(), strict=True)]
        customers = [
            (start + number, _ranked(member, clv))
            for number, (member, clv) in enumerate(found)
            if fits[number]
        ]
        return len(found), customers

    async def values_at(self, places: Sequence[int]) -> list[float | None]:
        """Return the value at each of these places of the ranking, from 0 for the highest."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for place in places:
                pipeline.zrange(self._keys.ranking, place, place, desc=True, withscores=True)
            found: list[Any] = await pipeline.execute()
        return [float(at[0][1]) if at else None for at in found]

    async def counts_below(self, values: Sequence[float]) -> list[int]:
        """Return how many customers are worth less than each of these values."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for value in values:
                pipeline.zcount(self._keys.ranking, "-inf", f"({float(value)!r}")
            found: list[int] = await pipeline.execute()
        return found

    async def count_above(self, value: float) -> int:
        """Return how many customers are worth more than this."""
        above: int = await self._redis.zcount(self._keys.ranking, f"({float(value)!r}", "+inf")
        return above

    async def updates(self, customer_ids: Sequence[str]) -> list[bytes | None]:
        """Return the published update of each of these customers, None for who has none."""
        async with self._redis.pipeline(transaction=False) as pipeline:
            for customer_id in customer_ids:
                pipeline.hget(self._keys.customer(customer_id), "update")
            found: list[bytes | None] = await pipeline.execute()
        return found

    async def members(
        self, dimension: str, segment: str, start: int = 0, count: int = 100
    ) -> list[RankedCustomer]:
        """Return `count` members of a segment from place `start`, highest value first.

        Redis sorts a small segment; for a large one about (start + count) × customers / members
        places of the ranking are read. To read all members use `scan_members`.
        """
        if start < 0 or count < 0:
            raise ValueError(f"start and count must not be negative, got {start} and {count}")
        key = self._keys.segment(dimension, segment)
        if await self._redis.scard(key) <= SMALL_SEGMENT:
            found = await self._in_order(key)
        else:
            found = await self._walk(key, start + count)
        return found[start : start + count]

    async def _in_order(self, segment_key: str) -> list[RankedCustomer]:
        weights = {segment_key: 0, self._keys.ranking: 1}
        ascending: Any = await self._redis.zinter(weights, withscores=True)
        return [_ranked(member, clv) for member, clv in reversed(ascending)]

    async def _walk(self, segment_key: str, enough: int) -> list[RankedCustomer]:
        keys = [self._keys.ranking, segment_key]
        # A customer whose value falls meanwhile is read twice: the later place counts.
        found: dict[str, RankedCustomer] = {}
        position, places = 0, WALK
        while len(found) < enough and places == WALK:
            [[places, *page]] = await self._members.run(self._redis, keys, [[position, WALK]])
            position += places
            for member, clv in zip(page[::2], page[1::2], strict=True):
                customer = _ranked(member, clv)
                found.pop(customer.customer_id, None)
                found[customer.customer_id] = customer
        return list(found.values())

    async def scan_members(self, dimension: str, segment: str) -> AsyncIterator[str]:
        """Yield the ids of a segment's members in no order; some may come twice."""
        key = self._keys.segment(dimension, segment)
        member: Any
        async for member in self._redis.sscan_iter(key, count=SCAN_COUNT):
            yield member.decode()

    async def totals(self, dimension: str) -> dict[str, SegmentTotals]:
        """Return the totals of every segment of a dimension that has customers."""
        fields: Any = await self._redis.hgetall(self._keys.totals(dimension))
        sums: defaultdict[str, dict[str, int]] = defaultdict(dict)
        for field, number in fields.items():
            segment, _, what = field.decode().rpartition(":")
            sums[segment][what] = int(number)
        return {
            segment: SegmentTotals(found["customers"], found.get("value_cents", 0))
            for segment, found in sorted(sums.items())
        }

    async def size(self) -> int:
        """Return how many customers the cache holds."""
        return int(await self._redis.zcard(self._keys.ranking))

    async def clear(self) -> int:
        """Delete this cache's keys except its owner; return how many there were.

        Writers are refused meanwhile; for a CacheWriter that is an outage. If a clear is
        interrupted, they stay refused, because totals would be wrong: run it again. Run one at a
        time. Errors: RedisUnusable for another service's cache.
        """
        if self.app_id and (owner := await self.owner()) not in (None, self.app_id):
            raise RedisUnusable(f"the cache is not cleared: {owned_text(owner, self)}")
        await self._redis.set(self._keys.clearing, b"1")
        # Marks go first: without them, running workers fill the cache again whatever happens.
        await self._redis.delete(self._keys.marks)
        deleted = 0
        async for keys in scan(self._redis, self._keys.pattern):
            if ours := [key for key in keys if self._keys.owns_data(key)]:
                deleted += await self._redis.unlink(*ours)
        await self._redis.delete(self._keys.clearing)
        return deleted


def newest(items: Iterable[Item]) -> list[Item]:
    """Return each customer's last published score or removal."""
    found: dict[str, Item] = {}
    for item in items:
        held = found.get(item.customer_id)
        if held is None or item.position > held.position:
            found[item.customer_id] = item
    return list(found.values())


def _ranked(member: bytes, clv: float | bytes) -> RankedCustomer:
    return RankedCustomer(member.decode(), float(clv))


def chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """Yield lists of the size that one call of the script takes."""
    iterator = iter(items)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk
