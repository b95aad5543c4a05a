"""Nothing published is missing from Redis in the end, whatever becomes of Redis and of writers."""

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis.asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from redis.exceptions import RedisError

import streams.cache.writer as writer_module
from streams.cache import CachedScore, CacheWriter, KafkaUpdates, Removal, ScoreCache, connect
from streams.cache.arguments import Call, MarkMove
from streams.cache.score import Item
from streams.embedded import EmbeddedBroker
from tests.test_streams.cache_support import Server, assert_consistent, until_written

PARTITIONS = 2


def score(customer_id: str, version: int, clv: float = 1.0, tier: str = "gold") -> CachedScore:
    """A score with the update it is published in."""
    data = {"customer_id": customer_id, "version": version, "clv": clv, "segments": {"tier": tier}}
    update = json.dumps({"specversion": "1.0", "data": {**data, "more": [1, "ñ"]}}).encode()
    return CachedScore(customer_id, version, clv, (("tier", tier),), update)


class Topic:
    """The updates at a real broker, and what must be in Redis of them."""

    def __init__(self, broker: str) -> None:
        self.broker = broker
        self.name = f"updates-{uuid4().hex}"
        self.expected: dict[str, CachedScore] = {}

    async def __aenter__(self) -> "Topic":
        admin = AIOKafkaAdminClient(bootstrap_servers=self.broker)
        await admin.start()
        await admin.create_topics([NewTopic(self.name, PARTITIONS, 1)])
        await admin.close()
        self.producer = AIOKafkaProducer(bootstrap_servers=self.broker)
        await self.producer.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.producer.stop()

    @property
    def updates(self) -> KafkaUpdates:
        return KafkaUpdates(self.name, bootstrap_servers=self.broker)

    async def publish(self, items: Iterable[Item], partition: int = 0) -> int:
        """Publish; returns the offset after the last."""
        deliveries = []
        for item in items:
            value: bytes | None = None
            headers: list[tuple[str, bytes]] = []
            if isinstance(item, CachedScore):
                value = item.update
                self.expected[item.customer_id] = item
            else:
                headers = [("clv-version", str(item.version).encode())]
                self.expected.pop(item.customer_id, None)
            key = item.customer_id.encode()
            deliveries.append(
                await self.producer.send(self.name, value, key, partition, headers=headers)
            )
        return (await deliveries[-1]).offset + 1

    async def publish_and_write(
        self, writer: CacheWriter, items: Iterable[Item], partition: int = 0
    ) -> int:
        """As the stream does."""
        items = list(items)
        end = await self.publish(items, partition)
        writer.submit(
            partition,
            end,
            [item for item in items if isinstance(item, CachedScore)],
            [item for item in items if isinstance(item, Removal)],
        )
        await writer.flush()
        return end

    async def assert_cached(self, cache: ScoreCache, client: redis.asyncio.Redis) -> None:
        assert await cache.size() == len(self.expected)
        for customer_id, expected in self.expected.items():
            assert await cache.get(customer_id) == expected
        await assert_consistent(client)


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    server = EmbeddedBroker()
    asyncio.run(server.start())
    yield server.address
    asyncio.run(server.stop())


@pytest.fixture
async def topic(broker: str) -> AsyncIterator[Topic]:
    async with Topic(broker) as topic:
        yield topic


@pytest.fixture
async def server(tmp_path: Path) -> AsyncIterator[Server]:
    async with Server(tmp_path) as running:
        yield running


@pytest.fixture
async def client(server: Server) -> AsyncIterator[redis.asyncio.Redis]:
    client = connect(server.url, timeout_seconds=0.5)
    yield client
    await client.aclose()


@pytest.fixture
def cache(client: redis.asyncio.Redis) -> ScoreCache:
    return ScoreCache(client)


async def kill(writer: CacheWriter) -> None:
    """End a writer as a killed process does: nothing more is written."""
    tasks, writer._tasks = writer._tasks, []
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def until_mark(cache: ScoreCache, end: int, partition: int = 0) -> None:
    async with asyncio.timeout(15):
        while await cache.marks([partition]) != [str(end)]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_the_mark_moves_with_what_is_written_and_not_without(
    cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await client.set("clv:customer:bad", "not a hash")
    replies = await cache.write(
        [
            Call([score("c1", 1)], mark=MarkMove(0, "", "1")),
            Call([score("bad", 1)], mark=MarkMove(0, "1", "2")),
            Call([score("c3", 1)], mark=MarkMove(0, "2", "3")),
        ]
    )
    assert isinstance(replies[1], RedisError)
    assert replies[2] == (1, 0, "1")
    assert await cache.marks([0, 1]) == ["1", ""]
    assert await cache.get("c3") == score("c3", 1)


async def test_a_writer_killed_in_an_outage_is_made_up_for_by_the_next(
    topic: Topic, server: Server, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    killed = CacheWriter(cache, topic.updates)
    await killed.start()
    killed.assigned([0, 1])
    await until_written(killed)
    for partition in (0, 1):
        ids = [f"p{partition}-{i}" for i in range(300)]
        await topic.publish_and_write(killed, [score(each, 1) for each in ids], partition)
    port = await server.kill()
    end = await topic.publish_and_write(killed, [score(f"p0-{i}", 2, 5.0) for i in range(100)])
    end = await topic.publish_and_write(killed, [Removal("p0-0", 3), Removal("p0-200", 2)])
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
        end = await topic.publish_and_write(writer, [score(f"c{i}", 1, i) for i in range(1000)])
        port = await server.kill()
        await server.restart(port)
        assert await client.dbsize() == 0
        async with asyncio.timeout(6):
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
        await topic.publish_and_write(writer, [score(f"c{i}", 1, i) for i in range(100)])
        await client.save()
        await topic.publish_and_write(writer, [score(f"c{i}", 2, i + 1) for i in range(50, 150)])
        await topic.publish_and_write(writer, [Removal("c7", 2), Removal("c60", 3)])
        port = await server.kill()
        await server.restart(port)
        assert await cache.marks([0]) == ["100"]
        # The next write must not carry the mark over what is missing.
        end = await topic.publish_and_write(writer, [score("c7", 4), score("new", 1)])
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
        await topic.publish_and_write(writer, [score(f"c{i}", 1) for i in range(100)])
        await client.config_set("maxmemory", "1")
        for version in range(2, 6):
            items = [score(f"c{version}-{i}", version) for i in range(60)]
            await topic.publish_and_write(writer, items)
        assert not writer.healthy
        assert writer.pending <= 150
        assert 0 in writer.catching_up
        await assert_consistent(client)
        await client.config_set("maxmemory", "0")
        await until_written(writer)
        await topic.assert_cached(cache, client)
        end = await topic.publish_and_write(writer, [score("c0", 9)])
        assert await cache.marks([0]) == [str(end)]


async def test_a_frozen_redis_holds_nobody_and_its_late_writes_do_no_harm(
    topic: Topic, server: Server, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    async with CacheWriter(cache, topic.updates) as writer:
        writer.assigned([0])
        await until_written(writer)
        await topic.publish_and_write(writer, [score(f"c{i}", 1) for i in range(600)])
        os.kill(server.pid, signal.SIGSTOP)
        try:
            async with asyncio.timeout(4):
                for version in (2, 3, 4):
                    items = [score(f"c{i}", version, version) for i in range(600)]
                    await topic.publish_and_write(writer, items)
            assert not writer.healthy
        finally:
            os.kill(server.pid, signal.SIGCONT)
        end = await topic.publish_and_write(writer, [Removal("c1", 5), score("c2", 5)])
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
                held = await client.hget(f"clv:customer:{customer_id}", "version")
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
        versions = dict.fromkeys(ids, 0)
        for _ in range(60):
            some = chance.sample(ids, 15)
            for each in some:
                versions[each] += 1
            items = [score(each, versions[each], chance.uniform(-9, 99)) for each in some]
            end = await topic.publish(items)
            old = [score(each, max(versions[each] - 2, 0)) for each in some]
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


async def test_a_busy_stream_does_not_keep_a_catch_up_from_its_end(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await topic.publish([score(f"old{i}", 1) for i in range(3000)])
    async with CacheWriter(cache, topic.updates) as writer:
        writer.assigned([0])
        batches = 0
        async with asyncio.timeout(15):
            while writer.catching_up:
                batches += 1
                await topic.publish_and_write(
                    writer, [score(f"new{batches % 5}-{i}", batches) for i in range(20)]
                )
        assert batches > 1
        end = await topic.publish_and_write(writer, [score("new", 1)])
        assert await cache.marks([0]) == [str(end)]
    await topic.assert_cached(cache, client)


async def test_who_lost_a_partition_still_writes_but_leaves_the_mark_alone(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    async with CacheWriter(cache, topic.updates) as writer:
        writer.assigned([0, 1])
        await until_written(writer)
        end = await topic.publish_and_write(writer, [score("c1", 1)])
        writer.assigned([1])
        await topic.publish_and_write(writer, [score("c2", 1)])
        assert await cache.get("c2") == score("c2", 1)
        assert await cache.marks([0]) == [str(end)]
        writer.assigned([0, 1])
        await until_written(writer)
        assert await cache.marks([0]) == [str(end + 1)]
        await topic.assert_cached(cache, client)


async def test_a_mark_beyond_the_end_is_of_another_topic_and_everything_is_read(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    end = await topic.publish([score(f"c{i}", 1) for i in range(10)])
    await client.hset("clv:marks", "0", "5000")
    async with CacheWriter(cache, topic.updates) as writer:
        writer.assigned([0])
        await until_mark(cache, end)
    await topic.assert_cached(cache, client)


async def test_what_is_no_update_is_skipped_and_the_rest_is_read(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await topic.publish([score("c1", 1)])
    for value in (b"{}", b"\xff", None):
        await topic.producer.send_and_wait(topic.name, value, b"c1", 0)
    end = await topic.publish([score("c2", 1)])
    async with CacheWriter(cache, topic.updates) as writer:
        writer.assigned([0])
        await until_mark(cache, end)
    await topic.assert_cached(cache, client)


async def test_updates_that_cannot_be_read_yet_are_tried_again_and_stop_nothing(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await topic.publish([score("c1", 1)])
    nobody = KafkaUpdates(topic.name, bootstrap_servers="127.0.0.1:1")
    openings: Any = iter([nobody, topic.updates])

    class Updates:
        def open(self):
            return next(openings).open()

    async with CacheWriter(cache, Updates()) as writer:
        writer.assigned([0])
        await topic.publish_and_write(writer, [score("c2", 1)])
        assert await cache.get("c2") == score("c2", 1)
        assert await cache.marks([0]) == [""]
        await until_mark(cache, 2)
    await topic.assert_cached(cache, client)


async def test_a_cleared_cache_is_filled_again_by_running_writers(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    async with CacheWriter(cache, topic.updates) as writer:
        writer.assigned([0])
        await until_written(writer)
        end = await topic.publish_and_write(writer, [score(f"c{i}", 1) for i in range(500)])
        await cache.clear()
        assert await client.dbsize() == 0
        await until_mark(cache, end)
        await topic.assert_cached(cache, client)
