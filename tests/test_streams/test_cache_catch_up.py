"""Nothing published is missing from Redis in the end, whatever becomes of Redis and of writers."""

import asyncio
import json
import os
import random
import signal
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import redis.asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from redis.exceptions import RedisError
from structlog.testing import capture_logs

import streams.cache.behind as behind_module
import streams.cache.writer as writer_module
from streams.cache import (
    AnotherLog,
    CachedScore,
    CacheWriter,
    KafkaUpdates,
    Removal,
    ScoreCache,
    connect,
    rebuild,
)
from streams.cache.arguments import Call, MarkMove
from streams.cache.score import Item
from streams.cache.updates import Fetched
from streams.embedded import EmbeddedBroker
from tests.test_streams.cache_support import Server, assert_consistent, until_written

PARTITIONS = 2


NOWHERE = -1


def score(
    customer_id: str,
    version: int,
    clv: float = 1.0,
    tier: str = "gold",
    position: int = NOWHERE,
) -> CachedScore:
    """A score with the update it is published in; `publish` gives it its position."""
    data = {"customer_id": customer_id, "version": version, "clv": clv, "segments": {"tier": tier}}
    update = json.dumps({"specversion": "1.0", "data": {**data, "more": [1, "ñ"]}}).encode()
    return CachedScore(customer_id, position, clv, (("tier", tier),), update)


def removal(customer_id: str) -> Removal:
    return Removal(customer_id, NOWHERE)


def end_of(items: Sequence[Item]) -> int:
    return items[-1].position + 1


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

    async def publish(self, items: Iterable[Item], partition: int = 0) -> list[Item]:
        """Publish; returns the items with their positions."""
        items = list(items)
        deliveries = []
        for item in items:
            value = item.update if isinstance(item, CachedScore) else None
            key = item.customer_id.encode()
            deliveries.append(await self.producer.send(self.name, value, key, partition))
        placed = [
            item._replace(position=(await delivery).offset)
            for item, delivery in zip(items, deliveries, strict=True)
        ]
        for item in placed:
            if isinstance(item, CachedScore):
                self.expected[item.customer_id] = item
            else:
                self.expected.pop(item.customer_id, None)
        return placed

    async def publish_and_write(
        self, writer: CacheWriter, items: Iterable[Item], partition: int = 0
    ) -> int:
        """As the stream does; returns the offset after the last."""
        placed = await self.publish(items, partition)
        writer.submit(
            partition,
            end_of(placed),
            [item for item in placed if isinstance(item, CachedScore)],
            [item for item in placed if isinstance(item, Removal)],
        )
        await writer.flush()
        return end_of(placed)

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
            Call([score("c1", 1, position=0)], mark=MarkMove(0, "", "1")),
            Call([score("bad", 1, position=1)], mark=MarkMove(0, "1", "2")),
            Call([score("c3", 1, position=2)], mark=MarkMove(0, "2", "3")),
        ]
    )
    assert isinstance(replies[1], RedisError)
    assert replies[2] == (1, 0, "1")
    assert await cache.marks([0, 1]) == ["1", ""]
    assert await cache.get("c3") == score("c3", 1, position=2)


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
        await topic.publish_and_write(writer, [removal("c7"), removal("c60")])
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
        end = await topic.publish_and_write(writer, [removal("c1"), score("c2", 5)])
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
                score(each, chance.randrange(9), chance.uniform(-9, 99)) for each in some
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
        items = [score(f"c{i}", 1, 7.0) for i in range(100)]
        end = await former.publish_and_write(writer, [*items, score("long gone", 1)])
    with capture_logs() as logged:
        async with CacheWriter(cache, topic.updates) as writer:
            writer.assigned([0])
            await topic.publish_and_write(writer, [score(f"c{i}", 1, 8.0) for i in range(10)])
            await asyncio.sleep(1)
            assert list(writer.catching_up) == [0]
            assert await cache.marks([0]) == [str(end)]
            assert await cache.get("c1") == former.expected["c1"]
            for lost in (score("c1", 2, 9.0), score("c11", 1, 8.0)):
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
        await topic.publish_and_write(killed, [score("c1", 5, 5.0), score("c2", 5, 5.0)])
    await topic.publish([score("c2", 4, 4.0)])
    async with CacheWriter(cache, topic.updates) as following:
        following.assigned([0])
        await until_written(following)
        await topic.publish_and_write(following, [score("c1", 3, 3.0)])
        assert [customer.clv for customer in await cache.top(2)] == [4.0, 3.0]
    await topic.assert_cached(cache, client)


async def test_what_was_published_nobody_knows_where_is_read_again(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    async with CacheWriter(cache, topic.updates) as writer:
        writer.assigned([0])
        await until_written(writer)
        await topic.publish_and_write(writer, [score("c1", 1), score("c2", 1)])
        await topic.publish([score("c1", 2), removal("c2")])
        writer.unsure(0)
        end = await topic.publish_and_write(writer, [score("c3", 1)])
        await until_written(writer)
        assert await cache.marks([0]) == [str(end)]
        await topic.assert_cached(cache, client)


async def test_a_catch_up_that_has_seen_the_end_looks_again_for_what_nobody_knows_where(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    class Updates:
        """The topic, where something is published just after the first look at its end."""

        @asynccontextmanager
        async def open(self) -> AsyncIterator[Any]:
            async with topic.updates.open() as self.cursor:
                yield self

        async def seek(self, partition: int, offset: int | None) -> None:
            await self.cursor.seek(partition, offset)

        async def read(self) -> Fetched:
            fetched = await self.cursor.read()
            if fetched.end is not None and "c2" not in topic.expected:
                await topic.publish([score("c2", 1)])
                writer.unsure(0)
            return fetched

    await topic.publish([score("c1", 1)])
    async with CacheWriter(cache, Updates()) as writer:
        writer.assigned([0])
        await until_written(writer)
        assert await cache.marks([0]) == ["2"]
        await topic.assert_cached(cache, client)


async def test_records_that_the_catch_up_was_not_shown_are_missed_and_read(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    class Updates:
        """The topic as a leader shows it that has just been elected: its end lags behind."""

        lags = True

        @asynccontextmanager
        async def open(self) -> AsyncIterator[Any]:
            async with topic.updates.open() as self.cursor:
                yield self

        async def seek(self, partition: int, offset: int | None) -> None:
            await self.cursor.seek(partition, offset)

        async def read(self) -> Fetched:
            fetched = await self.cursor.read()
            if not self.lags or fetched.end is None:
                return fetched
            shown = [item for item in fetched.items if item.position < 1]
            return Fetched(shown, min(fetched.position, 1), 1)

    updates = Updates()
    await topic.publish([score("c1", 1)])
    await topic.publish([score("c2", 1)])
    async with CacheWriter(cache, updates) as writer:
        writer.assigned([0])
        await until_mark(cache, 1)
        updates.lags = False
        [placed] = await topic.publish([score("c3", 1)])
        end = end_of([placed])
        writer.submit(0, end, [placed], start=placed.position)
        await writer.flush()
        await until_mark(cache, end)
    await topic.assert_cached(cache, client)


async def test_what_is_no_update_is_skipped_and_the_rest_is_read(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await topic.publish([score("c1", 1)])
    for key, value in ((b"c1", b"{}"), (b"c1", b"\xff"), (None, None), (b"\xff", None)):
        batch = topic.producer.create_batch()
        batch.append(key=key, value=value, timestamp=None)
        await (await topic.producer.send_batch(batch, topic.name, partition=0))
    end = end_of(await topic.publish([score("c2", 1)]))
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
        assert await cache.get("c2") == topic.expected["c2"]
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
