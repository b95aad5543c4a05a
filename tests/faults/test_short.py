"""A few breaks with fixed seeds, and proof that the suite sees a loss when there is one."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Literal

import pytest
import pytest_asyncio

from tests.faults.breaks import BREAKS
from tests.faults.proxy import Proxy
from tests.faults.report import RunResult, summary, table
from tests.faults.runner import Runner, chosen, why_not
from tests.faults.world import Setup
from tests.servers.kafka import kafka_missing_reason

SHORT = (
    ("kill", 1),
    ("kill-at-outputs", 2),
    ("kill-in-rebalance", 3),
    ("resets", 4),
    ("redis-emptied", 5),
    ("silence-kill", 6),
)

MISSING = kafka_missing_reason()
BROKER: Literal["kafka", "embedded"] = "kafka" if MISSING is None else "embedded"


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def runner() -> AsyncIterator[Runner]:
    async with Runner(Setup(BROKER), seed=0) as shared:
        yield shared


def test_it_is_apache_kafka_that_is_broken():
    if MISSING is not None and "CI" in os.environ:
        pytest.fail(MISSING)
    if MISSING is not None:
        pytest.skip(f"{MISSING}; the embedded broker stands in for it")


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("kind", "seed"), SHORT)
async def test_nothing_is_lost_or_counted_twice(runner: Runner, kind: str, seed: int):
    result = await runner.one(BREAKS[kind], seed)
    assert result.ok, result.line()
    assert result.verdict is not None
    assert result.verdict.customers > 50


@pytest.mark.kafka
@pytest.mark.slow
@pytest.mark.asyncio(loop_scope="module")
async def test_a_planted_fault_is_seen(runner: Runner):
    here = await runner.world_for(BREAKS["none"])

    async def forge() -> None:
        """Count one order of one customer twice, in Redis alone."""
        async with here.redis.client() as redis:
            key = f"clv:customer:{max(here.logs.latest)}"
            update = await redis.hget(key, "update")
            await redis.hset(key, "update", update.replace(b'"orders":', b'"orders":1', 1))

    result = await runner.one(BREAKS["none"], 7, before_judging=forge)
    assert not result.ok
    assert result.verdict is not None
    assert result.verdict.faults


async def test_a_proxy_holds_back_and_lets_go():
    echoing = set()

    async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        echoing.add(asyncio.current_task())
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(100):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(echo, "127.0.0.1", 0)
    async with server, Proxy(server.sockets[0].getsockname()[1]) as proxy:
        reader, writer = await asyncio.open_connection("127.0.0.1", proxy.port)
        writer.write(b"one")
        assert await reader.read(10) == b"one"
        proxy.drop()
        writer.write(b"two")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(10), 0.3)
        await proxy.heal()
        assert await asyncio.wait_for(reader.read(10), 5) == b"two"
        proxy.refuse()
        with pytest.raises(ConnectionError):
            await asyncio.open_connection("127.0.0.1", proxy.port)
        await proxy.heal()
        reading, again = await asyncio.open_connection("127.0.0.1", proxy.port)
        again.write(b"three")
        assert await reading.read(10) == b"three"
        again.close()
        writer.close()
        async with asyncio.timeout(5):
            await asyncio.gather(*echoing)


def test_kinds_that_cannot_be_run_are_refused_by_name():
    with pytest.raises(ValueError, match="there is no kind 'ill'"):
        chosen("kill,ill", Setup())
    with pytest.raises(ValueError, match="node-killed cannot be run here"):
        chosen("node-killed", Setup(broker="embedded"))
    kinds = chosen(None, Setup(broker="embedded"))
    assert kinds
    assert all(why_not(kind, Setup(broker="embedded")) is None for kind in kinds)


def test_a_failed_run_is_not_clean_in_the_table(tmp_path: Path):
    failed = RunResult("kill", 5, 2_000, failure="Hang: waited 90 s")
    [row] = summary([failed])
    assert (row["runs"], row["clean"], row["failures"]) == (1, 0, [5])
    assert "never" in table([row])
    assert "waited 90 s" in failed.line()
