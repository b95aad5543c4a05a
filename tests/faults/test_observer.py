"""The observer of Redis sees every customer who goes back."""

import asyncio

import pytest

from streams.cache import connect
from streams.embedded import embedded_servers
from tests.faults.observer import RedisObserver


@pytest.mark.parametrize("field", ["position", "version"])
async def test_the_observer_sees_a_customer_who_goes_back(field: str):
    async with embedded_servers(broker=False) as servers:
        redis = connect(servers.redis.url)

        async def show(number: int | None) -> None:
            key = "clv:customer:a"
            await (redis.hset(key, field, number) if number else redis.delete(key))
            start = observer.reads
            async with asyncio.timeout(10):
                while observer.reads < start + 4:  # noqa: ASYNC110 - it has no event for this
                    await asyncio.sleep(0.01)

        async with RedisObserver(servers.redis.url, ["a", "b"], order=field) as observer:
            for number in (5, 6, 6, 9):
                await show(number)
            assert observer.decreases == []
            await show(8)
            assert observer.decreases == [("a", 9, 8)]
            await show(None)
            await show(3)
            assert observer.decreases == [("a", 9, 8), ("a", 8, 3)]
            with observer.replacing():
                await redis.hset("clv:customer:a", field, 1)
            await show(2)
            assert len(observer.decreases) == 2
        await redis.aclose()


async def test_the_observer_does_not_pass_over_what_it_cannot_compare():
    async with embedded_servers(broker=False) as servers:
        redis = connect(servers.redis.url)
        await redis.hset("clv:customer:a", "update", "{}")
        await redis.aclose()
        with pytest.raises(AssertionError, match="no field 'position'"):
            async with asyncio.timeout(10), RedisObserver(servers.redis.url, ["a"]) as observer:
                await observer.failed()
