"""The newest score of every customer in Redis, with a ranking, segments and exact totals."""

import json
from collections import defaultdict
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple, TypeVar

from redis.asyncio import Redis
from redis.exceptions import RedisError

from streams.cache.age import oldest_trusted
from streams.cache.arguments import Call, Written, call_arguments
from streams.cache.connection import RedisUnusable, check_login
from streams.cache.keys import CacheKeys
from streams.cache.repair import Repair, Repaired
from streams.cache.score import (
    CachedScore,
    Item,
    RankedCustomer,
    Removal,
    SegmentTotals,
    supersedes,
)
from streams.cache.scripts import Script
from streams.cache.server import ServerFacts, owned_text, server_facts

T = TypeVar("T")
Newest = TypeVar("Newest", bound=Item)
# Customers a script call works on; Redis serves others between calls, after some milliseconds.
CHUNK = 256
# Up to this many members a segment is put in order whole; above, the ranking is walked for them.
SMALL_SEGMENT = 1_000
# Places of the ranking that one step of a walk looks at: about a millisecond of Redis.
WALK = 1_000
SCAN_COUNT = 1_000


class Standing(NamedTuple):
    """A partition's mark, empty for none, and since when it can be trusted, see age.py.

    Without a mark: since when everybody in this Redis was in the log. None: nobody knows.
    """

    mark: str
    since: int | None


class ScoreCache:
    """The cache under one prefix; any number of writers and readers may share it.

    owner: the app id of the service that writes: what another one owns is not written. Without one
    nobody looks whose it is. secret: the erasure key, which whoever writes must have.

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

    async def put(self, scores: Sequence[CachedScore]) -> int:
        """Write the scores published after those held, in one round trip; return how many were.

        Of a customer given twice only the last published counts. Safe to repeat. Errors:
        ValueError, before anything is sent, for a score whose position or value is out of bounds.
        """
        calls = [Call(scores=part) for part in chunks(newest(scores).values())]
        return sum(written.scores for written in _checked(await self.write(calls)))

    async def remove(self, removals: Sequence[Removal]) -> int:
        """Take customers out who were published before; return how many were in.

        For seven days a score that was published before the removal stays out.
        """
        calls = [Call(removals=part) for part in chunks(newest(removals).values())]
        return sum(written.removals for written in _checked(await self.write(calls)))

    async def write(self, calls: Sequence[Call]) -> list[Written | RedisError]:
        """Make the calls in order and in one round trip; return what came of each.

        A mark moves with the customers of its call or not at all, and only if Redis holds the mark
        that is given: what follows a call that was refused, or went to another copy of the data,
        leaves the mark alone.
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
        """Return how a partition stands; a Redis without customers is noted as such.

        now: in milliseconds, as all times.
        """
        mark, since = await self._run(self._standing, partition, now, oldest_trusted(now))
        return Standing(mark.decode(), int(since) if since else None)

    async def finish(self, partition: int, own: tuple[str, str], end: int, since: int) -> bool:
        """Set a partition's mark after all of it was read, and since when it can be trusted.

        own: name and value of the mark that the reading had for itself; False: Redis holds another,
        so that some of what was written may be lost.
        """
        return bool(
            await self._run(self._finish, partition, *own, str(end), since, oldest_trusted(since))
        )

    async def _run(self, script: Script, *arguments: str | int) -> Any:
        given = [self._keys.prefix, *arguments]
        [reply] = await script.run(self._redis, [self._keys.ranking], [given])
        if isinstance(reply, RedisError):
            raise reply
        return reply

    async def check_login(self, url: str) -> None:
        """Raise RedisUnusable where Redis does not let us in; do nothing when it is only away."""
        await check_login(self._redis, self.prefix, url)

    async def owner(self) -> str | None:
        """Return the app id of the service that writes this cache; None before one has begun."""
        held: Any = await self._redis.get(self._keys.owner)
        return None if held is None else str(held.decode())

    async def own(self) -> str:
        """Make the cache this service's, if it is nobody's; return whose it is then."""
        await self._redis.set(self._keys.owner, self.app_id, nx=True)
        return await self.owner() or self.app_id

    async def release(self, app_id: str) -> bool:
        """Make it nobody's if it is this service's; return whether it was."""
        if await self.owner() != app_id:
            return False
        await self._redis.delete(self._keys.owner)
        return True

    async def facts(self) -> ServerFacts:
        """Return what the server tells of itself."""
        return await server_facts(self._redis)

    async def check_whole(self, facts: ServerFacts) -> bool:
        """Say whether nothing was evicted since the cache was last known to be whole.

        That it holds nothing says nothing: ranking and marks may be what was evicted. What the
        server tells is remembered where all is well, for the next check.
        """
        stamp = await self.whole_stamp()
        if stamp == facts.stamp:
            return True
        if facts.evicted_since(stamp):
            return False
        await self._redis.set(self._keys.whole, facts.stamp)
        return True

    async def whole_stamp(self) -> str | None:
        """Return the server's stamp, see server.py, of when the cache was known to be whole."""
        held: Any = await self._redis.get(self._keys.whole)
        return None if held is None else str(held.decode())

    async def repair(self, facts: ServerFacts) -> Repaired:
        """Count ranking, segments and totals anew from the customers, and drop the marks.

        Writers are refused meanwhile (an outage to a CacheWriter). Errors: Repairing.
        """
        return await Repair(self._redis, self._keys).run(facts.stamp)

    async def scan_customers(self) -> AsyncIterator[list[str]]:
        """Yield the ids of those who are in throughout, and perhaps of others; some come twice."""
        cursor = -1
        while cursor:
            keys: Any
            cursor, keys = await self._redis.scan(
                max(cursor, 0), match=self._keys.customer_pattern, count=SCAN_COUNT
            )
            yield [key.removeprefix(self._keys.customers).decode() for key in keys]

    async def get(self, customer_id: str) -> CachedScore | None:
        """Return a customer's score, or None when the cache has none."""
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

    async def members(
        self, dimension: str, segment: str, start: int = 0, count: int = 100
    ) -> list[RankedCustomer]:
        """Return `count` members of a segment from place `start`, highest value first.

        A small segment is put in order by Redis; for a large one the ranking is walked, about
        (start + count) × customers / members places of it. To read all members use `scan_members`.
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
        # A customer whose value falls meanwhile is met twice: the later place counts.
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
        """Yield the ids of a segment's members in no order.

        Who is a member throughout is yielded; one may come twice.
        """
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
        """Delete this cache's keys and no others, but for whose it is; return how many there were.

        Writers are refused meanwhile (an outage to a CacheWriter, which waits). A clear that is
        interrupted leaves them refused, since totals would be wrong: run it again. One at a time:
        the first to end lets writers in. Errors: RedisUnusable where it is another service's.
        """
        if self.app_id and (owner := await self.owner()) not in (None, self.app_id):
            raise RedisUnusable(f"the cache is not cleared: {owned_text(owner, self)}")
        await self._redis.set(self._keys.clearing, b"1")
        # Without marks, whatever happens now, running workers fill the cache again.
        await self._redis.delete(self._keys.marks)
        deleted = 0
        batch: list[bytes] = []
        async for key in self._redis.scan_iter(match=self._keys.pattern, count=SCAN_COUNT):
            if self._keys.owns_data(key):
                batch.append(key)
            if len(batch) == SCAN_COUNT:
                deleted += await self._redis.unlink(*batch)
                batch.clear()
        if batch:
            deleted += await self._redis.unlink(*batch)
        await self._redis.delete(self._keys.clearing)
        return deleted


def newest(items: Iterable[Newest]) -> dict[str, Newest]:
    """Return each customer's score or removal that was published last."""
    found: dict[str, Newest] = {}
    for item in items:
        held = found.get(item.customer_id)
        if held is None or supersedes(item, held):
            found[item.customer_id] = item
    return found


def _checked(replies: Sequence[Written | RedisError]) -> Iterator[Written]:
    for reply in replies:
        if isinstance(reply, RedisError):
            raise reply
        yield reply


def _ranked(member: bytes, clv: float | bytes) -> RankedCustomer:
    return RankedCustomer(member.decode(), float(clv))


def chunks(items: Iterable[T]) -> Iterator[list[T]]:
    """Cut into lists that one call of the script can take."""
    iterator = iter(items)
    while chunk := list(islice(iterator, CHUNK)):
        yield chunk
