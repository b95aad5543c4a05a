"""Outputs and keys in Redis belong to one service: another one does not start."""

import asyncio
import itertools
import os
from collections.abc import AsyncIterator, Iterator

import pytest
import redis.asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition
from redis.exceptions import ResponseError
from structlog.testing import capture_logs

import streams.cache.writer as writer_module
from streams.cache import CachedScore, KafkaUpdates, RedisUnusable, ScoreCache, connect
from streams.cache.writer import CacheWriter
from streams.claims import Claims, OutputsClaimed, claim_outputs, outputs, release_outputs
from streams.cli.checks import servers
from streams.cli.claims import _release
from streams.cli.console import CommandError
from streams.embedded import EmbeddedBroker, EmbeddedRedis
from streams.kafka.clients import started
from streams.kafka.connection import Broker
from streams.parameters import ParameterFeed, publish_parameters
from streams.recording.format import RecordedTopic
from streams.recording.live import live_slice
from streams.replay.target import TargetUnusable, check_empty
from streams.settings import Settings, Topics
from streams.topics import prepare_topics
from tests.servers.scores import put
from tests.test_models.parameters import PARAMETERS
from tests.test_streams.commands import started as command
from tests.test_streams.service.cluster import Worker, cluster

numbers = itertools.count()


@pytest.fixture(scope="module")
def broker() -> Iterator[str]:
    server = EmbeddedBroker()
    asyncio.run(server.start())
    yield server.address
    asyncio.run(server.stop())


@pytest.fixture
async def redis_url() -> AsyncIterator[str]:
    async with EmbeddedRedis() as server:
        yield server.url


@pytest.fixture
async def client(redis_url: str) -> AsyncIterator[redis.asyncio.Redis]:
    client = connect(redis_url)
    yield client
    await client.aclose()


@pytest.fixture
def topics() -> Topics:
    mark = f"claims-{os.getpid()}-{next(numbers)}"
    return Topics(**{role: f"{mark}.{name}" for role, name in Topics().model_dump().items()})


def service(app_id: str, broker: str, topics: Topics) -> Settings:
    return Settings(app_id=app_id, broker=broker, topics=topics, partitions=2)


async def claim(settings: Settings) -> None:
    await prepare_topics(settings, Broker.of(settings))
    await claim_outputs(settings, Broker.of(settings))


async def claims_of(settings: Settings) -> list[tuple[bytes, bytes | None]]:
    """All records of the topic of the parameters."""
    tp, found = TopicPartition(settings.topics.models, 0), []
    client = AIOKafkaConsumer(
        **Broker.of(settings).client_options(), auto_offset_reset="earliest",
        enable_auto_commit=False,
    )  # fmt: skip
    async with started(client) as consumer:
        consumer.assign([tp])
        while (end := consumer.highwater(tp)) is None or await consumer.position(tp) < end:
            fetched = await consumer.getmany(timeout_ms=200)
            found += [(record.key, record.value) for record in fetched.get(tp, ())]
    return found


async def test_the_second_service_is_told_who_has_the_outputs_and_what_to_do(broker, topics):
    first, second = service("first", broker, topics), service("second", broker, topics)
    await claim(first)
    with pytest.raises(OutputsClaimed) as refused:
        await claim(second)
    for told in (
        *outputs(first), "'first'", "'second'", "CLV_TOPICS__UPDATES", "CLV_REDIS_PREFIX",
        "`clv claims release first`",
    ):  # fmt: skip
        assert told in str(refused.value)
    await claim(first)
    assert len(await claims_of(first)) == len(outputs(first))
    assert await release_outputs(second, Broker.of(second), "first") == sorted(outputs(first))
    await claim(second)
    with pytest.raises(OutputsClaimed):
        await claim(first)


async def test_one_output_in_common_is_enough(broker, topics):
    await claim(service("first", broker, topics))
    others = {role: f"{name}-2" for role, name in topics.model_dump().items()}
    others |= {"models": topics.models, "updates": topics.updates}
    with pytest.raises(OutputsClaimed, match=rf"{topics.updates} is written by 'first'"):
        await claim(service("second", broker, Topics(**others)))
    others["updates"] += "-2"
    await claim(service("second", broker, Topics(**others)))


async def test_of_several_that_start_at_once_one_goes_on_and_the_others_leave_no_claim(
    broker, topics
):
    settings = [service(f"app{number}", broker, topics) for number in range(4)]
    await prepare_topics(settings[0], Broker.of(settings[0]))
    ended = await asyncio.gather(*map(claim, settings), return_exceptions=True)
    [went_on] = [s for s, error in zip(settings, ended, strict=True) if error is None]
    assert all(isinstance(error, OutputsClaimed) for error in ended if error is not None)
    await release_outputs(went_on, Broker.of(went_on), went_on.app_id)
    other = next(each for each in settings if each is not went_on)
    await claim(other)


def test_the_first_claim_counts_until_it_is_released():
    claims = Claims()
    for offset, (app, value) in enumerate(
        [("b", b"{}"), ("a", b"{}"), ("b", b"{}"), ("b", None), ("b", b"{}")]
    ):
        claims.take(offset, f"claim/t/{app}".encode(), value)
        assert claims.holder("t") == ("b" if offset < 3 else "a")
    claims.take(9, b"bg-nbd", b"{}")
    claims.take(10, None, b"{}")
    assert claims.holder("other") is None


async def test_claims_are_no_parameters(broker, topics):
    settings = service("first", broker, topics)
    await claim(settings)
    await publish_parameters(Broker.of(settings), topics.models, PARAMETERS)
    with capture_logs() as logged:
        async with ParameterFeed(Broker.of(settings), topics.models) as feed:
            assert feed.timeline.latest == PARAMETERS
    assert not [entry for entry in logged if entry["log_level"] != "info"]


async def test_claims_are_neither_recorded_nor_in_the_way_of_a_replay(broker, topics):
    settings = service("first", broker, topics)
    await claim(settings)
    models = RecordedTopic("models", topics.models, 1)
    await check_empty(Broker.of(settings), [models])
    await publish_parameters(Broker.of(settings), topics.models, PARAMETERS)
    await release_outputs(settings, Broker.of(settings), "first")
    async with live_slice(Broker.of(settings), [models]) as shown:
        assert [record.key async for record in shown.records()] == [PARAMETERS.version.encode()]
    with pytest.raises(TargetUnusable, match="records already"):
        await check_empty(Broker.of(settings), [models])


async def test_workers_of_another_service_end_and_say_why_until_the_first_is_released(tmp_path):
    async with cluster(tmp_path) as running:
        first = running.settings
        second = first.model_copy(update={"app_id": "second"})
        others = Topics(**{role: f"{name}-2" for role, name in first.topics.model_dump().items()})
        worker = await running.start_worker()
        await until_started(worker)
        given = running.environment() | {"CLV_APP_ID": "second"}
        elsewhere = {f"CLV_TOPICS__{role.upper()}": name for role, name in others}
        same_outputs, same_keys = await asyncio.gather(
            asyncio.to_thread(command, "worker", **given),
            asyncio.to_thread(command, "worker", **given | elsewhere),
        )
        for refused, variable in ((same_outputs, "CLV_TOPICS"), (same_keys, "CLV_REDIS_PREFIX")):
            assert refused.returncode == 1
            [line] = [each for each in refused.stderr.splitlines() if each.startswith("error:")]
            assert variable in line
            assert f"`clv claims release {first.app_id}`" in line
        checks = [c for c in await servers(second) if c.name in OURS]
        told = {(c.name, c.status, "clv claims release" in c.advice) for c in checks}
        assert told == {(name, "fail", True) for name in OURS}
        assert {c.status for c in await servers(first) if c.name in OURS} == {"ok"}
        with pytest.raises(CommandError, match="has 1 workers; stop them first"):
            await _release(second, first.app_id)
        assert await worker.stop() == 0
        # The embedded broker does not let members go.
        released = await _release(second, first.app_id, force=True)
        assert released["topics"] == sorted(outputs(first))
        assert released["redis_prefix"] == "clv"
        running.settings = second
        await until_started(await running.start_worker())
        with pytest.raises(CommandError, match="has claimed nothing"):
            await _release(second, "nobody")


OURS = ("outputs", "Redis owner")


async def until_started(worker: Worker) -> None:
    async with asyncio.timeout(120):
        while "worker started" not in worker.log.read_text():
            worker.check()
            await asyncio.sleep(0.1)


async def test_a_clear_leaves_the_cache_to_whose_it_is(client):
    cache = ScoreCache(client, owner="first")
    assert await cache.own() == "first"
    await put(cache, [CachedScore("c1", 1, 1.0, (), b"{}")])
    await cache.clear()
    assert await client.keys() == [b"clv:owner"]
    with pytest.raises(RedisUnusable, match="'first'"):
        await ScoreCache(client, owner="second").clear()
    assert not await cache.release("second")
    assert await cache.release("first")
    assert await cache.owner() is None


async def test_what_another_service_has_taken_is_not_written(client):
    first, second = ScoreCache(client, owner="first"), ScoreCache(client, owner="second")
    score = CachedScore("c1", 1, 1.0, (), b"{}")
    assert await put(first, [score]) == 1
    with pytest.raises(ResponseError, match=r"CLV_APP_ID first, not second.*release first"):
        await put(second, [score._replace(position=2)])
    await client.flushall()
    assert await put(second, [score]) == 1
    with pytest.raises(ResponseError, match="CLV_APP_ID second, not first"):
        await put(first, [score])


async def test_a_writer_whose_emptied_redis_was_taken_by_another_service_stops(
    broker, topics, client, monkeypatch
):
    monkeypatch.setattr(writer_module, "LOOK_SECONDS", 0.05)
    monkeypatch.setattr(writer_module, "CHECK_SECONDS", 0.05)
    settings = service("first", broker, topics)
    await prepare_topics(settings, Broker.of(settings))
    updates = KafkaUpdates(Broker.of(settings), topics.updates)
    writer = CacheWriter(ScoreCache(client, owner="first"), updates)
    await writer.start()
    writer.assigned([0, 1])
    while await client.get("clv:owner") != b"first":  # noqa: ASYNC110
        await asyncio.sleep(0.02)
    await client.flushall()
    await client.set("clv:owner", "second")

    async def goes_on() -> None:
        async with asyncio.timeout(120):
            while True:
                await asyncio.sleep(0.02)
                await writer.flush()

    with pytest.raises((RedisUnusable, ResponseError), match="second") as stopped:
        await goes_on()
    if isinstance(stopped.value, RedisUnusable):
        # The look at Redis came before a write, which is refused as well.
        assert "'second'" in (writer.problem or "")
    with pytest.raises((RedisUnusable, ResponseError), match="second"):
        await writer.stop()
