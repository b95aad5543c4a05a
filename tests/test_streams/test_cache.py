"""What the Redis cache must hold, against a real server."""

import asyncio
import json
import math
import os
import signal
from collections.abc import AsyncIterator, Iterator, Sequence
from decimal import Decimal

import numpy as np
import pytest
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import AuthenticationError, ResponseError

import streams.cache.cache as cache_module
from streams.cache import CachedScore, CacheWriter, ScoreCache, SegmentTotals, connect
from streams.embedded import EmbeddedRedis

DIMENSIONS = ("lifecycle", "tier", "behaviour")


def score(
    customer_id: str,
    version: int,
    clv: float = 1.0,
    lifecycle: str = "active",
    tier: str = "gold",
    update: bytes | None = None,
) -> CachedScore:
    document = json.dumps({"customer_id": customer_id, "version": version}).encode()
    segments = (("lifecycle", lifecycle), ("tier", tier))
    return CachedScore(customer_id, version, clv, segments, document if update is None else update)


class Server(EmbeddedRedis):
    """An embedded Redis that can be killed outright and started again, empty, on its port."""

    async def kill(self) -> int:
        port = self.port
        self._kill()
        return port

    async def restart(self, port: int) -> None:
        await self._start_on(port)


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    async with Server() as running:
        yield running


@pytest.fixture
async def client(server: Server) -> AsyncIterator[redis.asyncio.Redis]:
    client = connect(server.url, timeout_seconds=0.5)
    yield client
    await client.aclose()


@pytest.fixture
def cache(client: redis.asyncio.Redis) -> ScoreCache:
    return ScoreCache(client)


async def assert_consistent(client: redis.asyncio.Redis, prefix: str = "clv") -> None:
    """Recompute ranking, members and totals from the customers' hashes and compare them all."""
    ranking: dict[bytes, float] = {}
    members: dict[bytes, set[bytes]] = {}
    totals: dict[bytes, dict[bytes, int]] = {}
    start = f"{prefix}:customer:".encode()
    async for key in client.scan_iter(match=f"{prefix}:customer:*"):
        fields = await client.hgetall(key)
        customer_id, clv = key.removeprefix(start), float(fields[b"clv"])
        ranking[customer_id] = clv
        for dimension, name in json.loads(fields[b"segments"]).items():
            members.setdefault(f"{prefix}:segment:{dimension}:{name}".encode(), set()).add(
                customer_id
            )
            sums = totals.setdefault(f"{prefix}:totals:{dimension}".encode(), {})
            for field, number in (("customers", 1), ("value_cents", math.floor(clv * 100 + 0.5))):
                held = f"{name}:{field}".encode()
                sums[held] = sums.get(held, 0) + number
    places = await client.zrange(f"{prefix}:ranking", 0, -1, withscores=True)
    assert {member: clv for member, clv in places} == ranking  # noqa: C416 - lists in RESP3
    held_members = {
        key: await client.smembers(key)
        async for key in client.scan_iter(match=f"{prefix}:segment:*")
    }
    assert held_members == members
    held_totals = {
        key: {field: int(number) for field, number in (await client.hgetall(key)).items()}
        async for key in client.scan_iter(match=f"{prefix}:totals:*")
    }
    assert {key: without_zeros(sums) for key, sums in held_totals.items()} == {
        key: without_zeros(sums) for key, sums in totals.items()
    }


def without_zeros(sums: dict[bytes, int]) -> dict[bytes, int]:
    """Drop sums of nothing: Redis need not have a field for a segment worth exactly zero."""
    return {field: number for field, number in sums.items() if number}


segments = st.lists(
    st.tuples(st.sampled_from(DIMENSIONS), st.sampled_from(["a", "b", "c:d é"])),
    unique_by=lambda pair: pair[0],
    max_size=3,
).map(tuple)
values = st.one_of(
    st.floats(-1e13, 1e13, allow_nan=False), st.floats(-2000, 2000), st.just(0.005), st.just(-0.0)
)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[CachedScore], list[list[CachedScore]]]:
    """Versions of a few customers, and puts of them in any order with any repeats."""
    every = [
        CachedScore(
            customer_id,
            version,
            draw(values),
            draw(segments),
            draw(st.text(max_size=20).map(str.encode)),
        )
        for customer_id in draw(
            st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=5, unique=True)
        )
        for version in range(draw(st.integers(1, 4)))
    ]
    shuffled = draw(st.permutations(every)) + draw(st.lists(st.sampled_from(every), max_size=8))
    puts: list[list[CachedScore]] = [[]]
    for one in shuffled:
        if draw(st.booleans()):
            puts.append([])
        puts[-1].append(one)
    return every, puts


@given(
    history=histories(),
    drop=st.sets(st.integers(0, 20)),
    flushed=st.sets(st.integers(0, 20)),
)
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_order_of_puts_ends_with_the_newest_versions_and_exact_totals(
    shared_url: str,
    history: tuple[list[CachedScore], list[list[CachedScore]]],
    drop: set[int],
    flushed: set[int],
) -> None:
    every, puts = history
    newest = {one.customer_id: one for one in sorted(every, key=lambda one: one.version)}
    removed = [one for place, one in enumerate(newest) if place in drop]

    async def run() -> None:
        client = connect(shared_url)
        await client.flushall()
        cache = ScoreCache(client)
        written = 0
        for place, batch in enumerate(puts):
            if place in flushed:
                await client.script_flush()
            written += await cache.put(batch)
        assert len(newest) <= written <= len(every)
        assert await cache.size() == len(newest)
        for customer_id, expected in newest.items():
            assert await cache.get(customer_id) == expected
        await assert_consistent(client)
        assert await cache.put(every) == 0
        assert await cache.remove(removed + removed + ["never seen"]) == len(removed)
        await assert_consistent(client)
        assert await cache.remove(list(newest)) == len(newest) - len(removed)
        assert await client.dbsize() == 0
        await client.aclose()

    asyncio.run(run())


@pytest.fixture(scope="module")
def shared_url() -> Iterator[str]:
    server = EmbeddedRedis()
    asyncio.run(server.start())
    yield server.url
    asyncio.run(server.stop())


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "CHUNK", 7)
    monkeypatch.setattr(cache_module, "SMALL_SEGMENT", 5)
    monkeypatch.setattr(cache_module, "WALK", 10)


async def test_concurrent_writers_of_the_same_customers_agree(
    cache: ScoreCache, client: redis.asyncio.Redis, small_chunks: None
) -> None:
    tiers = ("gold", "silver", "bronze")
    batches = [
        [score(f"c{i}", v, v * i / 7, tier=tiers[(v + i) % 3]) for i in range(50)]
        for v in range(20)
    ]
    await asyncio.gather(*(cache.put(batch) for batch in batches[::-2] + batches[::2]))
    assert [await cache.get(f"c{i}") for i in range(50)] == batches[-1]
    await assert_consistent(client)


async def test_an_older_or_equal_version_changes_nothing(cache: ScoreCache) -> None:
    await cache.put([score("c1", 2, 20.0)])
    assert await cache.put([score("c1", 1, 10.0, "lost"), score("c1", 2, 30.0, "lost")]) == 0
    assert await cache.get("c1") == score("c1", 2, 20.0)


async def test_a_version_is_compared_as_a_whole_number(cache: ScoreCache) -> None:
    await cache.put([score("c1", 9), score("c2", 2**53 - 2)])
    assert await cache.put([score("c1", 10), score("c2", 2**53 - 1)]) == 2
    assert await cache.put([score("c1", 9), score("c2", 2**53 - 2)]) == 0


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        (score("c1", -1), "version"),
        (score("c1", 2**53), "version"),
        (score("c1", 1, math.nan), "clv"),
        (score("c1", 1, math.inf), "clv"),
        (score("c1", 1, -2e13), "clv"),
        (CachedScore("c1", 1, 1.0, (("tier", "a"), ("tier", "b")), b""), "one segment"),
        (CachedScore("c1", 1, 1.0, (("a:b", "c"),), b""), "colon"),
    ],
)
async def test_a_score_that_cannot_be_held_exactly_is_refused_before_anything_is_sent(
    cache: ScoreCache, bad: CachedScore, word: str
) -> None:
    with pytest.raises(ValueError, match=word):
        await cache.put([score("c0", 1), bad])
    assert await cache.size() == 0


async def test_sums_beyond_what_a_double_holds_stay_exact(
    cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    scores = [score(f"c{i}", 1, 1e13 - 0.01 * i) for i in range(300)]
    await cache.put(scores)
    exact = sum(math.floor(one.clv * 100 + 0.5) for one in scores)
    assert exact > 2**53
    assert (await cache.totals("tier"))["gold"] == SegmentTotals(300, exact)
    await cache.put([score(one.customer_id, 2, -one.clv) for one in scores])
    await assert_consistent(client)


@pytest.mark.parametrize("protocol", [2, 3])
async def test_readers_answer_the_same_in_both_protocols(server: Server, protocol: int) -> None:
    client = redis.asyncio.Redis.from_url(server.url, protocol=protocol)
    cache = ScoreCache(client)
    scores = [
        score("c1", 1, -12.34, "lost", "bronze"),
        score("c2", 1, 100.0, "active", "gold"),
        score("c3", 1, 50.005, "active", "silver"),
    ]
    assert await cache.put(scores) == 3
    assert await cache.get("c1") == scores[0]
    assert await cache.get("c9") is None
    assert await cache.top(2) == [("c2", 100.0), ("c3", 50.005)]
    assert await cache.top(0) == []
    assert await cache.members("lifecycle", "active") == [("c2", 100.0), ("c3", 50.005)]
    assert await cache.members("lifecycle", "active", 1, 1) == [("c3", 50.005)]
    assert await cache.members("lifecycle", "unknown") == []
    assert {one async for one in cache.scan_members("lifecycle", "active")} == {"c2", "c3"}
    totals = await cache.totals("lifecycle")
    assert totals == {"active": (2, 15001), "lost": (1, -1234)}
    assert totals["lost"].value == Decimal("-12.34")
    assert await cache.totals("unknown") == {}
    assert await cache.size() == 3
    await client.aclose()


async def test_walking_the_ranking_gives_the_same_places_as_sorting_the_segment(
    cache: ScoreCache, small_chunks: None
) -> None:
    scores = [score(f"c{i}", 1, float(i * 37 % 101), tier="abc"[i % 3]) for i in range(101)]
    await cache.put(scores)
    for tier in "abc":
        expected = sorted(
            ((s.customer_id, s.clv) for s in scores if s.segments[1][1] == tier),
            key=lambda place: -place[1],
        )
        assert await cache.members("tier", tier, 0, 1000) == expected
        assert await cache.members("tier", tier, 7, 11) == expected[7:18]
        assert await cache.members("tier", tier, 0, 0) == []
        assert await cache.members("tier", tier, 500, 5) == []


async def test_equal_values_have_one_order_in_both_ways_of_reading(
    cache: ScoreCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    await cache.put([score(f"c{i}", 1, 5.0) for i in range(9)])
    sorted_whole = await cache.members("tier", "gold")
    monkeypatch.setattr(cache_module, "SMALL_SEGMENT", 0)
    assert await cache.members("tier", "gold") == sorted_whole == await cache.top(9)


@pytest.mark.parametrize(
    "customer_id",
    ["a:b", "with space", "naïve-ñ-客户-🙂", "line\nbreak\0nul", "*?[x]", "{clv}", " "],
)
async def test_ids_and_documents_of_any_bytes_come_back_as_they_were(
    cache: ScoreCache, client: redis.asyncio.Redis, customer_id: str
) -> None:
    odd = score(customer_id, 1, -0.015, "a: b:é", 'q"\\', update='"\u0000 ñ 客户"'.encode())
    await cache.put([odd])
    assert await cache.get(customer_id) == odd
    assert await cache.members("tier", 'q"\\') == [(customer_id, -0.015)]
    await assert_consistent(client)
    assert await cache.remove([customer_id]) == 1
    assert await client.dbsize() == 0


async def test_numpy_numbers_are_held_as_numbers(cache: ScoreCache) -> None:
    await cache.put([score("c1", 1, np.float64(0.1) + np.float64(0.2))])
    assert await cache.top(1) == [("c1", 0.1 + 0.2)]


async def test_a_dimension_that_is_no_longer_configured_leaves_nothing_behind(
    cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await cache.put([score("c1", 1, 5.0)])
    newer = CachedScore("c1", 2, 6.0, (("tier", "gold"), ("audience", "vip")), b"{}")
    await cache.put([newer])
    assert await cache.get("c1") == newer
    assert await cache.totals("lifecycle") == {}
    await assert_consistent(client)


async def test_clear_deletes_only_its_own_prefix(client: redis.asyncio.Redis) -> None:
    odd, other = ScoreCache(client, "c[lv]*"), ScoreCache(client, "clv:other")
    tagged, plain = ScoreCache(client, "{clv}"), ScoreCache(client, "clv")
    for cache in (odd, other, tagged, plain):
        await cache.put([score(f"c{i}", 1) for i in range(1500)])
    await client.set("clv:somebody-else", "1")
    assert await plain.clear() == 1500 + 1 + 2 + 2
    assert [await one.size() for one in (odd, other, tagged, plain)] == [1500, 1500, 1500, 0]
    assert await client.get("clv:somebody-else") == b"1"
    await assert_consistent(client, "{clv}")
    assert await odd.clear() == 1505


async def test_writes_during_a_clear_wait_and_totals_stay_exact(
    cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await cache.put([score(f"c{i}", 1, i) for i in range(5000)])
    async with CacheWriter(cache) as writer:
        clearing = asyncio.create_task(cache.clear())
        version = 2
        while not clearing.done():
            writer.submit(score(f"c{i}", version, i + version) for i in range(0, 5000, 50))
            await writer.flush()
            version += 1
            await asyncio.sleep(0)
        await until_written(writer)
    await assert_consistent(client)
    assert await cache.get("c50") == score("c50", version - 1, 50 + version - 1)


async def test_an_interrupted_clear_refuses_writes_until_it_is_run_again(
    cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await client.set("clv:clearing", "1")
    with pytest.raises(ResponseError, match="run it again"):
        await cache.put([score("c1", 1)])
    await cache.clear()
    assert await cache.put([score("c1", 1)]) == 1


def test_a_client_that_decodes_is_refused() -> None:
    with pytest.raises(ValueError, match="decode_responses"):
        ScoreCache(redis.asyncio.Redis(decode_responses=True))


# The writer


async def until_written(writer: CacheWriter, seconds: float = 15.0) -> None:
    async with asyncio.timeout(seconds):
        while writer.pending or not writer.healthy:  # noqa: ASYNC110 - it has no event for this
            await asyncio.sleep(0.02)


async def flush_until_it_raises(writer: CacheWriter) -> None:
    async with asyncio.timeout(10):
        while True:
            await asyncio.sleep(0.02)
            await writer.flush()


async def submit_and_flush(writer: CacheWriter, scores: Sequence[CachedScore]) -> None:
    writer.submit(scores)
    async with asyncio.timeout(3):
        await writer.flush()


async def test_a_redis_killed_and_restarted_empty_gets_all_that_was_pending_and_came_after(
    server: Server, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    async with CacheWriter(cache) as writer:
        await submit_and_flush(writer, [score(f"c{i}", 1, i) for i in range(3000)])
        assert (writer.healthy, writer.pending) == (True, 0)
        port = await server.kill()
        for version in range(2, 12):
            await submit_and_flush(writer, [score(f"c{i}", version, i) for i in range(2500)])
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
        writer.submit(score(f"c{i}", 1, i) for i in range(20_000))
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


async def test_a_redis_that_hangs_is_an_outage_and_does_not_hold_the_stream(
    server: Server, cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    async with CacheWriter(cache) as writer:
        os.kill(server.pid, signal.SIGSTOP)
        try:
            await submit_and_flush(writer, [score("c1", 1)])
            assert not writer.healthy
            async with asyncio.timeout(0.1):
                await writer.flush()
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


async def test_the_newest_submitted_version_is_the_one_written(cache: ScoreCache) -> None:
    async with CacheWriter(cache) as writer:
        writer.submit([score("c1", 2, 2.0)])
        writer.submit([score("c1", 1, 1.0), score("c1", 3, 3.0)])
        assert writer.pending == 1
        await writer.flush()
    assert await cache.get("c1") == score("c1", 3, 3.0)


async def test_a_forgotten_customer_is_removed_and_may_begin_anew(
    cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    async with CacheWriter(cache) as writer:
        await submit_and_flush(writer, [score("c1", 7), score("c2", 7)])
        writer.submit([score("c1", 8), score("c2", 8)])
        writer.forget(["c1", "c2"])
        writer.submit([score("c2", 1)])
        assert writer.pending == 3
        await writer.flush()
    assert await cache.get("c1") is None
    assert await cache.get("c2") == score("c2", 1)
    await assert_consistent(client)


async def test_an_error_that_is_no_outage_is_raised_and_not_retried(
    cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await client.set("clv:customer:c1", "not a hash")
    async with CacheWriter(cache) as writer:
        writer.submit([score("c1", 1)])
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
    port = await server.kill()
    await submit_and_flush(writer, [score("c1", 1)])
    await server.restart(port)
    await client.set("clv:customer:c1", "not a hash")
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await flush_until_it_raises(writer)
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        writer.submit([score("c1", 2)])
    with pytest.raises(ResponseError, match="WRONGTYPE"):
        await writer.stop()


async def test_a_refused_login_is_raised(server: Server, client: redis.asyncio.Redis) -> None:
    await client.config_set("requirepass", "right")
    wrong = connect(server.url.replace("redis://", "redis://:wrong@"))
    writer = CacheWriter(ScoreCache(wrong))
    await writer.start()
    writer.submit([score("c1", 1)])
    with pytest.raises(AuthenticationError):
        await writer.flush()
    with pytest.raises(AuthenticationError):
        await writer.stop()
    await wrong.aclose()


async def test_stop_writes_what_is_pending(cache: ScoreCache) -> None:
    writer = CacheWriter(cache)
    await writer.start()
    writer.submit([score("c1", 1)])
    assert await writer.stop() == 0
    assert await cache.get("c1") == score("c1", 1)
    with pytest.raises(RuntimeError, match="not running"):
        writer.submit([score("c1", 2)])


async def test_stop_gives_up_at_its_deadline_and_says_how_many_are_left(
    server: Server, cache: ScoreCache
) -> None:
    writer = CacheWriter(cache, stop_seconds=0.3)
    await writer.start()
    await server.kill()
    await submit_and_flush(writer, [score("c1", 1), score("c2", 1)])
    async with asyncio.timeout(2):
        assert await writer.stop() == 2
