"""What Redis lacks is read from the topic, whatever is in it and however it is shown."""

import asyncio
from typing import Any

import pytest
import redis.asyncio
from aiokafka.consumer.fetcher import Fetcher
from structlog.testing import capture_logs

import streams.cache.behind as behind_module
from streams.cache import KafkaUpdates, ScoreCache, rebuild
from streams.cache.rereading import AnotherLog
from streams.cache.updates import Fetched
from streams.cache.writer import CacheWriter
from streams.kafka.connection import Broker
from tests.test_streams.cache.support import until_written
from tests.test_streams.cache.topic import AsShown, Topic, end_of, removal, until_mark, valued


async def test_a_busy_stream_does_not_keep_a_catch_up_from_its_end(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await topic.publish([valued(f"old{i}", 1) for i in range(3000)])
    async with CacheWriter(cache, topic.updates) as writer:
        writer.assigned([0])
        batches = 0
        async with asyncio.timeout(120):
            while writer.catching_up:
                batches += 1
                await topic.publish_and_write(
                    writer, [valued(f"new{batches % 5}-{i}", batches) for i in range(20)]
                )
        assert batches > 1
        end = await topic.publish_and_write(writer, [valued("new", 1)])
        assert await cache.marks([0]) == [str(end)]
    await topic.assert_cached(cache, client)


async def test_who_lost_a_partition_still_writes_but_leaves_the_mark_alone(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    async with CacheWriter(cache, topic.updates) as writer:
        writer.assigned([0, 1])
        await until_written(writer)
        end = await topic.publish_and_write(writer, [valued("c1", 1)])
        writer.assigned([1])
        await topic.publish_and_write(writer, [valued("c2", 1)])
        assert await cache.get("c2") == topic.expected["c2"]
        assert await cache.marks([0]) == [str(end)]
        writer.assigned([0, 1])
        await until_written(writer)
        assert await cache.marks([0]) == [str(end + 1)]
        await topic.assert_cached(cache, client)


async def test_the_cache_of_another_topic_is_left_alone_with_an_error_until_it_is_cleared(
    broker: str,
    topic: Topic,
    cache: ScoreCache,
    client: redis.asyncio.Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(behind_module, "FIRST_DELAY_SECONDS", 0.01)
    monkeypatch.setattr(behind_module, "LONGEST_DELAY_SECONDS", 0.05)
    async with Topic(broker) as former, CacheWriter(cache, former.updates) as writer:
        writer.assigned([0])
        await until_written(writer)
        items = [valued(f"c{i}", 1, 7.0) for i in range(100)]
        end = await former.publish_and_write(writer, [*items, valued("long gone", 1)])
    with capture_logs() as logged:
        async with CacheWriter(cache, topic.updates) as writer:
            writer.assigned([0])
            await topic.publish_and_write(writer, [valued(f"c{i}", 1, 8.0) for i in range(10)])
            await asyncio.sleep(1)
            assert list(writer.catching_up) == [0]
            assert await cache.marks([0]) == [str(end)]
            assert await cache.get("c1") == former.expected["c1"]
            for lost in (valued("c1", 2, 9.0), valued("c11", 1, 8.0)):
                end = await topic.publish_and_write(writer, [lost])
            with pytest.raises(AnotherLog, match="clv rebuild-cache --clear"):
                await rebuild(cache, topic.updates, [0])
            await cache.clear()
            await until_written(writer)
            assert await cache.marks([0]) == [str(end)]
    await topic.assert_cached(cache, client)
    [error] = [entry for entry in logged if entry["log_level"] == "error"]
    assert "partition 0" in error["error"]
    assert "clv rebuild-cache --clear" in error["error"]


async def test_a_lower_version_that_is_published_last_is_what_redis_holds(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    async with CacheWriter(cache, topic.updates) as killed:
        killed.assigned([0])
        await until_written(killed)
        await topic.publish_and_write(killed, [valued("c1", 5, 5.0), valued("c2", 5, 5.0)])
    await topic.publish([valued("c2", 4, 4.0)])
    async with CacheWriter(cache, topic.updates) as following:
        following.assigned([0])
        await until_written(following)
        await topic.publish_and_write(following, [valued("c1", 3, 3.0)])
        assert [customer.clv for customer in await cache.top(2)] == [4.0, 3.0]
    await topic.assert_cached(cache, client)


async def test_what_was_published_nobody_knows_where_is_read_again(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    async with CacheWriter(cache, topic.updates) as writer:
        writer.assigned([0])
        await until_written(writer)
        await topic.publish_and_write(writer, [valued("c1", 1), valued("c2", 1)])
        await topic.publish([valued("c1", 2), removal("c2")])
        writer.unsure(0)
        end = await topic.publish_and_write(writer, [valued("c3", 1)])
        await until_written(writer)
        assert await cache.marks([0]) == [str(end)]
        await topic.assert_cached(cache, client)


async def test_a_catch_up_that_has_seen_the_end_looks_again_for_what_nobody_knows_where(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    async def publish_after_the_first_look_at_the_end(fetched: Fetched) -> Fetched:
        if fetched.end is not None and "c2" not in topic.expected:
            await topic.publish([valued("c2", 1)])
            writer.unsure(0)
        return fetched

    updates = AsShown(topic.updates, publish_after_the_first_look_at_the_end)
    await topic.publish([valued("c1", 1)])
    async with CacheWriter(cache, updates) as writer:
        writer.assigned([0])
        await until_written(writer)
        assert await cache.marks([0]) == ["2"]
        await topic.assert_cached(cache, client)


async def test_records_that_the_catch_up_was_not_shown_are_missed_and_read(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    lags = True

    async def as_a_leader_that_has_just_been_elected(fetched: Fetched) -> Fetched:
        if not lags or fetched.end is None:
            return fetched
        shown = [item for item in fetched.items if item.position < 1]
        return Fetched(shown, min(fetched.position, 1), 1)

    updates = AsShown(topic.updates, as_a_leader_that_has_just_been_elected)
    await topic.publish([valued("c1", 1)])
    await topic.publish([valued("c2", 1)])
    async with CacheWriter(cache, updates) as writer:
        writer.assigned([0])
        await until_mark(cache, 1)
        lags = False
        [placed] = await topic.publish([valued("c3", 1)])
        end = end_of([placed])
        writer.submit(0, end, [placed], start=placed.position)
        await writer.flush()
        await until_mark(cache, end)
    await topic.assert_cached(cache, client)


async def test_what_is_no_update_is_skipped_and_the_rest_is_read(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await topic.publish([valued("c1", 1)])
    for key, value in ((b"c1", b"{}"), (b"c1", b"\xff"), (None, None), (b"\xff", None)):
        batch = topic.producer.create_batch()
        batch.append(key=key, value=value, timestamp=None)
        await (await topic.producer.send_batch(batch, topic.name, partition=0))
    end = end_of(await topic.publish([valued("c2", 1)]))
    async with CacheWriter(cache, topic.updates) as writer:
        writer.assigned([0])
        await until_mark(cache, end)
    await topic.assert_cached(cache, client)


async def test_updates_that_cannot_be_read_yet_are_tried_again_and_stop_nothing(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await topic.publish([valued("c1", 1)])
    nobody = KafkaUpdates(Broker("127.0.0.1:1"), topic.name)
    openings: Any = iter([nobody, topic.updates])

    class Updates:
        def open(self):
            return next(openings).open()

    async with CacheWriter(cache, Updates()) as writer:
        writer.assigned([0])
        await topic.publish_and_write(writer, [valued("c2", 1)])
        assert await cache.get("c2") == topic.expected["c2"]
        assert await cache.marks([0]) == [""]
        await until_mark(cache, 2)
    await topic.assert_cached(cache, client)


async def test_a_stop_while_the_catch_up_closes_its_consumer_ends_it(
    topic: Topic, cache: ScoreCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    closing = asyncio.Event()
    close = Fetcher.close

    async def told(fetcher: Fetcher) -> None:
        closing.set()
        await close(fetcher)

    monkeypatch.setattr(Fetcher, "close", told)
    await topic.publish([valued("c1", 1)])
    async with asyncio.timeout(120), CacheWriter(cache, topic.updates) as writer:
        writer.assigned([0])
        await closing.wait()
    assert await cache.get("c1") == topic.expected["c1"]
