"""`clv erase --prove`: after it the id is nowhere, or it is said where, until when, and why."""

import asyncio
import json
import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from models.contracts.clock import Tick
from streams.cache import connect
from streams.embedded import EmbeddedRedis
from streams.files.outgoing import cloud_event
from streams.kafka.connection import Broker
from streams.settings import Settings
from streams.topics import changelog_topic, plan, prepare_topics
from tests.servers import forks
from tests.servers.kafka import KafkaCluster

from .cluster import ROOT, Cluster, cluster, own_names

TIME = datetime(2026, 1, 3, 10, tzinfo=UTC)
ERASED = "somebody-who-wants-to-be-forgotten"
SECOND = "their-second-account"
OTHER = "somebody-else"
WITHIN = "240"


def order(customer, order_id, total="40.00"):
    return cloud_event(
        "orders", "order.placed", source="/shop", event_id=order_id, time=TIME,
        customer_id=customer,
        data={
            "order_id": order_id, "customer_id": customer, "placed_at": TIME,
            "currency": "USD", "total": total,
        },
    )  # fmt: skip


def misrouted(customer, order_id):
    return order(customer, order_id)._replace(key=OTHER.encode())


def merged(customer, merged_from):
    at = TIME + timedelta(days=1)
    return cloud_event(
        "identities", "customer.merged", source="/crm", event_id=f"merge-{merged_from}", time=at,
        customer_id=customer,
        data={"customer_id": customer, "merged_from": merged_from, "merged_at": at},
    )  # fmt: skip


async def live(service):
    """A customer with a second account, a dead letter, a misrouted event, and a neighbour."""
    await service.publish(
        [
            order(ERASED, "o1"), order(SECOND, "o2"), order(OTHER, "o3"),
            order(ERASED, "o4", total="not a number"), misrouted(ERASED, "o5"),
        ]
    )  # fmt: skip
    await service.settled()
    await service.publish([merged(ERASED, SECOND)])
    await service.settled()


async def clv(service, *arguments):
    """Exit status of a command, what it printed and what it said."""
    process = await forks.start(
        sys.executable, "-m", "streams.cli", *map(str, arguments),
        cwd=ROOT, env=os.environ | service.environment(),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    printed, said = await process.communicate()
    return process.returncode, printed.decode(), said.decode()


async def erased(service, *arguments):
    given = [] if "--look" in arguments else ["--within", WITHIN]
    status, printed, said = await clv(service, "erase", *arguments, "--json", *given)
    assert printed, said
    return status, json.loads(printed)


def in_files(directory: Path, *ids):
    return [
        path
        for path in directory.rglob("*")
        if path.is_file() and any(each.encode() in path.read_bytes() for each in ids)
    ]


async def in_redis(url, *ids):
    redis = connect(url)
    try:
        found = [
            text
            async for key in redis.scan_iter()
            for text in (key, await redis.dump(key) or b"")
            if any(each.encode() in text for each in ids)
        ]
        # What is dumped may be compressed: of a sorted set and of sets the members themselves.
        async for key in redis.scan_iter():
            kind = await redis.type(key)
            members = await redis.zrange(key, 0, -1) if kind == b"zset" else []
            members = await redis.smembers(key) if kind == b"set" else members
            found += [each for each in members if each.decode() in ids]
    finally:
        await redis.aclose()
    return found


def by_topic(proof, topic):
    return [each for each in proof["traces"] if each["place"].startswith(f"{topic}[")]


@pytest.mark.slow  # The copy on disk is written anew within a minute.
async def test_the_proof_names_every_trace_and_says_what_stays(tmp_path, monkeypatch):
    state = tmp_path / "state"
    monkeypatch.setenv("CLV_STATE_DIR", str(state))
    async with cluster(tmp_path) as service:
        await service.start_worker()
        await live(service)
        assert in_files(state, ERASED)
        assert await in_redis(service.redis_url, ERASED)

        status, proof = await erased(service, ERASED, "--prove", "--state-dir", state)

        # The inputs have no retention: what publishers wrote stays, and the proof says so.
        assert status == 3
        assert proof["ids"] == [ERASED, SECOND]
        assert proof["remembered"]
        topics = service.settings.topics
        stays = [each for each in proof["traces"] if each["until"] is None]
        assert {each["place"].split("[")[0] for each in stays} == {topics.orders, topics.identities}
        assert all("set retention.ms on" in each["why"] for each in stays)
        assert proof["verdict"] == f"not gone: {len(stays)} of {len(proof['traces'])} traces stay"
        for topic in (
            changelog_topic(service.settings), topics.updates, topics.segment_changes,
            topics.dead_letters, topics.rerouted, topics.identity,
        ):  # fmt: skip
            assert by_topic(proof, topic), topic
        # Every trace of every log is named, and none beside.
        assert await traces(service, ERASED, SECOND) == {each["place"] for each in proof["traces"]}
        assert not in_files(state, ERASED, SECOND)
        assert in_files(state, OTHER)
        assert not await in_redis(service.redis_url, ERASED, SECOND)
        assert (await service.cached([OTHER])).keys() == {OTHER}

        # Whoever is not erased is said to be there.
        status, proof = await erased(service, OTHER, "--look")
        there = [each["what"] for each in proof["traces"] if each["until"] is None]
        assert (status, there.count("a customer who is there")) == (3, 2)
        assert not proof["remembered"]
        assert await service.workers[0].stop() == 0


async def traces(service, *ids):
    """Where the ids stand in all topics, found in another way than the command finds them."""
    found = set()
    for topic in plan(service.settings):
        for record in await service.records(topic.name):
            parts = [record.key, record.value, *(content for _, content in record.headers)]
            if any(each.encode() in part for part in parts if part for each in ids):
                found.add(f"{record.topic}[{record.partition}]@{record.offset}")
    return found


async def test_erased_files_are_found_in_recordings_and_exports(tmp_path):
    async with cluster(tmp_path) as service:
        await service.start_worker()
        await live(service)
        recording, letters = tmp_path / "all.clvrec", tmp_path / "letters.jsonl.gz"
        assert (await clv(service, "record", recording))[0] == 0
        assert (await clv(service, "dead-letters", "export", letters))[0] == 0
        named = ["--file", recording, "--file", letters]
        status, proof = await erased(service, ERASED, "--prove", *named)
        found = {each["place"]: each for each in proof["traces"]}
        assert status == 3
        assert found[str(recording)]["ids"] == [ERASED, SECOND]
        assert found[str(letters)]["ids"] == [ERASED]
        assert "remove it" in found[str(letters)]["why"]


async def test_without_a_worker_the_command_says_where_the_erasure_waits(tmp_path):
    async with cluster(tmp_path) as service:
        status, printed, said = await clv(
            service, "erase", ERASED, "--prove", "--within", "1", "--as-of", "2026-01-03"
        )
        assert (status, printed) == (1, "")
        assert "everything until 2026-01-03T23:59:59" in said
        assert "the workers have not done it" in said
        assert f"{service.settings.topics.identities}[" in said


@pytest.mark.kafka
async def test_nothing_of_the_erased_is_left_once_kafka_has_compacted(tmp_path, monkeypatch):
    """Merges, letters, copies on disk and Redis: the id is nowhere, and it is said when it went."""
    logs, state = tmp_path / "kafka", tmp_path / "state"
    logs.mkdir()
    monkeypatch.setenv("CLV_STATE_DIR", str(state))
    quick = {"log.cleaner.backoff.ms": "200", "log.retention.check.interval.ms": "200"}
    async with KafkaCluster(1, logs, properties=quick) as kafka, EmbeddedRedis() as redis:
        settings = Settings(broker=kafka.address, redis=redis.url, partitions=1, **own_names())
        connection = Broker.of(settings)
        await prepare_topics(settings, connection)
        service = Cluster(settings, connection, redis.url, 1, tmp_path)
        await service.start_worker()
        await live(service)
        assert in_files(logs, ERASED)
        assert in_files(state, ERASED)
        status, proof = await erased(service, ERASED, "--prove", "--state-dir", state)
        assert (status, proof["ids"]) == (3, [ERASED, SECOND])

        await let_go_at_once(settings)
        ticking = asyncio.create_task(tick_on(service))
        try:
            status, proof = await erased(
                service,
                ERASED,
                "--look",
                "--also",
                SECOND,
                "--until-gone",
                "--within",
                WITHIN,
                "--state-dir",
                state,
            )
        finally:
            ticking.cancel()
        assert (status, proof["traces"]) == (0, [])
        assert proof["verdict"] == f"gone: nothing was left at {proof['at']}"
        assert proof["ids"] == [ERASED, SECOND]
        assert proof["remembered"]
        await service.settled()
        assert not in_files(state, ERASED, SECOND)
        assert not await in_redis(redis.url, ERASED, SECOND)
        assert await service.workers[0].stop() == 0
        assert not in_files(state, ERASED, SECOND)
        kept = in_files(logs, ERASED, SECOND)
        # The broker's own log of what it did names topics, and no customer.
        assert not kept
        assert in_files(logs, OTHER)


async def let_go_at_once(settings):
    """Have Kafka compact and expire what it may, all topics but the clock's: ticks go on."""
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker)
    await admin.start()
    try:
        resources = []
        for topic in plan(settings):
            if topic.name == settings.topics.clock:
                continue
            policy = topic.config.get("cleanup.policy", "delete")
            wanted = {"cleanup.policy": policy, "segment.ms": "100", "file.delete.delay.ms": "0"}
            if policy == "compact":
                wanted |= {
                    "delete.retention.ms": "0", "max.compaction.lag.ms": "100",
                    "min.cleanable.dirty.ratio": "0.0001",
                }  # fmt: skip
            else:
                wanted["retention.ms"] = "500"
            resources.append(ConfigResource(ConfigResourceType.TOPIC, topic.name, configs=wanted))
        for response in await admin.alter_configs(resources):
            assert all(code == 0 for code, *_ in response.resources), response
    finally:
        await admin.close()


async def tick_on(service):
    """The newest segment is never compacted: others have to follow, as with a daily tick."""
    for number in range(10_000):
        await service.tick(Tick(as_of=TIME + timedelta(days=2, minutes=number)))
        await service.settled()
        await asyncio.sleep(0.5)
