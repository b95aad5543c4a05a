"""What the stream's way into Redis must do while Redis is away, against a real server."""

import asyncio
import os
import signal
from collections.abc import Sequence

import pytest
import redis.asyncio
from redis.exceptions import AuthenticationError, BusyLoadingError, ResponseError

from streams.cache import CachedScore, ScoreCache, connect
from streams.cache.connection import is_outage
from streams.cache.score import Removal
from streams.cache.writer import CacheWriter
from tests.servers.scores import put
from tests.test_streams.cache.support import (
    IMPATIENT,
    PATIENCE,
    Server,
    assert_consistent,
    score,
    until_written,
)


async def flush_until_it_raises(writer: CacheWriter) -> None:
    async with asyncio.timeout(120):
        while True:
            await asyncio.sleep(0.02)
            await writer.flush()


async def submit_and_flush(writer: CacheWriter, scores: Sequence[CachedScore]) -> None:
    writer.submit(0, None, scores)
    async with asyncio.timeout(PATIENCE):
        await writer.flush()


async def test_a_redis_killed_and_restarted_empty_gets_all_that_was_pending_and_came_after(
    server: Server, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    async with CacheWriter(cache) as writer:
        await submit_and_flush(writer, [score(f"c{i}", 1, i) for i in range(3000)])
        assert (writer.healthy, writer.pending) == (True, 0)
        port = await server.kill()
        for position in range(2, 12):
            await submit_and_flush(writer, [score(f"c{i}", position, i) for i in range(2500)])
        assert (writer.healthy, writer.pending) == (False, 2500)
        await server.restart(port)
        await submit_and_flush(writer, [score(f"d{i}", 1, i) for i in range(10)])
        await until_written(writer)
        await submit_and_flush(writer, [score("c0", 12, 5.0)])
        assert writer.pending == 0
    assert await cache.size() == 2510
    assert await cache.get("c0") == score("c0", 12, 5.0)
    assert await cache.get("c2499") == score("c2499", 11, 2499)
    await assert_consistent(client)


async def test_writing_goes_on_through_a_kill_in_the_middle(
    server: Server, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    async with CacheWriter(cache) as writer:
        writer.submit(0, None, [score(f"c{i}", 1, i) for i in range(20_000)])
        flushing = asyncio.create_task(writer.flush())
        while writer.pending > 15_000:  # noqa: ASYNC110 - nor for this
            await asyncio.sleep(0)
        port = await server.kill()
        await flushing
        left = writer.pending
        assert 0 < left < 20_000
        await server.restart(port)
        await until_written(writer)
    assert await cache.size() == left
    await assert_consistent(client)


@IMPATIENT
async def test_a_redis_that_hangs_is_an_outage_and_does_not_hold_the_stream(
    server: Server, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    async with CacheWriter(cache) as writer:
        os.kill(server.pid, signal.SIGSTOP)
        try:
            await submit_and_flush(writer, [score("c1", 1)])
            assert not writer.healthy
            flushing = asyncio.create_task(writer.flush())
            await asyncio.sleep(0)
            assert flushing.done()
        finally:
            os.kill(server.pid, signal.SIGCONT)
        await until_written(writer)
    assert await cache.get("c1") == score("c1", 1)
    await assert_consistent(client)


async def test_a_full_redis_is_an_outage_and_leaves_nothing_half_written(
    cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    async with CacheWriter(cache) as writer:
        await submit_and_flush(writer, [score("c0", 1)])
        await client.config_set("maxmemory", "1")
        await submit_and_flush(writer, [score(f"c{i}", 2, i) for i in range(1000)])
        assert (writer.healthy, writer.pending) == (False, 1000)
        await assert_consistent(client)
        await client.config_set("maxmemory", "0")
        await until_written(writer)
    assert await cache.size() == 1000
    await assert_consistent(client)


async def test_what_was_published_last_is_what_is_written(cache: ScoreCache) -> None:
    async with CacheWriter(cache) as writer:
        writer.submit(0, None, [score("c1", 2, 2.0)])
        writer.submit(0, None, [score("c1", 1, 1.0), score("c1", 3, 3.0)])
        assert writer.pending == 1
        await writer.flush()
    assert await cache.get("c1") == score("c1", 3, 3.0)


async def test_a_removal_takes_out_what_is_older_and_a_newer_life_gets_in(
    cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    async with CacheWriter(cache) as writer:
        await submit_and_flush(writer, [score("c1", 7), score("c2", 7), score("c3", 7)])
        writer.submit(0, None, [score("c1", 8), score("c2", 8)], [Removal("c3", 6)])
        writer.submit(0, None, [], [Removal("c1", 9), Removal("c2", 9)])
        writer.submit(0, None, [score("c1", 8), score("c2", 10)])
        assert writer.pending == 3
        await writer.flush()
    assert await cache.get("c1") is None
    assert await cache.get("c2") == score("c2", 10)
    assert await cache.get("c3") == score("c3", 7)
    await assert_consistent(client)


async def test_an_error_that_is_no_outage_is_raised_and_not_retried(
    cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await client.set("clv:customer:c1", "not a hash")
    async with CacheWriter(cache) as writer:
        writer.submit(0, None, [score("c1", 1)])
        with pytest.raises(ResponseError, match="WRONGTYPE"):
            await writer.flush()
        await client.delete("clv:customer:c1")
        await writer.flush()
        assert writer.pending == 0


async def test_an_error_met_by_the_background_retry_is_raised_by_the_next_call(
    server: Server, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    writer = CacheWriter(cache)
    await writer.start()
    # It comes back with this, before anybody can write to it.
    await client.set("clv:customer:c1", "not a hash")
    await client.save()
    port = await server.kill()
    await submit_and_flush(writer, [score("c1", 1)])
    await server.restart(port)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await flush_until_it_raises(writer)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        writer.submit(0, None, [score("c1", 2)])
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await writer.stop()


async def test_a_refused_login_is_raised(server: Server) -> None:
    wrong = connect(server.address.replace("redis://", "redis://:wrong@"))
    writer = CacheWriter(ScoreCache(wrong))
    await writer.start()
    writer.submit(0, None, [score("c1", 1)])
    with pytest.raises(AuthenticationError):
        await writer.flush()
    with pytest.raises(AuthenticationError):
        await writer.stop()
    await wrong.aclose()


async def test_stop_writes_what_is_pending(cache: ScoreCache) -> None:
    writer = CacheWriter(cache)
    await writer.start()
    writer.submit(0, None, [score("c1", 1)])
    assert await writer.stop() == 0
    assert await cache.get("c1") == score("c1", 1)
    with pytest.raises(RuntimeError, match="not running"):
        writer.submit(0, None, [score("c1", 2)])


async def test_stop_gives_up_at_its_deadline_and_says_how_many_are_left(
    server: Server, cache: ScoreCache
) -> None:
    writer = CacheWriter(cache, stop_seconds=0.3)
    await writer.start()
    await server.kill()
    await submit_and_flush(writer, [score("c1", 1), score("c2", 1)])
    async with asyncio.timeout(PATIENCE):
        assert await writer.stop() == 2


async def test_writes_during_a_clear_wait_and_totals_stay_exact(
    cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await put(cache, [score(f"c{i}", 1, i) for i in range(5000)])
    async with CacheWriter(cache) as writer:
        clearing = asyncio.create_task(cache.clear())
        position = 2
        while not clearing.done():
            writer.submit(
                0, None, [score(f"c{i}", position, i + position) for i in range(0, 5000, 50)]
            )
            await writer.flush()
            position += 1
            await asyncio.sleep(0)
        await until_written(writer)
    await assert_consistent(client)
    assert await cache.get("c50") == score("c50", position - 1, 50 + position - 1)


def test_a_redis_that_loads_its_data_is_an_outage() -> None:
    assert is_outage(BusyLoadingError("LOADING Redis is loading the dataset in memory"))


async def test_submitting_out_of_order_is_refused(cache: ScoreCache) -> None:
    async with CacheWriter(cache) as writer:
        writer.submit(3, 20, [score("c1", 1)])
        with pytest.raises(ValueError, match=r"up to offset 10 .* those up to 20"):
            writer.submit(3, 10, [score("c2", 1)])
