"""A Redis that evicts keys is refused at the start, noticed later, and repaired afterwards."""

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import pytest
import redis.asyncio
from structlog.testing import capture_logs

import streams.cache.writer as writer_module
from streams.cache import RedisUnusable, ScoreCache, check_server
from streams.cache.server import facts_of
from streams.cache.writer import CacheWriter
from tests.servers.scores import put
from tests.test_streams.cache.support import Server, until_written
from tests.test_streams.cache.topic import Topic, removal, valued

EVICTING = [
    "allkeys-lru", "allkeys-lfu", "allkeys-random",
    "volatile-lru", "volatile-lfu", "volatile-random", "volatile-ttl",
]  # fmt: skip
CUSTOMERS = [f"c{i}" for i in range(1500)]


@pytest.fixture(autouse=True)
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer_module, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(writer_module, "CHECK_SECONDS", 0.1)


@pytest.fixture
async def writer(topic: Topic, cache: ScoreCache) -> AsyncIterator[CacheWriter]:
    async with CacheWriter(cache, topic.updates) as writer:
        writer.assigned([0, 1])
        await topic.publish_home([valued(each, 1, 2.5) for each in CUSTOMERS])
        await until_written(writer)
        yield writer


async def until_told(writer: CacheWriter, what: str) -> None:
    """Until the problem that it tells says this."""
    async with asyncio.timeout(120):
        while what not in (writer.problem or ""):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def until_well(writer: CacheWriter) -> None:
    async with asyncio.timeout(120):
        while writer.problem is not None:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def evict(client: redis.asyncio.Redis, policy: str) -> None:
    """Let it evict some keys."""
    await client.config_set("maxmemory-policy", policy)
    used = (await client.info("memory"))["used_memory"]
    await client.config_set("maxmemory", int(used * 0.9))
    async with asyncio.timeout(120):
        while not (await client.info("stats"))["evicted_keys"]:
            await client.ping()
    await client.config_set("maxmemory", 0)


@pytest.mark.parametrize("policy", EVICTING)
async def test_a_redis_that_evicts_is_refused_with_what_to_set(
    server: Server, client: redis.asyncio.Redis, policy: str
) -> None:
    await check_server(ScoreCache(client, owner="clv"), server.url)
    await client.config_set("maxmemory-policy", policy)
    with pytest.raises(RedisUnusable, match=f"{policy}.*maxmemory-policy noeviction"):
        await check_server(ScoreCache(client, owner="clv"), server.url)


async def test_a_server_that_does_not_tell_its_policy_is_used_with_a_warning(
    server: Server, client: redis.asyncio.Redis
) -> None:
    await client.execute_command("ACL", "SETUSER", "default", "-info")
    with capture_logs() as logged:
        await check_server(ScoreCache(client, owner="clv"), server.url)
    assert [entry["event"] for entry in logged] == ["cache_policy_unknown"]


async def test_a_redis_that_is_away_is_no_reason_to_refuse_it(
    server: Server, client: redis.asyncio.Redis
) -> None:
    url = server.url
    await server.kill()
    await check_server(ScoreCache(client, owner="clv"), url)


async def test_a_policy_that_is_changed_under_a_running_worker_is_told_and_may_be_corrected(
    writer: CacheWriter, client: redis.asyncio.Redis
) -> None:
    with capture_logs() as logged:
        await client.config_set("maxmemory-policy", "allkeys-lru")
        await until_told(writer, "allkeys-lru")
        assert "maxmemory-policy noeviction" in str(writer.problem)
        await client.config_set("maxmemory-policy", "noeviction")
        await until_well(writer)
    assert [e["log_level"] for e in logged if e["event"] == "cache_evicts"] == ["error"]
    assert not [e for e in logged if e["event"] == "cache_repaired"]


@pytest.mark.parametrize("policy", ["allkeys-random", "allkeys-lru"])
async def test_what_was_evicted_is_back_with_exact_totals_once_the_policy_is_right(
    writer: CacheWriter, topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis, policy: str
) -> None:
    await evict(client, policy)
    await until_told(writer, "keys evicted since its start")
    await topic.publish_home([valued(each, 2, 3.5, "silver") for each in CUSTOMERS[:100]])
    writer.unsure(0)
    writer.unsure(1)
    await until_written(writer)
    assert writer.problem is not None
    await client.config_set("maxmemory-policy", "noeviction")
    await until_well(writer)
    await until_refilled(writer, client)
    await topic.assert_cached(cache, client)


async def test_what_was_evicted_while_no_worker_ran_is_noticed_by_the_next(
    topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await topic.publish_home([valued(each, 1, 2.5) for each in CUSTOMERS])
    for _ in range(2):
        with capture_logs() as logged:
            async with CacheWriter(cache, topic.updates) as writer:
                writer.assigned([0, 1])
                await until_refilled(writer, client)
        assert not [e for e in logged if e["event"] == "cache_evicts"]
    await evict(client, "allkeys-random")
    await client.config_set("maxmemory-policy", "noeviction")
    with capture_logs() as logged:
        async with CacheWriter(cache, topic.updates) as writer:
            writer.assigned([0, 1])
            await until_repaired(logged)
            await until_refilled(writer, client)
    await topic.assert_cached(cache, client)


@pytest.mark.parametrize("lost", [["clv:ranking", "clv:marks"], ["clv:whole", "clv:times"]])
async def test_whatever_is_evicted_beside_customers_the_cache_is_repaired(
    writer: CacheWriter,
    topic: Topic,
    cache: ScoreCache,
    client: redis.asyncio.Redis,
    lost: list[str],
) -> None:
    await writer.stop()
    await evict(client, "allkeys-random")
    await client.delete(*lost)
    await client.config_set("maxmemory-policy", "noeviction")
    with capture_logs() as logged:
        async with CacheWriter(cache, topic.updates) as following:
            following.assigned([0, 1])
            await until_repaired(logged)
            await until_refilled(following, client)
    await topic.assert_cached(cache, client)


async def test_notes_that_were_evicted_let_nobody_back_in_for_good(
    writer: CacheWriter, topic: Topic, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    gone = [f"gone{i}" for i in range(50)]
    old = await topic.publish([valued(each, 1) for each in gone])
    await topic.publish([removal(each) for each in gone])
    writer.unsure(0)
    await until_written(writer)
    await evict(client, "volatile-random")
    await until_told(writer, "keys evicted since its start")
    assert "erased customers" in str(writer.problem)
    # By a writer that was held up for long.
    await client.delete("clv:forgotten")
    assert await put(cache, old) > 0
    await client.config_set("maxmemory-policy", "noeviction")
    await until_well(writer)
    await until_refilled(writer, client)
    await topic.assert_cached(cache, client)


def test_evictions_are_told_by_the_count_of_the_same_start() -> None:
    def facts(evicted: int, run: str = "a"):
        return facts_of({"evicted_keys": evicted, "run_id": run, "maxmemory_policy": "noeviction"})

    assert not facts(0).evicted_since(None)
    assert not facts(0, "b").evicted_since(facts(5, "a").stamp)
    assert not facts(5).evicted_since(facts(5).stamp)
    assert facts(6).evicted_since(facts(5).stamp)
    assert facts(1).evicted_since(None)
    assert facts(5, "b").evicted_since(facts(5, "a").stamp)


async def until_repaired(logged: Sequence[Mapping[str, Any]]) -> None:
    async with asyncio.timeout(120):
        while not [e for e in logged if e["event"] == "cache_repaired"]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def until_refilled(writer: CacheWriter, client: redis.asyncio.Redis) -> None:
    """Until it has read again what the repair took the marks of."""
    async with asyncio.timeout(120):
        while not all(await client.hmget("clv:times", "0", "1")):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
    await until_written(writer)
