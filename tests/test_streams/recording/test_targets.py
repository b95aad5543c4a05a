"""Where a replay goes: memory, topics, a sandbox, and only if it is named, production."""

from __future__ import annotations

import asyncio
import io
import json
import logging
import os
import signal
import sys
from collections import defaultdict
from contextlib import redirect_stdout
from pathlib import Path
from unittest.mock import patch

import pytest
import structlog
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from models.errors import ClvError
from streams.cache import connect
from streams.cli.logs import configure_logging
from streams.cli.record_options import topics_at_broker
from streams.cli.replay.memory import memory
from streams.cli.replay.sandbox import sandbox
from streams.cli.replay.topics import production, topics
from streams.kafka.clients import started
from streams.kafka.connection import Broker
from streams.kafka.partitions import home_partition
from streams.kafka.reading import log_bounds
from streams.outcome.outcome import Outcome
from streams.publisher import Publisher
from streams.recording import (
    BEGINNING,
    END,
    RecordedTopic,
    Recording,
    live_slice,
    record_slice,
)
from streams.replay.memory import in_memory
from streams.replay.source import FromFile
from streams.settings import Settings
from streams.topics import prepare_topics
from tests.servers import forks
from tests.servers.broker import BOTH, running_broker
from tests.test_streams.commands import clv
from tests.test_streams.service.cluster import cluster, own_names

from .support import ROLES, some_events

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def quiet():
    """As the command line has it: the log is no part of what is printed."""
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    configure_logging(level=logging.CRITICAL)
    yield
    root.handlers = handlers
    root.setLevel(level)
    structlog.reset_defaults()


@pytest.fixture(scope="module")
def in_memory_result(recording):
    outcome = Outcome(detailed=False)

    async def replay():
        async with in_memory(Settings(), FromFile(Recording(recording)), outcome) as replaying:
            await replaying.run()

    asyncio.run(replay())
    return outcome.result()


def environment(settings):
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == "CLV_ERASURE_KEY" or not name.startswith("CLV_")
    }
    names = {f"CLV_TOPICS__{r.upper()}": n for r, n in settings.topics.model_dump().items()}
    given = {
        "CLV_APP_ID": settings.app_id, "CLV_REPLICATION": str(settings.replication),
        "CLV_PARTITIONS": str(settings.partitions),
        "CLV_SESSION_TIMEOUT": "2", "CLV_HEARTBEAT_INTERVAL": "0.5", "CLV_COMMIT_INTERVAL": "0.3",
    }  # fmt: skip
    servers = {"CLV_BROKER": settings.broker, "CLV_REDIS": settings.redis}
    return kept | given | names | {name: url for name, url in servers.items() if url is not None}


async def told(settings, command, source, **options):
    """Run a command; its status, what it printed, and what it said."""
    out = io.StringIO()
    try:
        with patch.dict(os.environ, environment(settings), clear=True), redirect_stdout(out):
            await command(str(source), as_json=True, **options)
    except ClvError as error:
        return 1, out.getvalue(), str(error)
    return 0, out.getvalue(), ""


def into_topics(settings, source, prefix, **options):
    return told(settings, topics, source, prefix=prefix, **options)


def into_sandbox(settings, source, group):
    return told(settings, sandbox, source, group=group)


async def launched(settings, *arguments):
    return await forks.start(
        sys.executable, "-m", "streams.cli", *map(str, arguments),
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE, cwd=ROOT, env=environment(settings),
    )  # fmt: skip


async def everything(broker, prefix, partitions):
    """All records under a prefix, by role and partition."""
    topics = [
        RecordedTopic(role, f"{prefix}x.{role}", 1 if role == "models" else partitions)
        for role in ROLES
    ]
    found = defaultdict(list)
    async with live_slice(broker, topics) as live:
        for place in live.places:
            while (record := await live.next(place)) is not None:
                found[ROLES[place.topic], place.partition].append(record)
    return found


def content(record):
    return record.timestamp, record.key, record.value, record.headers


@BOTH
async def test_topics_get_the_records_as_they_were(broker, recording):
    async with running_broker(broker) as server:
        settings = Settings(broker=server.address, replication=server.replication, **own_names())
        prefix = f"{settings.app_id}."
        status, out, said = await into_topics(settings, recording, prefix)
        assert status == 0, said
        found = await everything(Broker.of(settings), prefix, 2)
        status, _, refused = await into_topics(settings, recording, prefix)
    expected = defaultdict(list)
    for record in Recording(recording).records():
        expected[ROLES[record.topic], record.partition].append(content(record))
    assert {place: [*map(content, each)] for place, each in found.items()} == expected
    assert json.loads(out)["published"] == Recording(recording).verify().records
    assert status == 1
    assert "has" in refused
    assert "records already" in refused


async def test_other_partition_counts_take_keys_home_and_ticks_everywhere(recording):
    async with running_broker("embedded") as server:
        settings = Settings(broker=server.address, **own_names())
        status, _, said = await into_topics(settings, recording, "p.", partitions=5)
        assert status == 0, said
        found = await everything(Broker.of(settings), "p.", 5)
    by_key = defaultdict(list)
    for (role, partition), records in found.items():
        for record in records:
            if role == "clock":
                continue
            assert role == "models" or home_partition(record.key, 5) == partition
            by_key[role, record.key].append(content(record))
    expected = defaultdict(list)
    for record in Recording(recording).records():
        if ROLES[record.topic] != "clock":
            expected[ROLES[record.topic], record.key].append(content(record))
    assert by_key == expected
    assert [len(found["clock", n]) for n in range(5)] == [1] * 5


@BOTH
async def test_an_interrupted_replay_goes_on_exactly_where_it_ended(broker, recording, tmp_path):
    async with running_broker(broker) as server:
        settings = Settings(broker=server.address, replication=server.replication, **own_names())
        prefix = f"{settings.app_id}."
        command = ("replay", "topics", recording, "--prefix", prefix)
        first = min(r.timestamp for r in Recording(recording).records())
        last = max(r.timestamp for r in Recording(recording).records())
        # In two seconds it would be through.
        speed = str((last - first) / 1000 / 2)
        process = await launched(settings, *command, "--speed", speed)
        connection = Broker.of(settings)
        async with asyncio.timeout(180):
            # Another process writes there.
            while await published(connection, f"{prefix}x.orders", 2) == 0:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        process.send_signal(signal.SIGKILL)
        await process.communicate()
        before = await published(connection, f"{prefix}x.orders", 2)
        status, out, said = await into_topics(settings, recording, prefix, resume=True)
        assert status == 0, said
        told = json.loads(out)
        found = await everything(connection, prefix, 2)
        again = json.loads((await into_topics(settings, recording, prefix, resume=True))[1])
    total = Recording(recording).verify().records
    assert 0 < before < total
    assert told["already_there"] >= before
    assert told["already_there"] + told["published"] == total
    assert (again["already_there"], again["published"]) == (total, 0)
    expected = defaultdict(list)
    for record in Recording(recording).records():
        expected[ROLES[record.topic], record.partition].append(content(record))
    assert {place: [*map(content, each)] for place, each in found.items()} == expected


async def published(broker, topic, partitions):
    """How many records a topic has; 0 while it is not there."""
    async with started(AIOKafkaAdminClient(**broker.client_options())) as admin:
        if topic not in await admin.list_topics():
            return 0
    bounds = await log_bounds(broker, [TopicPartition(topic, n) for n in range(partitions)])
    return sum(at.end for at in bounds.values())


async def test_resuming_over_something_else_is_refused_with_the_place(recording):
    async with running_broker("embedded") as server:
        settings = Settings(broker=server.address, **own_names())
        assert (await into_topics(settings, recording, "p.", until="1997-01-31"))[0] == 0
        connection = Broker.of(settings)
        client = AIOKafkaProducer(**connection.client_options())
        async with started(client) as producer:
            await producer.send_and_wait("p.x.orders", b"strange", partition=1)
        status, _, said = await into_topics(settings, recording, "p.", resume=True)
    assert status == 1
    assert "p.x.orders[1]@" in said
    assert "its key is None" in said
    assert "of what is replayed" in said


async def test_a_sandbox_comes_to_the_same_and_touches_nothing_else(
    recording, in_memory_result, tmp_path
):
    async with cluster(tmp_path, partitions=2) as service:
        settings = service.settings
        await service.publish(some_events(1, 5))
        before = await state_of(service)
        status, out, said = await into_sandbox(settings, recording, "box")
        assert status == 0, said
        assert await state_of(service) == before
        refused = await into_sandbox(settings, recording, "box")
        own = await into_sandbox(settings, recording, settings.app_id)
        redis = connect(settings.redis)
        try:
            keys = [key async for key in redis.scan_iter()]
        finally:
            await redis.aclose()
    document = json.loads(out)
    # Topics have no order among themselves: changes may come in another one, values may not.
    for name in ("customers", "values"):
        assert document["digests"][name] == in_memory_result.digests[name]
    assert document["customers"] == in_memory_result.customers
    assert keys
    assert all(key.startswith(b"box:") for key in keys)
    assert refused[0] == 1
    assert "already" in refused[2]
    assert own[0] == 1
    assert "own name" in own[2]


async def state_of(service):
    """Ends of the service's topics, and what its group has committed."""
    settings = service.settings
    names = [*settings.topics.model_dump().values(), f"{settings.app_id}-customers-changelog"]
    ends = {
        name: await published(service.broker, name, 1 if name == settings.topics.models else 2)
        for name in names
    }
    async with started(AIOKafkaAdminClient(**service.broker.client_options())) as admin:
        groups = [each[0] for each in await admin.list_consumer_groups()]
    return ends, settings.app_id in groups


async def test_production_counts_each_event_once(recording, tmp_path):
    async with cluster(tmp_path, partitions=2) as service:
        settings = service.settings
        await service.start_worker()
        results = []
        for _ in range(2):
            status, _, said = await told(settings, production, recording, yes_touch=settings.app_id)
            assert status == 0, said
            await service.settled()
            results.append(await service.updates())
        assert await service.workers[0].stop() == 0
    first, second = results
    assert first.keys() == second.keys() == {each.key.decode() for each in some_events(6)}
    for name, update in first.items():
        assert second[name]["clv"] == update["clv"]


async def test_topics_at_the_broker_are_replayed_as_they_are(tmp_path):
    async with running_broker("embedded") as server:
        settings = Settings(broker=server.address, partitions=2, **own_names())
        connection = Broker.of(settings)
        await prepare_topics(settings, connection)
        async with Publisher(connection, settings.topics, 2) as publisher:
            await publisher.publish([e for e in some_events(6) if e.topic == "orders"])
        topics = await topics_at_broker(settings, ["orders"])
        async with live_slice(connection, topics) as live:
            kept = await record_slice(tmp_path / "a", live, BEGINNING, END)
        replays = [await told(settings, memory, source) for source in ("orders", tmp_path / "a")]
        itself = await told(settings, production, "orders", yes_touch=settings.app_id)
    documents = [json.loads(out) for _, out, _ in replays]
    assert documents[0]["digests"] == documents[1]["digests"]
    assert documents[0]["read"] == documents[1]["read"] == {"orders": kept.end.records}
    assert itself[0] == 1
    assert "into themselves" in itself[2]


def test_steps_show_what_each_event_led_to(recording, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n" * 5))
    done = clv("replay", "memory", recording, "--step", "--until", "1997-01-02", "--json")
    assert done.returncode == 0, done.stderr
    *steps, summary = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(steps) == sum(summary["read"].values()) > 5
    first_order = next(step for step in steps if step["topic"] == "orders")
    update = next(led for led in first_order["led_to"] if "clv" in led)
    assert update["customer_id"] == first_order["key"]
    dimensions = {led["dimension"] for led in first_order["led_to"] if "dimension" in led}
    assert dimensions >= {"lifecycle", "behaviour"}


@pytest.mark.parametrize(
    ("command", "options", "problem"),
    [
        ("topics", ["--prefix", ""], "--prefix is empty"),
        ("sandbox", ["--group", ""], "--group is empty"),
        ("production", [], "--yes-touch and its CLV_APP_ID, which is 'clv'"),
        ("production", ["--yes-touch", "another"], "not 'another'"),
        ("memory", ["--step", "--speed", "2"], "leave out --speed"),
        ("memory", ["--speed", "0"], "--speed is '0'"),
        ("memory", ["--from", "yesterday"], "--from is 'yesterday'"),
        ("compare", ["--settings", "a.toml", "b.toml"], "a.toml"),
        ("compare", ["--parameters", "none.json"], "none.json"),
        ("compare", ["--snapshot", "none.kept"], "none.kept"),
        ("compare", ["--snapshot", "a", "--parameters", "b"], "say one of"),
        ("compare", [], "say one of"),
    ],
)
def test_what_makes_no_sense_is_said(recording, command, options, problem):
    done = clv("replay", command, recording, *options)
    assert done.returncode == 1
    assert problem in done.stderr


COMPARED = ["--settings", "a.toml", "b.toml"]


@pytest.mark.parametrize(
    ("command", "options", "problem"),
    [
        ("topics", [], "Missing option '--prefix'"),
        ("sandbox", [], "Missing option '--group'"),
        ("memory", ["--prefix", "a."], "--prefix"),
        ("memory", ["--resume"], "--resume"),
        ("memory", ["--partitions", "3"], "--partitions"),
        ("memory", ["-n", "3"], "-n"),
        ("compare", [*COMPARED, "--prefix", "x."], "--prefix"),
        ("compare", [*COMPARED, "--step"], "--step"),
        ("compare", [*COMPARED, "--speed", "2"], "--speed"),
        ("production", ["--yes-touch", "clv", "--step"], "--step"),
        ("production", ["--yes-touch", "clv", "--partitions", "3"], "--partitions"),
        ("topics", ["--prefix", "p.", "--snapshot", "a"], "--snapshot"),
        ("topics", ["--prefix", "p.", "--yes-touch", "clv"], "--yes-touch"),
    ],
)
def test_what_belongs_to_another_way_of_replaying_is_refused(recording, command, options, problem):
    done = clv("replay", command, recording, *options)
    assert done.returncode == 2
    assert problem in done.stderr


@pytest.mark.parametrize(
    ("former", "now"),
    [
        (["a.clvrec"], "memory a.clvrec"),
        (["a.clvrec", "--step"], "memory a.clvrec --step"),
        (["--keep", "my own.kept", "a.clvrec"], "memory --snapshot 'my own.kept' a.clvrec"),
        (["a.clvrec", "--into", "topics", "--prefix", "x."], "topics a.clvrec --prefix x."),
        (["--into=sandbox", "inputs", "--group", "g"], "sandbox inputs --group g"),
        (["a", "--into", "production", "--yes-touch", "clv"], "production a --yes-touch clv"),
        (["a", "--compare", "b.toml", "c.toml"], "compare a --settings b.toml c.toml"),
        (["a", "--against-parameters", "p.json"], "compare a --parameters p.json"),
        (["a", "--against-kept=b.kept"], "compare a --snapshot b.kept"),
        (["a", "--into"], "memory a --into"),
    ],
)
def test_the_command_as_it_was_is_told_how_it_is_now(former, now):
    done = clv("replay", *former)
    assert done.returncode == 2
    assert f": clv replay {now}\n" in done.stderr


async def test_a_damaged_file_is_refused_before_anything_is_applied(recording, tmp_path):
    path = tmp_path / "damaged"
    data = bytearray(recording.read_bytes())
    data[-200] ^= 1
    path.write_bytes(data)
    async with running_broker("embedded") as server:
        settings = Settings(broker=server.address, **own_names())
        status, _, said = await into_topics(settings, path, "p.")
        topic_count = await published(Broker.of(settings), "p.x.orders", 2)
    assert status == 1
    assert "is damaged" in said
    assert topic_count == 0
