"""Nothing published is missing from Redis in the end, whatever becomes of Redis and of writers."""

import asyncio
import os
import random
import signal

import pytest
import redis.asyncio
from redis.exceptions import RedisError

import streams.cache.writer as writer_module
from streams.cache import ScoreCache, connect
from streams.cache.arguments import Call, MarkMove
from streams.cache.score import Item
from streams.cache.writer import CacheWriter
from tests.test_streams.cache.support import (
    IMPATIENT,
    PATIENCE,
    Server,
    assert_consistent,
    until_written,
)
from tests.test_streams.cache.topic import Topic, end_of, removal, until_mark, valued


async def kill(writer: CacheWriter) -> None:
    """End a writer as a killed process does: nothing more is written."""
    tasks, writer._tasks = writer._tasks, []
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def test_the_mark_moves_with_what_is_written_and_not_without(
    cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await client.set("clv:customer:bad", "not a hash")
    replies = await cache.write(
        [
            Call([valued("c1", 1, position=0)], mark=MarkMove(0, "", "1")),
            Call([valued("bad", 1, position=1)], mark=MarkMove(0, "1", "2")),
            Call([valued("c3", 1, position=2)], mark=MarkMove(0, "2", "3")),
        ]
    )
    assert isinstance(replies[1], RedisError)
    assert replies[2] == (1, 0, "1")
    assert await cache.marks([0, 1]) == ["1", ""]
    assert await cache.get("c3") == valued("c3", 1, position=2)


async def test_a_writer_killed_in_an_outage_is_made_up_for_by_the_next(
    topic: Topic, server: Server, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    killed = CacheWriter(cache, topic.updates)
    await killed.start()
    killed.assigned([0, 1])
    await until_written(killed)
    for partition in (0, 1):
        ids = [f"p{partition}-{i}" for i in range(300)]
        await topic.publish_and_write(killed, [valued(each, 1) for each in ids], partition)
    port = await server.kill()
    end = await topic.publish_and_write(killed, [valued(f"p0-{i}", 2, 5.0) for i in range(100)])
    end = await topic.publish_and_write(killed, [removal("p0-0"), removal("p0-200")])
    assert (killed.healthy, killed.pending) == (False, 101)
    await kill(killed)
    await server.restart(port)
    async with CacheWriter(cache, topic.updates) as following:
        following.assigned([0, 1])
        assert list(following.catching_up) == [0, 1]
        await until_written(following)
    await topic.assert_cached(cache, client)
    assert await cache.marks([0, 1]) == [str(end), "300"]


async def test_a_redis_that_comes_back_empty_while_nothing_happens_is_filled_again(
    topic: Topic, server: Server, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    async with CacheWriter(cache, topic.updates) as writer:
        writer.assigned([0, 1])
        await until_written(writer)
        end = await topic.publish_and_write(writer, [valued(f"c{i}", 1, i) for i in range(1000)])
        port = await server.kill()
        await server.restart(port)
        assert await client.dbsize() == 0
        async with asyncio.timeout(PATIENCE):
            while await cache.size() < 1000:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        await until_mark(cache, end)
        await topic.assert_cached(cache, client)


async def test_a_redis_that_comes_back_from_an_older_copy_is_brought_up_from_its_mark(
    topic: Topic, server: Server, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    async with CacheWriter(cache, topic.updates) as writer:
        writer.assigned([0])
        await until_written(writer)
        await topic.publish_and_write(writer, [valued(f"c{i}", 1, i) for i in range(100)])
        await client.save()
        await topic.publish_and_write(writer, [valued(f"c{i}", 2, i + 1) for i in range(50, 150)])
        await topic.publish_and_write(writer, [removal("c7"), removal("c60")])
        port = await server.kill()
        await server.restart(port)
        assert await cache.marks([0]) == ["100"]
        # The next write must not carry the mark over what is missing.
        end = await topic.publish_and_write(writer, [valued("c7", 4), valued("new", 1)])
        await until_mark(cache, end)
        await until_written(writer)
        await topic.assert_cached(cache, client)


async def test_more_than_may_wait_is_dropped_and_caught_up_when_a_full_redis_has_room(
    topic: Topic,
    cache: ScoreCache,
    client: redis.asyncio.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(writer_module, "MOST_WAITING", 150)
    async with CacheWriter(cache, topic.updates) as writer:
        writer.assigned([0, 1])
        await until_written(writer)
        await topic.publish_and_write(writer, [valued(f"c{i}", 1) for i in range(100)])
        await client.config_set("maxmemory", "1")
        for version in range(2, 6):
            items = [valued(f"c{version}-{i}", version) for i in range(60)]
            await topic.publish_and_write(writer, items)
        assert not writer.healthy
        assert writer.pending <= 150
        assert 0 in writer.catching_up
        await assert_consistent(client)
        await client.config_set("maxmemory", "0")
        await until_written(writer)
        await topic.assert_cached(cache, client)
        end = await topic.publish_and_write(writer, [valued("c0", 9)])
        assert await cache.marks([0]) == [str(end)]


@IMPATIENT
async def test_a_frozen_redis_holds_nobody_and_its_late_writes_do_no_harm(
    topic: Topic, server: Server, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    async with CacheWriter(cache, topic.updates) as writer:
        writer.assigned([0])
        await until_written(writer)
        await topic.publish_and_write(writer, [valued(f"c{i}", 1) for i in range(600)])
        os.kill(server.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(PATIENCE):
                for version in (2, 3, 4):
                    items = [valued(f"c{i}", version, version) for i in range(600)]
                    await topic.publish_and_write(writer, items)
            assert not writer.healthy
        finally:
            os.kill(server.pid, signal.SIGCONT)
        end = await topic.publish_and_write(writer, [removal("c1"), valued("c2", 5)])
        await until_written(writer)
        await until_mark(cache, end)
        await topic.assert_cached(cache, client)


async def test_two_writers_of_one_partition_lose_nothing_and_no_customer_ever_goes_back(
    topic: Topic, server: Server, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    ids = [f"c{i}" for i in range(40)]
    chance = random.Random(7)
    seen: dict[str, int] = dict.fromkeys(ids, 0)
    working = True

    async def watch() -> int:
        looks = 0
        while working:
            for customer_id in ids:
                held = await client.hget(f"clv:customer:{customer_id}", "position")
                if held is not None:
                    assert int(held) >= seen[customer_id]
                    seen[customer_id] = int(held)
            looks += 1
        return looks

    other_client = connect(server.url)
    async with (
        CacheWriter(cache, topic.updates) as one,
        CacheWriter(ScoreCache(other_client), topic.updates) as two,
    ):
        one.assigned([0])
        two.assigned([0])
        watching = asyncio.create_task(watch())
        history: dict[str, list[Item]] = {each: [] for each in ids}
        for _ in range(60):
            some = chance.sample(ids, 15)
            # Versions fall as often as they rise: only the order in the log counts.
            items = await topic.publish(
                valued(each, chance.randrange(9), chance.uniform(-9, 99)) for each in some
            )
            for item in items:
                history[item.customer_id].append(item)
            end = end_of(items)
            old = [history[each][-3] for each in some if len(history[each]) > 2]
            first, second = chance.sample([one, two], 2)
            first.submit(0, None, old)
            # A batch is told to one of them only: the other must find it by itself.
            second.submit(0, end, items)
            await asyncio.gather(one.flush(), two.flush())
        await asyncio.sleep(0)
        await until_written(one)
        await until_written(two)
        working = False
        assert await watching > 5
    # Whoever looks last finds the other's mark, and reads what lies between.
    async with CacheWriter(cache, topic.updates) as last:
        last.assigned([0])
        await until_written(last)
    await other_client.aclose()
    await until_mark(cache, end)
    await topic.assert_cached(cache, client)


async def test_a_cleared_cache_is_filled_again_by_running_writers(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    async with CacheWriter(cache, topic.updates) as writer:
        writer.assigned([0])
        await until_written(writer)
        end = await topic.publish_and_write(writer, [valued(f"c{i}", 1) for i in range(500)])
        await cache.clear()
        assert await client.dbsize() == 0
        await until_mark(cache, end)
        await topic.assert_cached(cache, client)
