"""Who was erased or merged never comes back from an older Redis, whatever the log still says."""

import asyncio
from collections.abc import Sequence

import pytest
import redis.asyncio
from structlog.testing import capture_logs

from streams.cache import ScoreCache, rebuild
from streams.cache.age import now_ms
from streams.cache.updates import Fetched, Updates
from streams.cache.writer import CacheWriter
from streams.retention import TOMBSTONES_STAY_MS
from tests.test_streams.cache.support import Server, assert_consistent, until_written
from tests.test_streams.cache.topic import AsShown, Topic, home, removal, valued

ERASED = [f"erased{i}" for i in range(40)]
STAYING = [f"c{i}" for i in range(300)]
HALF = TOMBSTONES_STAY_MS // 2


async def filled(topic: Topic, cache: ScoreCache, *, hours_ago: float) -> None:
    """A cache of so many hours ago, with customers who were erased since."""
    written_at = now_ms() - int(hours_ago * 3_600_000)
    await topic.publish_home([valued(each, 1, 2.5) for each in STAYING + ERASED])
    async with CacheWriter(cache, topic.updates, clock=lambda: written_at) as writer:
        writer.assigned([0, 1])
        await until_written(writer)
    await topic.publish_home([removal(each) for each in ERASED])
    await topic.publish_home([valued(each, 2, 7.5, "silver") for each in STAYING[:50]])


async def caught_up(cache: ScoreCache, updates: Updates, *, clock=now_ms) -> Sequence[dict]:
    with capture_logs() as logged:
        async with CacheWriter(cache, updates, clock=clock) as writer:
            writer.assigned([0, 1])
            await until_written(writer)
    return logged


async def until_failed(writer: CacheWriter) -> None:
    async with asyncio.timeout(120):
        while not any(task.done() for task in writer._tasks):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    with pytest.raises(KeyError):
        await writer.stop()


def events(logged: Sequence[dict], name: str) -> list[dict]:
    return [entry for entry in logged if entry["event"] == name]


async def test_a_worker_that_starts_removes_whom_an_older_redis_brought_back(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await filled(topic, cache, hours_ago=30)
    logged = await caught_up(cache, topic.without(*ERASED))
    await topic.assert_cached(cache, client)
    [refilled] = events(logged, "cache_refilled")
    assert refilled["removed"] == len(ERASED)
    # Once is enough.
    assert not events(await caught_up(cache, topic.without(*ERASED)), "cache_too_old")


async def test_a_redis_that_comes_back_from_an_old_dump_under_a_running_worker_is_cleaned_up(
    topic: Topic, server: Server, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await filled(topic, cache, hours_ago=30)
    await client.save()
    async with CacheWriter(cache, topic.without(*ERASED)) as writer:
        writer.assigned([0, 1])
        await until_written(writer)
        await topic.assert_cached(cache, client)
        port = await server.kill()
        await server.restart(port)
        assert await cache.size() == len(STAYING) + len(ERASED)
        async with asyncio.timeout(120):
            while await cache.size() != len(STAYING):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await until_written(writer)
    await topic.assert_cached(cache, client)


async def test_marks_of_unknown_age_are_as_old_as_can_be(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await filled(topic, cache, hours_ago=0)
    await client.delete("clv:times")
    logged = await caught_up(cache, topic.without(*ERASED))
    assert events(logged, "cache_too_old")
    await topic.assert_cached(cache, client)


@pytest.mark.parametrize("lost", ["clv:marks", "clv:times"])
async def test_customers_without_marks_or_times_are_read_again_and_the_erased_removed(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis, lost: str
) -> None:
    await filled(topic, cache, hours_ago=0)
    await client.delete(lost)
    await client.hdel("clv:times", "clean")
    await caught_up(cache, topic.without(*ERASED))
    await topic.assert_cached(cache, client)


@pytest.mark.parametrize(("share", "trusted"), [(0.95, True), (1.05, False), (-0.5, False)])
async def test_half_of_the_tombstones_time_is_how_old_a_mark_may_be(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis, share: float, trusted: bool
) -> None:
    await filled(topic, cache, hours_ago=0)
    now = now_ms()
    for partition in (0, 1):
        await client.hset("clv:times", str(partition), str(now - int(share * HALF)))
    logged = await caught_up(cache, topic.updates)
    assert bool(events(logged, "cache_too_old")) is not trusted
    await topic.assert_cached(cache, client)


async def test_a_new_redis_is_filled_without_looking_for_anybody_to_remove(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await topic.publish_home([valued(each, 1) for each in STAYING])
    assert not events(await caught_up(cache, topic.updates), "cache_too_old")
    await topic.assert_cached(cache, client)


async def test_the_mark_of_an_idle_partition_stays_young(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await filled(topic, cache, hours_ago=0)
    began = now_ms()
    later = began + HALF
    await caught_up(cache, topic.updates, clock=lambda: later)
    assert [int(time) for time in await client.hmget("clv:times", "0", "1")] == [later, later]


async def test_a_mark_on_the_way_is_no_younger_than_where_the_reading_began(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await topic.publish([valued(f"c{i}", 1) for i in range(3000)])
    began = now_ms()

    async def fails_in_the_middle(fetched: Fetched) -> Fetched:
        if await cache.marks([0]) != [""]:
            raise KeyError("here it ends")
        return fetched

    for clock in (lambda: began, lambda: began + HALF):
        writer = CacheWriter(cache, AsShown(topic.updates, fails_in_the_middle), clock=clock)
        await writer.start()
        writer.assigned([0])
        await until_failed(writer)
        assert int(await client.hget("clv:times", "0")) == began


async def test_who_begins_anew_while_the_log_is_read_stays_and_no_total_is_wrong_meanwhile(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await filled(topic, cache, hours_ago=30)
    back = ERASED[0]
    writer: CacheWriter

    async def compacted(fetched: Fetched) -> Fetched:
        await assert_consistent(client)
        if topic.expected.get(back) is None:
            await topic.publish_and_write(writer, [valued(back, 3, 9.0)], home(back))
        kept = [
            item
            for item in fetched.items
            if item.customer_id not in ERASED or item == topic.expected.get(item.customer_id)
        ]
        return fetched._replace(items=kept)

    async with CacheWriter(cache, AsShown(topic.updates, compacted)) as writer:
        writer.assigned([0, 1])
        await until_written(writer)
    await topic.assert_cached(cache, client)


async def test_a_reading_that_was_cut_short_is_begun_again_by_the_next_worker(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await filled(topic, cache, hours_ago=30)
    looks = 0

    async def killed(fetched: Fetched) -> Fetched:
        nonlocal looks
        looks += 1
        if looks > 1:
            raise KeyError("killed")
        return fetched._replace(items=[i for i in fetched.items if i.customer_id not in ERASED])

    first = CacheWriter(cache, AsShown(topic.updates, killed))
    await first.start()
    first.assigned([0, 1])
    await until_failed(first)
    assert await cache.size() == len(STAYING) + len(ERASED)
    await caught_up(cache, topic.without(*ERASED))
    await topic.assert_cached(cache, client)


async def test_a_redis_that_is_emptied_while_the_log_is_read_is_filled_whole(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await filled(topic, cache, hours_ago=30)
    emptied = False

    async def compacted(fetched: Fetched) -> Fetched:
        nonlocal emptied
        if not emptied and fetched.end is not None and fetched.position >= fetched.end:
            emptied = True
            await client.flushall()
        return fetched._replace(items=[i for i in fetched.items if i.customer_id not in ERASED])

    logged = await caught_up(cache, AsShown(topic.updates, compacted))
    assert events(logged, "cache_refill_begins_again")
    await topic.assert_cached(cache, client)


async def test_a_rebuild_removes_whom_the_log_no_longer_has_and_leaves_trusted_marks(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await filled(topic, cache, hours_ago=30)
    done = await rebuild(cache, topic.without(*ERASED), [0, 1])
    assert done.removed == len(ERASED)
    await topic.assert_cached(cache, client)
    assert not events(await caught_up(cache, topic.updates), "cache_too_old")


async def test_a_rebuild_makes_right_whatever_was_wrong_while_a_worker_writes(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await topic.publish_home([valued(each, 1, 2.5) for each in STAYING])
    async with CacheWriter(cache, topic.updates) as writer:
        writer.assigned([0, 1])
        await until_written(writer)
        await client.hset("clv:totals:tier", "gold:customers", "7")
        await client.hset("clv:totals:colour", mapping={"red:customers": "7"})
        await client.sadd("clv:segment:tier:iron", "c1", "nobody")
        await client.srem("clv:segment:tier:gold", "c2", "c3")
        await client.zadd("clv:ranking", {"nobody": 5.0, "c4": -8.0})
        await client.zrem("clv:ranking", "c5")
        await client.hset("clv:customer:c6", "clv", "1000000")
        await client.hset("clv:customer:c7", "segments", '{"tier": "lead"}')
        await client.hset("clv:customer:c8", "update", "{}")
        await client.hdel("clv:customer:c9", "clv")
        await client.delete("clv:customer:c10", "clv:customer:c11")
        await client.set("clv:customer:c11", "somebody's hand")
        await client.hset("clv:customer:c12", "segments", "no JSON")
        await client.hset(
            "clv:customer:ghost",
            mapping={"position": "0", "clv": "3.0", "segments": '{"tier": "gold"}', "update": "{}"},
        )
        done = await rebuild(cache, topic.updates, [0, 1])
        assert done.deleted == 3
        await topic.publish_and_write(writer, [valued("c1", 2, 4.0, "silver")], home("c1"))
        await until_written(writer)
        await topic.assert_cached(cache, client)
        assert not await client.keys("clv:repair:*")


async def test_readers_see_the_old_totals_until_the_new_ones_are_there(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await topic.publish_home([valued(each, 1, 2.5) for each in STAYING])
    await caught_up(cache, topic.updates)
    right = await cache.totals("tier")
    seen, repairing = [], True

    async def watch() -> None:
        while repairing:
            seen.append(await cache.totals("tier"))

    watching = asyncio.create_task(watch())
    for _ in range(5):
        await cache.repair(await cache.facts())
    repairing = False
    await watching
    assert seen
    assert all(each == right for each in seen)
    await topic.assert_cached(cache, client)
