"""The topics of the service, as a broker makes them."""

import asyncio
import json
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from streams.kafka.clients import admin_client
from streams.kafka.connection import Broker
from streams.kafka.topics import TopicPlan, TopicsUnusable, create_missing
from streams.settings import Settings
from streams.topics import plan, prepare_topics
from tests.servers.broker import BOTH, running_broker
from tests.test_streams.commands import started

from .cluster import delete_topics, own_names


@pytest.mark.parametrize(("kind", "replication"), [("embedded", 1), ("kafka", 1), ("kafka", 3)])
async def test_they_are_created_as_planned_and_found_the_next_time(kind, replication):
    async with running_broker(kind) as server:
        if replication > server.replication:
            pytest.skip(f"no Apache Kafka of {replication} nodes: CLV_BROKER names a smaller one")
        settings = Settings(
            broker=server.address, partitions=3, replication=replication, **own_names()
        )
        broker = Broker.of(settings)
        assert await prepare_topics(settings, broker) == 3
        assert await prepare_topics(settings.model_copy(update={"partitions": 7}), broker) == 3
        admin = AIOKafkaAdminClient(**broker.client_options())
        await admin.start()
        try:
            names = [topic.name for topic in plan(settings)]
            described = {topic["topic"]: topic for topic in await admin.describe_topics(names)}
            assert {
                name: [len(partition["replicas"]) for partition in topic["partitions"]]
                for name, topic in described.items()
            } == {
                name: [replication] * (1 if name == settings.topics.models else 3) for name in names
            }
            for topic in plan(settings):
                resource = ConfigResource(ConfigResourceType.TOPIC, topic.name)
                [response] = await admin.describe_configs([resource])
                [(code, _, _, _, entries)] = response.resources
                assert code == 0
                configured = {entry[0]: entry[1] for entry in entries}
                assert {name: configured[name] for name in topic.config} == dict(topic.config)
        finally:
            await admin.close()
            await delete_topics(settings, broker)


@BOTH
async def test_unequal_partition_counts_are_refused(broker):
    async with running_broker(broker) as server:
        settings = Settings(broker=server.address, **own_names())
        connection = Broker.of(settings)
        orders, support = settings.topics.orders, settings.topics.support
        admin = AIOKafkaAdminClient(**connection.client_options())
        await admin.start()
        try:
            await admin.create_topics([NewTopic(orders, 2, 1), NewTopic(support, 3, 1)])
            with pytest.raises(TopicsUnusable, match=rf"{orders}: 2, {support}: 3"):
                await prepare_topics(settings, connection)
        finally:
            await admin.delete_topics([orders, support])
            await admin.close()


async def test_a_topic_that_somebody_else_creates_meanwhile_is_seen_with_its_count(monkeypatch):
    async with running_broker("embedded") as server:
        settings = Settings(broker=server.address, partitions=2, **own_names())
        connection = Broker.of(settings)
        create = AIOKafkaAdminClient.create_topics

        async def after_somebody_else(admin, new_topics):
            await create(admin, [NewTopic(settings.topics.support, 3, 1)])
            return await create(admin, new_topics)

        monkeypatch.setattr(AIOKafkaAdminClient, "create_topics", after_somebody_else)
        with pytest.raises(TopicsUnusable, match=f"{settings.topics.support}: 3"):
            await prepare_topics(settings, connection)


async def test_a_topic_that_does_not_appear_is_named(monkeypatch):
    monkeypatch.setattr("streams.kafka.topics.KNOWN_WITHIN", 0.3)
    async with running_broker("embedded") as server:
        settings = Settings(broker=server.address, **own_names())
        describe = AIOKafkaAdminClient.describe_topics

        async def with_one_in_the_making(admin, names):
            described = await describe(admin, names)
            return [
                topic | {"partitions": []} if topic["topic"] == settings.topics.orders else topic
                for topic in described
            ]

        monkeypatch.setattr(AIOKafkaAdminClient, "describe_topics", with_one_in_the_making)
        with pytest.raises(TopicsUnusable, match=f"create {settings.topics.orders}, but"):
            await prepare_topics(settings, Broker.of(settings))


@pytest.mark.kafka
async def test_more_replicas_than_brokers_are_refused_with_the_reason():
    async with running_broker("kafka") as server:
        settings = Settings(broker=server.address, replication=15, **own_names())
        with pytest.raises(TopicsUnusable, match="InvalidReplicationFactor") as caught:
            await prepare_topics(settings, Broker.of(settings))
    assert "CLV_REPLICATION" in str(caught.value)


async def test_the_command_creates_what_is_missing_and_shows_what_differs_from_the_plan():
    async with running_broker("embedded") as server:
        settings = Settings(broker=server.address, partitions=2, **own_names())
        names = [topic.name for topic in plan(settings)]
        orders = settings.topics.orders
        variables = {
            "CLV_BROKER": server.address,
            "CLV_APP_ID": settings.app_id,
            "CLV_PARTITIONS": "2",
            **{f"CLV_TOPICS__{k.upper()}": v for k, v in settings.topics.model_dump().items()},
        }

        async def topics(*arguments: str) -> Any:
            done = await asyncio.to_thread(started, "topics", *arguments, "--json", **variables)
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        try:
            async with admin_client(Broker.of(settings)) as admin:
                await create_missing(admin, [TopicPlan(orders, 2, {"retention.ms": "1000"})], 1)
            before = {each["name"]: each["differences"] for each in await topics("show")}
            assert before == {name: ["missing"] for name in names} | {
                orders: ["retention.ms=1000, not -1"]
            }
            assert await topics("create") == {"created": [n for n in names if n != orders]}
            assert await topics("create") == {"created": []}
            after = {each["name"]: each["differences"] for each in await topics("show")}
            assert after == {name: [] for name in names} | {orders: ["retention.ms=1000, not -1"]}
            planned = await topics("show", "--planned")
            assert [(each["name"], each["config"]) for each in planned] == [
                (topic.name, dict(topic.config)) for topic in plan(settings)
            ]
        finally:
            await delete_topics(settings, Broker.of(settings))
