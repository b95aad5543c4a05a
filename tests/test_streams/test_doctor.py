"""`clv doctor`: each check on servers where it really is so, and the advice that goes with it."""

import asyncio
import itertools
import os
import signal
import time
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic, RecordsToDelete

from models.aggregate.record import BASIS_KEY
from streams.cache import CachedScore, ScoreCache, connect
from streams.cli.checks import servers, state_directory
from streams.cli.checks.redis import version_check
from streams.cli.checks.security import security
from streams.embedded import embedded_servers
from streams.kafka.connection import Broker
from streams.parameters import publish_parameters
from streams.settings import KafkaSecurity, Settings, Topics
from streams.topics import changelog_topic, plan, prepare_topics
from tests.servers.broker import running_broker
from tests.servers.kafka import KafkaCluster, kafka_missing_reason
from tests.servers.scores import put
from tests.test_models.parameters import PARAMETERS

numbers = itertools.count()
PASSWORD = "swordfish"


def named(checks, name):
    """The checks of a name, which must be there."""
    found = [check for check in checks if check.name == name]
    assert found, [check.name for check in checks]
    return found


def one(checks, name):
    [check] = named(checks, name)
    return check


def own_settings(broker, **changes):
    """Settings whose topics and group nobody else has."""
    mark = f"doctor-{os.getpid()}-{next(numbers)}"
    topics = {name: f"{mark}.{name.replace('_', '-')}" for name in Topics.model_fields}
    return Settings(
        **{"broker": broker, "app_id": mark, "topics": topics, "partitions": 2} | changes
    )


@asynccontextmanager
async def clients(settings):
    """An admin client and a producer."""
    options = Broker.of(settings).client_options()
    admin, producer = AIOKafkaAdminClient(**options), AIOKafkaProducer(**options, acks="all")
    await admin.start()
    await producer.start()
    try:
        yield admin, producer
    finally:
        await producer.stop()
        await admin.close()


async def commit(settings, offsets):
    """Commit offsets of partition 0 by topic, as the group."""
    consumer = AIOKafkaConsumer(
        **Broker.of(settings).client_options(),
        group_id=settings.app_id, enable_auto_commit=False,
    )  # fmt: skip
    await consumer.start()
    try:
        places = {TopicPartition(topic, 0): offset for topic, offset in offsets.items()}
        consumer.assign(list(places))
        await consumer.commit(places)
    finally:
        await consumer.stop()


async def create(settings, replication, **configs):
    """Create the topics as they should be, but for these settings by topic."""
    async with clients(settings) as (admin, _):
        response = await admin.create_topics(
            [
                NewTopic(
                    topic.name, topic.partitions, replication,
                    topic_configs={**topic.config, **configs.get(topic.name, {})},
                )
                for topic in plan(settings)
            ]
        )  # fmt: skip
    assert not [error for error in response.topic_errors if error[1]]
    # Not every node knows them at once.
    async with asyncio.timeout(120):
        while one(await servers(settings), "topics").status != "ok":
            pass


class TestOffsets:
    @pytest.fixture
    async def settings(self):
        async with running_broker("embedded") as broker:
            settings = own_settings(broker.address)
            await prepare_topics(settings, Broker.of(settings))
            yield settings

    async def test_a_service_that_has_not_begun_is_fine_and_its_lag_is_told(self, settings):
        orders = settings.topics.orders
        async with clients(settings) as (_, producer):
            await producer.send_and_wait(orders, b"1", partition=0)
            await producer.send_and_wait(orders, b"2", partition=1)
        checks = await servers(settings)
        lag = one(checks, "lag")
        assert (lag.status, "clv worker" in lag.advice) == ("warn", True)
        assert lag.found.startswith("2 records wait")
        assert one(checks, "changelog").status == "ok"
        assert one(checks, "dead letters").status == "ok"
        assert not [check for check in checks if check.status == "fail"]

    async def test_offsets_beyond_the_end_say_that_the_log_lost_it(self, settings):
        await commit(settings, {settings.topics.orders: 100})
        check = one(await servers(settings), "offsets")
        assert check.status == "fail"
        assert f"{settings.topics.orders}[0]: the log ends at offset 0, and 100" in check.found
        assert "clv accept-loss" in check.advice

    async def test_offsets_without_a_state_fail(self, settings):
        async with clients(settings) as (_, producer):
            for _ in range(3):
                await producer.send_and_wait(settings.topics.orders, b"1", partition=0)
        await commit(settings, {settings.topics.orders: 2})
        check = one(await servers(settings), "changelog")
        assert check.status == "fail"
        assert f"{changelog_topic(settings)}: it is empty" in check.found
        assert f"{settings.topics.orders}[0] to 2" in check.found
        assert "clv accept-loss" in check.advice
        async with clients(settings) as (_, producer):
            await producer.send_and_wait(changelog_topic(settings), b"x", key=b"c", partition=0)
        assert one(await servers(settings), "changelog").status == "ok"

    async def test_a_basis_of_a_newer_version_fails_one_check(self, settings):
        async with clients(settings) as (_, producer):
            name = changelog_topic(settings)
            await producer.send_and_wait(name, b"\xff newer", key=BASIS_KEY, partition=1)
        checks = await servers(settings)
        basis = one(checks, "basis")
        assert basis.status == "fail"
        assert basis.found.startswith("the basis of partition 1 has schema version 255")
        assert one(checks, "topics").status == "ok"

    async def test_a_new_group_beside_anothers_state_asks_whether_it_is_meant(self, settings):
        other = settings.model_copy(update={"app_id": "another"})
        check = one(await servers(other), "changelog")
        assert check.status == "warn"
        assert settings.app_id in check.found
        assert "CLV_APP_ID" in check.advice

    async def test_topics_that_are_missing_or_do_not_fit_together(self, settings):
        lacking = own_settings(settings.broker)
        assert one(await servers(lacking), "topics").status == "warn"
        async with clients(lacking) as (admin, _):
            topics = lacking.topics
            await admin.create_topics([NewTopic(topics.orders, 2, 1), NewTopic(topics.clock, 3, 1)])
        check = one(await servers(lacking), "topics")
        assert check.status == "fail"
        assert f"{topics.orders}: 2" in check.found

    async def test_parameters_that_are_old_or_in_another_currency(self, settings):
        assert one(await servers(settings), "parameters").status == "warn"
        broker, topic = Broker.of(settings), settings.topics.models
        year_ago = datetime.now(UTC) - timedelta(days=365)
        currency = settings.economics.currency
        old = PARAMETERS.model_copy(update={"currency": currency, "fitted_until": year_ago})
        await publish_parameters(broker, topic, old)
        check = one(await servers(settings), "parameters")
        assert (check.status, "365 days ago" in check.found) == ("warn", True)
        assert "clv fit" in check.advice
        fresh = old.model_copy(update={"version": "fresh", "fitted_until": datetime.now(UTC)})
        await publish_parameters(broker, topic, fresh)
        assert one(await servers(settings), "parameters").status == "ok"
        foreign = fresh.model_copy(update={"version": "foreign", "currency": "JPY"})
        await publish_parameters(broker, topic, foreign)
        check = one(await servers(settings), "parameters")
        assert (check.status, "JPY" in check.found) == ("fail", True)


@pytest.mark.kafka
class TestKafka:
    @pytest.fixture
    async def kafka(self):
        async with running_broker("kafka") as broker:
            yield broker

    async def test_topics_as_they_are_created_pass(self, kafka):
        settings = own_settings(kafka.address, replication=kafka.replication)
        await prepare_topics(settings, Broker.of(settings))
        checks = await servers(settings)
        # Not the changelog: this broker is shared, and the state of others is worth a question.
        for name in ("broker", "topics", "replication", "min.insync.replicas", "cleanup policies",
                     "retention", "max.message.bytes", "lag"):  # fmt: skip
            assert one(checks, name).status == "ok", one(checks, name)

    @pytest.mark.parametrize(
        ("topic", "config", "name", "status", "found", "advice"),
        [
            ("changelog", {"cleanup.policy": "compact,delete"}, "cleanup policies", "fail",
             "compact,delete, not compact", "lost"),
            ("orders", {"cleanup.policy": "compact"}, "cleanup policies", "fail",
             "compact, not delete", "compacted away"),
            ("orders", {"retention.ms": "604800000"}, "retention", "warn",
             "keeps 7 days", "retention.ms=-1"),
            ("orders", {"retention.bytes": "1000000"}, "retention", "warn",
             "keeps 1,000,000 bytes", "retention.bytes=-1"),
            ("changelog", {"max.message.bytes": "1048588"}, "max.message.bytes", "fail",
             "takes 1,048,588, not 4,194,304", "raise"),
            ("orders", {"min.insync.replicas": "1"}, "min.insync.replicas", "warn",
             "1 of 3", "set min.insync.replicas=2"),
            ("orders", {"min.insync.replicas": "3"}, "min.insync.replicas", "warn",
             "3 of 3", "one broker away"),
        ],
    )  # fmt: skip
    async def test_a_wrong_setting_is_found(
        self, kafka, topic, config, name, status, found, advice
    ):
        if kafka.replication != 3:
            pytest.skip("this broker is not of three nodes")
        settings = own_settings(kafka.address, replication=3)
        named_topic = {"changelog": changelog_topic(settings), "orders": settings.topics.orders}
        await create(settings, 3, **{named_topic[topic]: config})
        check = one(await servers(settings), name)
        assert check.status == status
        assert named_topic[topic] in check.found
        assert found in check.found
        assert advice in check.advice

    async def test_one_replica_on_three_brokers_warns(self, kafka):
        if kafka.replication != 3:
            pytest.skip("this broker is not of three nodes")
        settings = own_settings(kafka.address, replication=1)
        orders = settings.topics.orders
        await create(settings, 1, **{orders: {"min.insync.replicas": "2"}})
        checks = await servers(settings)
        check = one(checks, "replication")
        assert check.status == "warn"
        assert f"{orders}: 1" in check.found
        assert "CLV_REPLICATION" in check.advice
        check = one(checks, "min.insync.replicas")
        assert (check.status, "2 of 1" in check.found) == ("fail", True)
        assert "no write" in check.advice

    async def test_more_replicas_than_brokers_cannot_be_created(self, kafka):
        settings = own_settings(kafka.address, replication=kafka.replication)
        await prepare_topics(settings, Broker.of(settings))
        few = settings.model_copy(update={"replication": 9})
        assert one(await servers(few), "replication").status == "warn"

    async def test_events_that_were_deleted_before_they_were_processed_are_told(self, kafka):
        settings = own_settings(kafka.address, replication=kafka.replication)
        await prepare_topics(settings, Broker.of(settings))
        orders = settings.topics.orders
        async with clients(settings) as (admin, producer):
            for _ in range(5):
                await producer.send_and_wait(orders, b"1", partition=0)
            await commit(settings, {orders: 1})
            await admin.delete_records({TopicPartition(orders, 0): RecordsToDelete(4)})
        check = one(await servers(settings), "offsets")
        assert check.status == "fail"
        assert f"{orders}[0]: 3 records, offsets 1 to 3, were deleted" in check.found
        assert "publish the lost events again" in check.advice

    async def test_dead_letters_of_the_last_day_are_counted(self, kafka):
        settings = own_settings(kafka.address, replication=kafka.replication)
        # The broker would date them by itself: one of three days ago could not be written.
        given = {settings.topics.dead_letters: {"message.timestamp.type": "CreateTime"}}
        await create(settings, kafka.replication, **given)
        async with clients(settings) as (_, producer):
            topic, old = settings.topics.dead_letters, int((time.time() - 3 * 86_400) * 1000)
            await producer.send_and_wait(topic, b"old", partition=0, timestamp_ms=old)
            check = one(await servers(settings), "dead letters")
            assert check.status == "ok", check
            await producer.send_and_wait(topic, b"new", partition=0)
        check = one(await servers(settings), "dead letters")
        assert (check.status, check.advice) == ("warn", "see why by `clv dead-letters`")
        assert check.found.startswith("1 refusals, notices and notes within a day; 2 ")

    async def test_a_broker_that_is_down_leaves_replicas_behind_and_partitions_headless(
        self, tmp_path: Path
    ):
        if reason := kafka_missing_reason():
            pytest.skip(reason)
        async with KafkaCluster(3, tmp_path) as cluster:
            safe = own_settings(cluster.address, replication=3, partitions=3)
            bare = own_settings(cluster.address, replication=1, partitions=3)
            for settings in (safe, bare):
                await prepare_topics(settings, Broker.of(settings))
            cluster.nodes[2].kill()
            async with asyncio.timeout(90):
                while "out of sync" not in str(await servers(safe)):
                    pass
            assert one(await servers(safe), "replication").status == "warn"
            check = one(await servers(bare), "replication")
            assert (check.status, "without a leader" in check.found) == ("fail", True)
            assert "start the brokers" in check.advice


class TestServersThatDoNotAnswer:
    async def test_frozen_ones_are_given_up_after_a_while(self):
        async with embedded_servers() as running:
            settings = Settings(broker=running.broker.address, redis=running.redis.url)
            for server in (running.broker, running.redis):
                os.kill(server.pid, signal.SIGSTOP)
            try:
                began = time.monotonic()
                checks = await servers(settings)
                assert time.monotonic() - began < 25
            finally:
                for server in (running.broker, running.redis):
                    os.kill(server.pid, signal.SIGCONT)
            for name in ("broker", "Redis"):
                assert one(checks, name).status == "fail"
                assert "does not answer" in one(checks, name).found

    async def test_passwords_are_never_shown(self):
        login = KafkaSecurity(protocol="SASL_SSL", username="clv", password=PASSWORD)
        settings = Settings(
            broker="127.0.0.1:1", kafka_security=login, redis=f"redis://:{PASSWORD}@127.0.0.1:1/0"
        )
        checks = await servers(settings)
        assert {one(checks, name).status for name in ("broker", "Redis")} == {"fail"}
        assert PASSWORD not in str(checks)


class TestRedis:
    @pytest.fixture
    async def redis(self):
        async with embedded_servers() as running:
            settings = Settings(redis=running.redis.url)
            client = connect(settings.redis)
            try:
                yield settings, client
            finally:
                await client.aclose()

    async def test_a_new_one_passes(self, redis):
        settings, _ = redis
        checks = await servers(settings)
        for name in ("Redis", "Redis version", "Redis memory", "Redis eviction"):
            assert one(checks, name).status == "ok"

    async def test_one_that_is_full_or_evicts_is_told(self, redis):
        settings, client = redis
        used = (await client.info("memory"))["used_memory"]
        await client.config_set("maxmemory", int(used * 1.1))
        check = one(await servers(settings), "Redis memory")
        assert (check.status, "raise maxmemory" in check.advice) == ("warn", True)
        await client.config_set("maxmemory", used // 2)
        check = one(await servers(settings), "Redis memory")
        assert (check.status, "writes are refused" in check.advice) == ("fail", True)
        await client.config_set("maxmemory", 0)
        await client.config_set("maxmemory-policy", "allkeys-lru")
        check = one(await servers(settings), "Redis eviction")
        assert (check.status, "noeviction" in check.advice) == ("fail", True)

    async def test_one_that_has_evicted_since_the_cache_was_whole_is_told(self, redis):
        settings, client = redis
        cache = ScoreCache(client)
        await put(cache, [CachedScore(f"c{i}", 1, 1.0, (), b"x" * 500) for i in range(500)])
        assert await cache.check_whole(await cache.facts())
        await client.config_set("maxmemory-policy", "allkeys-random")
        used = (await client.info("memory"))["used_memory"]
        await client.config_set("maxmemory", int(used * 0.9))
        while not (await client.info("stats"))["evicted_keys"]:
            await client.ping()
        await client.config_set("maxmemory", 0)
        await client.config_set("maxmemory-policy", "noeviction")
        check = one(await servers(settings), "Redis eviction")
        assert (check.status, "clv rebuild-cache" in check.advice) == ("warn", True)
        await cache.repair(await cache.facts())
        assert one(await servers(settings), "Redis eviction").status == "ok"

    async def test_a_clear_that_was_interrupted_is_told(self, redis):
        settings, client = redis
        await client.set("clv:clearing", b"1")
        check = one(await servers(settings), "Redis cache")
        assert (check.status, "run it again" in check.advice) == ("fail", True)

    @pytest.mark.parametrize(
        ("version", "status"),
        [("6.0.16", "fail"), ("5.0.7", "fail"), ("6.2.0", "ok"), ("10.0.1", "ok"), ("?", "fail")],
    )
    def test_versions_before_6_2_fail(self, version, status):
        assert version_check(version).status == status


class TestEncryption:
    @pytest.mark.parametrize(
        ("settings", "warned"),
        [
            ({"broker": "localhost:9092", "redis": "redis://127.0.0.1:6379/0"}, []),
            ({"broker": "[::1]:9092,127.0.0.5:9092", "redis": "redis://[::1]:6379/0"}, []),
            ({"broker": "localhost:9092,kafka.shop:9092"}, ["Kafka at kafka.shop is"]),
            ({"broker": "10.0.0.7:9092"}, ["Kafka at 10.0.0.7 is"]),
            ({"broker": "kafka.shop:9092", "kafka_security": KafkaSecurity(protocol="SSL")}, []),
            (
                {
                    "broker": "kafka.shop:9092",
                    "kafka_security": KafkaSecurity(
                        protocol="SASL_PLAINTEXT", username="clv", password=PASSWORD
                    ),
                },
                ["Kafka at kafka.shop is"],
            ),
            ({"redis": f"redis://clv:{PASSWORD}@cache.shop/0"}, ["Redis at cache.shop is"]),
            ({"redis": "rediss://cache.shop/0"}, []),
        ],
    )
    def test_clear_text_to_other_machines_is_warned_of(self, settings, warned):
        checks = list(security(Settings(**settings)))
        assert len(checks) == len(warned)
        for check, text in zip(checks, warned, strict=True):
            assert check.status == "warn"
            assert text in check.found
            assert PASSWORD not in str(check)


class TestStateDirectory:
    def test_none_is_nothing_to_check(self):
        assert not list(state_directory(Settings()))

    def test_one_that_can_be_written_or_made_is_fine(self, tmp_path):
        for path in (tmp_path, tmp_path / "new" / "deeper"):
            assert one(state_directory(Settings(state_dir=path)), "state directory").status == "ok"

    def test_one_that_cannot_be_written_fails(self, tmp_path):
        (tmp_path / "file").write_text("")
        for path in (tmp_path / "file", Path("/proc/clv")):
            check = one(state_directory(Settings(state_dir=path)), "state directory")
            assert (check.status, "CLV_STATE_DIR" in check.advice) == ("fail", True)

    def test_one_with_little_room_warns(self, tmp_path, monkeypatch):
        monkeypatch.setattr("streams.cli.checks.state.LEAST_FREE", 2**70)
        check = one(state_directory(Settings(state_dir=tmp_path)), "state directory")
        assert (check.status, "make room" in check.advice) == ("warn", True)
