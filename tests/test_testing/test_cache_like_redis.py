"""The simulated cache answers as Redis does, whatever is written to it."""

import random
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from streams.cache import CachedScore, ScoreCache, connect
from streams.cache.arguments import Call, MarkMove
from streams.cache.score import Removal
from streams.embedded import EmbeddedRedis
from streams.simulation.cache import MemoryScoreCache

SEGMENTS = (
    (("lifecycle", "new"), ("tier", "gold")),
    (("lifecycle", "at risk"), ("tier", "gold")),
    (("lifecycle", "at risk"),),
)


@pytest.fixture
async def redis() -> AsyncIterator[Redis]:
    async with EmbeddedRedis() as server:
        client = connect(server.url)
        try:
            yield client
        finally:
            await client.aclose()


def random_call(dice: random.Random, marks: list[str]) -> Call:
    """Customers of a call differ, as they do in the service."""
    scores, removals = [], []
    for number in sorted(dice.sample(range(8), dice.randrange(5))):
        customer, position = f"c{number}", dice.randrange(50)
        if dice.random() < 0.25:
            removals.append(Removal(customer, position))
        else:
            clv = dice.choice([0.0, -3.335, 1.005, 2.675, 10.0, dice.uniform(-50, 50)])
            scores.append(CachedScore(customer, position, clv, dice.choice(SEGMENTS), b"{}"))
    mark = None
    if dice.random() < 0.5:
        mark = MarkMove(dice.randrange(2), dice.choice(marks), dice.choice(marks[1:]))
    return Call(scores, removals, mark)


async def test_it_answers_as_redis_does(redis: Redis) -> None:
    real, simulated = ScoreCache(redis), MemoryScoreCache()
    dice = random.Random(7)
    marks = ["", "10", "20", "30"]
    for step in range(300):
        call = random_call(dice, marks)
        assert await simulated.write([call]) == await real.write([call]), (step, call)
        if step % 10:
            continue
        for number in range(8):
            assert await simulated.get(f"c{number}") == await real.get(f"c{number}")
        assert await simulated.top(5) == await real.top(5)
        assert await simulated.size() == await real.size()
        assert await simulated.marks([0, 1, 2]) == await real.marks([0, 1, 2])
        for dimension in ("lifecycle", "tier", "other"):
            assert await simulated.totals(dimension) == await real.totals(dimension)
        for segment in ("new", "at risk"):
            place = ("lifecycle", segment, 1, 2)
            assert await simulated.members(*place) == await real.members(*place)
