"""No worker starts without an erasure key, and none goes on with another one."""

import secrets
import stat

import pytest
from faust.types import TP
from pydantic import ValidationError

from models.aggregate.record import BASIS_KEY, ERASURE_KEY, erasure_fingerprint, former_key
from streams.basis.key import ErasureKeyChanged
from streams.basis.record import decode_basis
from streams.cli.checks.erasure import erasure_key, key_of_state
from streams.embedded import EmbeddedBroker
from streams.settings import ErasureKeyMissing, Settings
from streams.testing import WorkerCrashed, running_topology, shop_settings
from streams.topics import changelog_topic

from ..commands import refused

KEY = secrets.token_hex(32)


@pytest.mark.parametrize(
    "command", [("worker",), ("rebuild-cache",), ("erase", "c1"), ("accept-loss",)]
)
def test_without_a_key_nothing_starts_and_it_is_said_what_to_do(command):
    message = refused(
        *command, CLV_ERASURE_KEY=None, CLV_BROKER="127.0.0.1:1", CLV_REDIS="redis://127.0.0.1:1/0"
    )
    assert "set CLV_ERASURE_KEY" in message.replace("Set", "set")
    assert "secrets.token_hex(32)" in message


def test_a_key_that_is_too_short_is_refused_and_not_shown():
    message = refused("worker", CLV_ERASURE_KEY="short-and-secret")
    assert "erasure_key: it has 16 bytes, and needs 32 or more" in message
    assert "short-and-secret" not in message
    assert "CLV_ERASURE_KEY=" in message


def test_any_text_of_32_bytes_is_a_key(monkeypatch):
    monkeypatch.delenv("CLV_ERASURE_KEY")
    assert Settings(erasure_key="ä" * 16).erasure_secret == "ä".encode() * 16
    with pytest.raises(ValidationError):
        Settings(erasure_key="a" * 31)
    with pytest.raises(ErasureKeyMissing, match="CLV_ERASURE_KEY"):
        _ = Settings().erasure_secret


async def test_the_embedded_broker_keeps_one_key_for_its_owner_alone():
    async with EmbeddedBroker() as broker:
        key = broker.erasure_key
        assert broker.erasure_key == key
        [file] = broker.private_directory.glob("erasure.key")
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(broker.private_directory.stat().st_mode) == 0o700
        assert Settings(erasure_key=key).erasure_secret == key.encode()
    assert not file.exists()


async def test_a_worker_with_another_key_stops_before_it_works():
    async with running_topology(shop_settings(partitions=1, erasure_key=KEY)) as topology:
        await topology.orders.placed("c1", total="40.00 EUR", at="2026-01-03")
        await topology.settled()
        await topology.stop_worker()
        log = topology.broker.logs[TP(changelog_topic(topology.settings), 0)]
        stored = {record.key: record.value for record in log}
        assert stored[ERASURE_KEY] == erasure_fingerprint(KEY.encode())
        other = erasure_fingerprint(b"another")
        topology.broker.append(TP(changelog_topic(topology.settings), 0), other, ERASURE_KEY)
        with pytest.raises(WorkerCrashed):
            await topology.start_worker()
        assert isinstance(await topology.crash(), ErasureKeyChanged)


async def test_marks_of_the_inputs_are_keyed_and_recognised_again():
    async with running_topology(shop_settings(partitions=1, erasure_key=KEY)) as topology:
        await topology.orders.placed("c1", total="40.00 EUR", at="2026-01-03")
        await topology.settled()
        await topology.stop_worker()
        log = topology.broker.logs[TP(changelog_topic(topology.settings), 0)]
        [*_, last] = [record.value for record in log if record.key == BASIS_KEY]
        marks = decode_basis(last, 0).marks
        assert marks
        assert all(mark.is_sealed for mark in marks.values())
        await topology.start_worker()
        await topology.orders.placed("c1", total="40.00 EUR", at="2026-01-04")
        assert (await topology.updates.last("c1")).totals.orders == 2


def test_doctor_says_whether_the_key_is_the_one_of_the_state():
    settings = shop_settings(erasure_key=KEY)
    ours = erasure_fingerprint(KEY.encode())
    plain = b"\2" + bytes(16)

    def judged(held):
        [check] = key_of_state(settings, held)
        return check.status

    assert judged({0: ours, 1: ours}) == "ok"
    assert judged({}) == "ok"
    assert judged({0: ours, 1: erasure_fingerprint(b"x")}) == "fail"
    assert judged({0: plain}) == "fail"
    assert not list(erasure_key(settings))
    [missing] = erasure_key(settings.model_copy(update={"erasure_key": None}))
    assert (missing.status, "CLV_ERASURE_KEY" in missing.advice) == ("fail", True)
    assert former_key(b"c1", b"") != former_key(b"c1", KEY.encode())
