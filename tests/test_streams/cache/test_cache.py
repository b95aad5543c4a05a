"""What the Redis cache must hold, against a real server."""

import asyncio
import hashlib
import math
from collections.abc import Iterator
from decimal import Decimal
from itertools import count

import numpy as np
import pytest
import redis.asyncio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis.exceptions import ResponseError

import streams.cache.cache as cache_module
from models.fingerprints import CACHE_NOTE, fingerprint
from streams.cache import CachedScore, ScoreCache, SegmentTotals, connect
from streams.cache.score import Item, Removal
from streams.embedded import EmbeddedRedis
from tests.servers.scores import put, remove
from tests.test_streams.cache.support import Server, assert_consistent, score

DIMENSIONS = ("lifecycle", "tier", "behaviour")


segments = st.lists(
    st.tuples(st.sampled_from(DIMENSIONS), st.sampled_from(["a", "b", "c:d é"])),
    unique_by=lambda pair: pair[0],
    max_size=3,
).map(tuple)
values = st.one_of(
    st.floats(-1e13, 1e13, allow_nan=False), st.floats(-2000, 2000), st.just(0.005), st.just(-0.0)
)


@st.composite
def histories(draw: st.DrawFn) -> tuple[list[Item], list[list[Item]]]:
    """Scores and removals of a few customers by position, in any order with any repeats."""
    every: list[Item] = []
    offsets = count()
    for customer_id in draw(
        st.lists(st.text(min_size=1, max_size=6), min_size=1, max_size=5, unique=True)
    ):
        for _ in range(draw(st.integers(1, 8))):
            offset = next(offsets)
            if draw(st.sampled_from(["score", "score", "removal"])) == "removal":
                every.append(Removal(customer_id, offset))
            else:
                update = draw(st.text(max_size=20).map(str.encode))
                every.append(CachedScore(customer_id, offset, draw(values), draw(segments), update))
    shuffled = draw(st.permutations(every)) + draw(st.lists(st.sampled_from(every), max_size=8))
    steps: list[list[Item]] = [[]]
    for one in shuffled:
        if draw(st.booleans()):
            steps.append([])
        steps[-1].append(one)
    return every, steps


SECRET = b"keys the notes of this test alone"


def what_stays(every: list[Item]) -> dict[str, CachedScore]:
    """By the rule: what was published last counts."""
    last = {one.customer_id: one for one in sorted(every, key=lambda one: one.position)}
    return {id_: one for id_, one in last.items() if isinstance(one, CachedScore)}


@given(history=histories(), flushed=st.sets(st.integers(0, 20)))
@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_any_order_of_puts_and_removals_ends_with_what_was_published_last_and_exact_totals(
    shared_url: str, history: tuple[list[Item], list[list[Item]]], flushed: set[int]
) -> None:
    every, steps = history
    expected = what_stays(every)
    ids = {one.customer_id for one in every}

    async def run() -> None:
        client = connect(shared_url)
        await client.flushall()
        cache = ScoreCache(client)
        for place, batch in enumerate(steps):
            if place in flushed:
                await client.script_flush()
            await put(cache, [one for one in batch if isinstance(one, CachedScore)])
            await remove(cache, [one for one in batch if isinstance(one, Removal)])
            await assert_consistent(client)
        assert await cache.size() == len(expected)
        for customer_id in ids:
            assert await cache.get(customer_id) == expected.get(customer_id)
        assert await put(cache, [one for one in every if isinstance(one, CachedScore)]) == 0
        assert await remove(cache, [one for one in every if isinstance(one, Removal)]) == 0
        reborn = [CachedScore(each, 99, 1.0, (), b"{}") for each in ids]
        assert await put(cache, reborn) == len(ids)
        assert await remove(cache, [Removal(each, 100) for each in ids]) == len(ids)
        assert all(key.startswith(b"clv:forgotten") for key in await client.keys())
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
    await asyncio.gather(*(put(cache, batch) for batch in batches[::-2] + batches[::2]))
    assert [await cache.get(f"c{i}") for i in range(50)] == batches[-1]
    await assert_consistent(client)


async def test_a_smaller_or_equal_position_changes_nothing(cache: ScoreCache) -> None:
    await put(cache, [score("c1", 2, 20.0)])
    assert await put(cache, [score("c1", 1, 10.0, "lost"), score("c1", 2, 30.0, "lost")]) == 0
    assert await cache.get("c1") == score("c1", 2, 20.0)


async def test_a_position_is_compared_as_a_whole_number(cache: ScoreCache) -> None:
    await put(cache, [score("c1", 9), score("c2", 2**53 - 2)])
    assert await put(cache, [score("c1", 10), score("c2", 2**53 - 1)]) == 2
    assert await put(cache, [score("c1", 9), score("c2", 2**53 - 2)]) == 0


@pytest.mark.parametrize(
    ("bad", "word"),
    [
        (score("c1", -1), "position"),
        (score("c1", 2**53), "position"),
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
        await put(cache, [score("c0", 1), bad])
    assert await cache.size() == 0


async def test_sums_beyond_what_a_double_holds_stay_exact(
    cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    scores = [score(f"c{i}", 1, 1e13 - 0.01 * i) for i in range(300)]
    await put(cache, scores)
    exact = sum(math.floor(one.clv * 100 + 0.5) for one in scores)
    assert exact > 2**53
    assert (await cache.totals("tier"))["gold"] == SegmentTotals(300, exact)
    await put(cache, [score(one.customer_id, 2, -one.clv) for one in scores])
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
    assert await put(cache, scores) == 3
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
    await put(cache, scores)
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
    await put(cache, [score(f"c{i}", 1, 5.0) for i in range(9)])
    sorted_whole = await cache.members("tier", "gold")
    monkeypatch.setattr(cache_module, "SMALL_SEGMENT", 0)
    assert await cache.members("tier", "gold") == sorted_whole == await cache.top(9)


@pytest.mark.parametrize(
    "customer_id",
    ["a:b", "with space", "naïve-ñ-客户-🙂", "line\nbreak\0nul", "*?[x]", "{clv}", " "],
)
async def test_ids_and_documents_of_any_bytes_come_back_as_they_were(
    client: redis.asyncio.Redis, customer_id: str
) -> None:
    cache = ScoreCache(client, secret=SECRET)
    odd = score(customer_id, 1, -0.015, "a: b:é", 'q"\\', update='"\u0000 ñ 客户"'.encode())
    await put(cache, [odd])
    assert await cache.get(customer_id) == odd
    assert await cache.members("tier", 'q"\\') == [(customer_id, -0.015)]
    await assert_consistent(client)
    assert await remove(cache, [Removal(customer_id, 2)]) == 1
    note = f"clv:forgotten:{fingerprint(customer_id.encode(), SECRET, CACHE_NOTE).hex()}".encode()
    assert set(await client.keys()) == {note, b"clv:forgotten"}
    week = 7 * 24 * 3600
    assert week - 60 < await client.ttl(note) <= await client.ttl("clv:forgotten") <= week


async def test_a_note_of_somebody_removed_is_known_by_the_key_alone(
    client: redis.asyncio.Redis,
) -> None:
    ours = ScoreCache(client, secret=SECRET)
    await put(ours, [score("customer-4711", 1, 5.0)])
    await remove(ours, [Removal("customer-4711", 2)])
    [note] = [key async for key in client.scan_iter("clv:forgotten:*")]
    plain = {
        hashlib.new(name, b"customer-4711", usedforsecurity=False).hexdigest()
        for name in ("sha1", "sha256", "blake2b", "md5")
    }
    assert not any(each[:32] in note.decode() for each in plain)
    assert b"customer" not in note
    # What was published before the removal stays out, and what is later comes in.
    assert await put(ours, [score("customer-4711", 1, 5.0)]) == 0
    assert await put(ours, [score("customer-4711", 3, 5.0)]) == 1


async def test_numpy_numbers_are_held_as_numbers(cache: ScoreCache) -> None:
    await put(cache, [score("c1", 1, np.float64(0.1) + np.float64(0.2))])
    assert await cache.top(1) == [("c1", 0.1 + 0.2)]


async def test_a_dimension_that_is_no_longer_configured_leaves_nothing_behind(
    cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await put(cache, [score("c1", 1, 5.0)])
    newer = CachedScore("c1", 2, 6.0, (("tier", "gold"), ("audience", "vip")), b"{}")
    await put(cache, [newer])
    assert await cache.get("c1") == newer
    assert await cache.totals("lifecycle") == {}
    await assert_consistent(client)


async def test_clear_deletes_only_its_own_prefix(client: redis.asyncio.Redis) -> None:
    odd, other = ScoreCache(client, "c[lv]*"), ScoreCache(client, "clv:other")
    tagged, plain = ScoreCache(client, "{clv}"), ScoreCache(client, "clv")
    for cache in (odd, other, tagged, plain):
        await put(cache, [score(f"c{i}", 1) for i in range(1500)])
    await client.set("clv:somebody-else", "1")
    assert await plain.clear() == 1500 + 1 + 2 + 2
    assert [await one.size() for one in (odd, other, tagged, plain)] == [1500, 1500, 1500, 0]
    assert await client.get("clv:somebody-else") == b"1"
    await assert_consistent(client, "{clv}")
    assert await odd.clear() == 1505


async def test_an_interrupted_clear_refuses_writes_until_it_is_run_again(
    cache: ScoreCache, client: redis.asyncio.Redis
) -> None:
    await client.set("clv:clearing", "1")
    with pytest.raises(ResponseError, match="run it again"):
        await put(cache, [score("c1", 1)])
    await cache.clear()
    assert await put(cache, [score("c1", 1)]) == 1


def test_a_client_that_decodes_is_refused() -> None:
    with pytest.raises(ValueError, match="decode_responses"):
        ScoreCache(redis.asyncio.Redis(decode_responses=True))
