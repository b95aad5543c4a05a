"""Recording topics of a broker: byte for byte, the slice that was asked for, and nobody notices."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from structlog.testing import capture_logs

from streams.cli.record_options import topics_at_broker
from streams.files.outgoing import cloud_event
from streams.kafka.clients import started
from streams.kafka.connection import Broker
from streams.recording import (
    BEGINNING,
    END,
    Bound,
    OfCustomers,
    Pseudonyms,
    Recording,
    live_slice,
    record_slice,
)
from streams.settings import Settings
from streams.simulation.clock import START, milliseconds
from streams.testing import replayed
from streams.topics import changelog_topic, prepare_topics
from tests.servers import forks
from tests.servers.broker import BOTH, running_broker
from tests.test_streams.service.cluster import delete_topics, own_names
from tests.test_streams.transport.packed import packed_batch, publish_batch

PATIENCE = 180.0
HEADERS = [("a", b"1"), ("a", None), ("", b"\xff")]


@asynccontextmanager
async def service(kind="embedded", partitions=2):
    async with running_broker(kind) as server:
        settings = Settings(
            broker=server.address, replication=server.replication, partitions=partitions,
            **own_names(),
        )  # fmt: skip
        broker = Broker.of(settings)
        await prepare_topics(settings, broker)
        try:
            yield settings, broker
        finally:
            if kind == "kafka":
                await delete_topics(settings, broker)


async def publish(broker, topic, partition, records):
    """Records as (timestamp, key, value, headers)."""
    async with started(AIOKafkaProducer(**broker.client_options(), acks="all")) as producer:
        for timestamp, key, value, headers in records:
            await producer.send_and_wait(
                topic, value, key=key, partition=partition, timestamp_ms=timestamp, headers=headers
            )


async def taken(settings, broker, path, roles=("orders", "clock"), since=BEGINNING, until=END, **k):
    topics = await topics_at_broker(settings, roles)
    async with live_slice(broker, topics, since, until) as live:
        return await record_slice(path, live, since, until, **k)


@BOTH
async def test_records_are_kept_byte_for_byte_in_the_order_of_time(broker, tmp_path: Path):
    async with service(broker) as (settings, connection):
        orders, clock = settings.topics.orders, settings.topics.clock
        await publish(connection, orders, 0, [
            (1_000, b"k", b"v", HEADERS), (3_000, None, b"\x00\xff", []), (2_000, b"", b"x", []),
        ])  # fmt: skip
        await publish(connection, orders, 1, [(1_500, b"t", None, []), (9_000, b"e", b"", [])])
        await publish(connection, clock, 1, [(1_000, None, b"{}", [])])
        done = await taken(settings, connection, tmp_path / "a")
        found = list(Recording(tmp_path / "a").records())
    assert [(r.topic, r.partition, r.offset, r.timestamp, r.key, r.value) for r in found] == [
        (0, 0, 0, 1_000, b"k", b"v"),
        (1, 1, 0, 1_000, None, b"{}"),
        (0, 1, 0, 1_500, b"t", None),
        (0, 0, 1, 3_000, None, b"\x00\xff"),
        (0, 0, 2, 2_000, b"", b"x"),
        (0, 1, 1, 9_000, b"e", b""),
    ]
    assert list(found[0].headers) == HEADERS
    assert (done.end.records, done.end.by_topic) == (6, (5, 1))
    assert (done.end.first, done.end.last) == (1_000, 9_000)
    assert [topic.role for topic in done.head.topics] == ["orders", "clock"]


@BOTH
@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (Bound("", offset=1), END, {0: [1, 2, 3], 1: [1]}),
        (BEGINNING, Bound("", offset=2), {0: [0, 1], 1: [0, 1]}),
        (Bound("", time=2_000), END, {0: [1, 2, 3], 1: []}),
        # Contiguous: up to the first record of that time, although an earlier one comes after it.
        (BEGINNING, Bound("", time=3_000), {0: [0], 1: [0, 1]}),
        (Bound("", time=1_001), Bound("", time=9_999), {0: [1, 2, 3], 1: [0, 1]}),
        (Bound("", time=50_000), END, {0: [], 1: []}),
        (Bound("", offset=7), END, {0: [], 1: []}),
    ],
)
async def test_a_slice_is_what_was_asked_for(broker, since, until, expected, tmp_path: Path):
    async with service(broker) as (settings, connection):
        stamps = {0: [1_000, 3_000, 2_000, 4_000], 1: [1_500, 1_600]}
        for partition, each in stamps.items():
            records = [(at, b"k", b"v", []) for at in each]
            await publish(connection, settings.topics.orders, partition, records)
        await taken(settings, connection, tmp_path / "a", ["orders"], since, until)
    found = {0: [], 1: []}
    for record in Recording(tmp_path / "a").records():
        found[record.partition].append(record.offset)
    assert found == expected


async def test_many_records_of_many_partitions_come_whole(tmp_path: Path):
    async with service(partitions=3) as (settings, connection):
        client = AIOKafkaProducer(**connection.client_options(), max_batch_size=200_000)
        async with started(client) as producer:
            for n in range(20_000):
                # Most lie in one partition, so that others have to wait for it.
                await producer.send(
                    settings.topics.orders, b"%d" % n + bytes(300), timestamp_ms=n,
                    partition=0 if n % 10 else n % 3,
                )  # fmt: skip
            await producer.flush()
        done = await taken(settings, connection, tmp_path / "a")
    found = [record.timestamp for record in Recording(tmp_path / "a").records()]
    assert found == list(range(20_000))
    assert done.end.records == 20_000


async def test_of_some_customers_only_what_is_about_them_is_kept(tmp_path: Path):
    def event(**data):
        return json.dumps({"data": data}).encode()

    async with service() as (settings, connection):
        orders, clock = settings.topics.orders, settings.topics.clock
        await publish(connection, orders, 0, [
            (1, b"anna", b"garbage", []), (2, b"bert", event(customer_id="bert"), []),
            (3, None, event(customer_id="anna"), []), (4, None, b"garbage", []),
            (5, b"bert", event(customer_id="bert", merged_from="anna"), []),
            (6, b"x", b'{"customer_id": "anna"}', [("ce_type", b"order.placed")]),
            (7, b"anna2", event(customer_id="anna2", note="anna"), []),
        ])  # fmt: skip
        await publish(connection, clock, 0, [(8, None, b"{}", [])])
        done = await taken(
            settings, connection, tmp_path / "a", customers=OfCustomers(["anna", "nobody"])
        )
    found = [record.timestamp for record in Recording(tmp_path / "a").records()]
    assert found == [1, 3, 5, 6, 8]
    assert done.end.left_out == {"about other customers": 3}
    assert done.head.customers == 2


async def test_of_a_customer_the_history_of_all_that_were_merged_into_them_is_recorded(
    tmp_path: Path,
):
    def order(customer, total):
        data = {
            "order_id": f"of {customer}", "customer_id": customer, "currency": "EUR",
            "total": total, "placed_at": START,
        }  # fmt: skip
        return "orders", "order.placed", customer, data

    def merge(customer, merged_from):
        data = {"customer_id": customer, "merged_from": merged_from, "merged_at": START}
        return "identities", "customer.merged", customer, data

    async def say(settings, connection, *events):
        for role, kind, customer, data in events:
            event = cloud_event(
                role, kind, source="/shop", event_id=f"{kind} {data}", time=START, data=data,
                customer_id=customer,
            )  # fmt: skip
            topic = getattr(settings.topics, role)
            at = milliseconds(START)
            await publish(connection, topic, 0, [(at, event.key, event.value, event.headers)])

    async def run(*arguments):
        process = await command(settings, *arguments)
        out, told = await asyncio.wait_for(process.communicate(), PATIENCE)
        assert process.returncode == 0, told
        return out.decode(), told.decode()

    whole, path, orders, late = (tmp_path / name for name in ("whole", "a", "orders", "late"))
    async with service(partitions=1) as (settings, connection):
        await say(
            settings, connection, order("anna", "10"), order("bert", "20"), order("carl", "40"),
            merge("bert", "carl"), merge("anna", "bert"), order("dora", "80"),
        )  # fmt: skip
        await run("record", whole)
        out, told = await run("record", path, "--customers", "anna", "--json")
        assert json.loads(out)["merged"] == ["bert", "carl"]
        assert json.loads(out)["apart"] == []
        assert "'bert', 'carl' too: merged with" in told
        assert "warning" not in told
        _, told = await run("record", orders, "--customers", "carl", "--topics", "orders")
        assert "'anna', 'bert' too" in told
        assert "warning: --topics leaves out identities" in told
        # As if the merge came while it was recorded.
        await taken(
            settings, connection, late, ("orders", "identities"), customers=OfCustomers(["anna"]),
            pseudonyms=(named := Pseudonyms(b"secret")),
        )  # fmt: skip
        _, told = await run("replay", "memory", late)
        assert f"merges its customers with '{named.of('bert')}', and lacks their own" in told
    some, everybody = [(await replayed(each)).facts() for each in (path, whole)]
    assert sorted(some) == ["anna", "bert", "carl"]
    assert all(some[name] == everybody[name] for name in some)
    assert some["anna"][0]["value"] > 0.3 * 70


@pytest.mark.kafka
async def test_what_was_aborted_is_not_recorded_nor_what_is_still_open(tmp_path: Path):
    async with service("kafka", 1) as (settings, connection):
        topic = settings.topics.orders
        client = AIOKafkaProducer(**connection.client_options(), transactional_id=settings.app_id)
        async with started(client) as producer:
            for value, abort in ((b"1", False), (b"2", True), (b"3", False)):
                await producer.begin_transaction()
                await producer.send_and_wait(topic, value, partition=0)
                await (producer.abort_transaction() if abort else producer.commit_transaction())
            # Ends in a marker.
            done = await taken(settings, connection, tmp_path / "closed", ["orders"])
            assert done.waiting == ()
            await producer.begin_transaction()
            await producer.send_and_wait(topic, b"4", partition=0)
            done = await taken(settings, connection, tmp_path / "open", ["orders"])
            await producer.abort_transaction()
    for name in ("closed", "open"):
        values = [record.value for record in Recording(tmp_path / name).records()]
        assert values == [b"1", b"3"]
    assert [str(each) for each in done.waiting] == [f"{topic}[0]@6"]


def command(settings, *arguments):
    kept = {
        name: value
        for name, value in os.environ.items()
        if name == "CLV_ERASURE_KEY" or not name.startswith("CLV_")
    }
    names = {f"CLV_TOPICS__{r.upper()}": n for r, n in settings.topics.model_dump().items()}
    given = {"CLV_BROKER": settings.broker, "CLV_APP_ID": settings.app_id}
    return forks.start(
        sys.executable, "-m", "streams.cli", *map(str, arguments),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        cwd=Path(__file__).parents[3], env=kept | given | names,
    )  # fmt: skip


async def test_an_interrupted_recording_leaves_no_file(tmp_path: Path):
    async with service(partitions=1) as (settings, connection):
        client = AIOKafkaProducer(**connection.client_options())
        async with started(client) as producer:
            for n in range(60_000):
                await producer.send(settings.topics.orders, os.urandom(300), timestamp_ms=n)
            await producer.flush()
        process = await command(settings, "record", tmp_path / "a.clvrec")
        async with asyncio.timeout(PATIENCE):
            while not listed(tmp_path):  # noqa: ASYNC110 - another process makes it
                await asyncio.sleep(0.01)
        process.send_signal(signal.SIGINT)
        _, said = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 130, said
    assert said == b"interrupted\n"
    assert listed(tmp_path) == []


def listed(directory: Path) -> list[Path]:
    return list(directory.iterdir())


async def test_the_command_leaves_no_group_and_says_what_is_in_the_file(tmp_path: Path):
    path = tmp_path / "a.clvrec"
    async with service() as (settings, connection):
        value = json.dumps({"specversion": "1.0"}).encode()
        await publish(connection, settings.topics.orders, 0, [(5, b"k", value, [])])
        process = await command(settings, "record", path, "--json")
        out, said = await asyncio.wait_for(process.communicate(), PATIENCE)
        assert process.returncode == 0, said
        again = await command(settings, "record", path, "--json")
        _, refused = await asyncio.wait_for(again.communicate(), PATIENCE)
        hidden = await command(settings, "record", tmp_path / "b", "--pseudonyms", "--json")
        hidden_out, warned = await asyncio.wait_for(hidden.communicate(), PATIENCE)
        async with started(AIOKafkaAdminClient(**connection.client_options())) as admin:
            groups = await admin.list_consumer_groups()
    document = json.loads(out)
    assert document["records"] == 1
    assert document["digest"] == Recording(path).verify().digest.hex()
    assert [each["records"] for each in document["topics"]] == [0, 1, 0, 0, 0, 0, 0]
    assert again.returncode == 1
    assert b"exists" in refused
    assert json.loads(hidden_out)["records"] == 0
    assert json.loads(hidden_out)["left_out"] == {"no event: missing-field": 1}
    assert b"1 records are not in the recording" in warned
    assert not [group for group in groups if settings.app_id in group[0]]


async def test_customers_who_do_not_occur_are_named_and_an_empty_recording_fails(tmp_path: Path):
    some, none = tmp_path / "some", tmp_path / "none"
    none.write_bytes(b"as it was")

    async def said(*arguments):
        process = await command(settings, "record", *arguments)
        out, told = await asyncio.wait_for(process.communicate(), PATIENCE)
        return process.returncode, out.decode(), told.decode()

    async with service(partitions=1) as (settings, connection):
        await publish(connection, settings.topics.orders, 0, [(5, b"anna", b"v", [])])
        status, out, told = await said(some, "--customers", "anna,zoe", "--json")
        assert (status, json.loads(out)["records"]) == (0, 1)
        assert "warning: no record is about 'zoe': check" in told
        assert "anna" not in told
        status, out, told = await said(none, "--customers", "yann,zoe", "--json", "--force")
        assert (status, out) == (1, "")
        assert "nothing was recorded" in told
        assert f"of 1 records in {settings.topics.models}, {settings.topics.orders}," in told
        assert "none is about 'yann', 'zoe' (about other customers: 1)" in told
        status, _, told = await said(none, "--customers", "anna", "--pseudonyms", "--force")
        assert status == 1
        assert "none can be kept (no event: " in told
        # Ticks are recorded whoever is asked for.
        await publish(connection, settings.topics.clock, 0, [(8, None, b"{}", [])])
        status, _, told = await said(tmp_path / "tick", "--customers", "zoe")
        assert status == 0
        assert "no record is about 'zoe'" in told
    assert none.read_bytes() == b"as it was"
    assert sorted(listed(tmp_path)) == [none, some, tmp_path / "tick"]


@pytest.mark.parametrize(
    ("role", "value", "words"),
    [
        ("changelog", b"\xff newer", "the stored record of customer 'c1' has schema version 255,"),
        ("changelog", b"\x03 damaged", "the stored record of customer 'c1', 9 bytes, is damaged:"),
        ("updates", b"no JSON", "{updates}[0]@0: the record with the key 'c1' is none that"),
        ("updates", b'{"data": {"clv": null}}', "service publishes: its `clv` is None. See who"),
        ("segment_changes", b'{"id": 7, "data": {}}', "service publishes: its `id` is 7. See"),
        ("segment_changes", b'{"data": []}', "service publishes: it has no object `data`. See"),
    ],
)
async def test_a_digest_names_the_record_that_cannot_be_read(role, value, words):
    async with service(partitions=1) as (settings, connection):
        topics = settings.topics.model_dump() | {"changelog": changelog_topic(settings)}
        await publish(connection, topics[role], 0, [(5, b"c1", value, [])])
        process = await command(settings, "digest")
        out, said = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert (process.returncode, out) == (1, b"")
    [line] = said.decode().splitlines()
    assert line.startswith("error: ")
    assert words.format(**topics) in line


async def test_timestamps_beyond_all_dates_are_recorded_and_shown_as_they_are(tmp_path: Path):
    beyond = 1_767_441_600_000_000
    async with service(partitions=1) as (settings, connection):
        stamps = (5, 253_402_300_799_999, beyond)
        records = [(at, b"k", b"v", []) for at in stamps]
        await publish(connection, settings.topics.orders, 0, records)
        process = await command(settings, "record", tmp_path / "a", "--json")
        out, said = await asyncio.wait_for(process.communicate(), PATIENCE)
        dated = await command(settings, "record", tmp_path / "b", "--until", "2", "--json")
        dated_out, _ = await asyncio.wait_for(dated.communicate(), PATIENCE)
    assert process.returncode == 0, said
    assert tuple(record.timestamp for record in Recording(tmp_path / "a").records()) == stamps
    assert json.loads(out)["last"] == f"{beyond} ms"
    assert json.loads(dated_out)["last"] == "9999-12-31T23:59:59.999000+00:00"


async def test_topics_replayed_from_a_later_place_say_so_and_so_does_nothing():
    async with service(partitions=1) as (settings, connection):
        records = [(at, b"k", b"v", []) for at in (1_000, 2_000)]
        await publish(connection, settings.topics.orders, 0, records)
        said = {}
        for since in ("0", "1", "2"):
            process = await command(settings, "replay", "memory", "orders", "--from", since)
            _, told = await asyncio.wait_for(process.communicate(), PATIENCE)
            assert process.returncode == 0, told
            said[since] = told.decode()
    late = {since: told.count("what happened before is not in it") for since, told in said.items()}
    assert late == {"0": 0, "1": 1, "2": 1}
    assert "begins at offset 1:" in said["1"]
    nothing = {since: told.count("nothing was replayed") for since, told in said.items()}
    assert nothing == {"0": 0, "1": 0, "2": 1}


@pytest.mark.kafka
async def test_a_topic_that_has_lost_its_first_records_says_so_from_the_broker_and_from_a_file(
    tmp_path: Path,
):
    async with service("kafka") as (settings, connection):
        orders = settings.topics.orders
        await publish(connection, orders, 1, [(at, b"k", b"v", []) for at in (1, 2, 3)])
        async with started(AIOKafkaAdminClient(**connection.client_options())) as admin:
            await admin.delete_records({TopicPartition(orders, 1): RecordsToDelete(2)})
        await taken(settings, connection, tmp_path / "a")
        for source in ("orders", tmp_path / "a"):
            process = await command(settings, "replay", "memory", source)
            _, told = await asyncio.wait_for(process.communicate(), PATIENCE)
            assert process.returncode == 0, told
            assert told.decode().count(f"what is replayed begins at {orders}[1]@2:") == 1


async def test_a_topic_that_is_missing_is_named(tmp_path: Path):
    async with running_broker("embedded") as server:
        settings = Settings(broker=server.address, **own_names())
        process = await command(settings, "record", tmp_path / "a")
        _, said = await asyncio.wait_for(process.communicate(), PATIENCE)
    assert process.returncode == 1
    assert settings.topics.orders.encode() in said


async def test_a_batch_that_unpacks_too_far_is_left_out_with_a_warning(tmp_path: Path):
    async with service() as (settings, connection):
        orders = settings.topics.orders
        await publish(connection, orders, 0, [(1_000, b"k", b"before", [])])
        data = packed_batch("zstd", 40, bytes(1_000_000))
        await publish_batch(connection.servers, orders, 0, data)
        await publish(connection, orders, 0, [(2_000, b"k", b"after", [])])
        with capture_logs() as logs:
            await taken(settings, connection, tmp_path / "a")
        found = list(Recording(tmp_path / "a").records())
    assert [(r.offset, r.value) for r in found] == [(0, b"before"), (41, b"after")]
    [said] = [line for line in logs if "left out" in line["event"]]
    assert said["where"] == f"{orders}[0]@1 to @40"
