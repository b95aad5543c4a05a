"""`clv demo`: its report, its end, and what it leaves alone."""

import asyncio
import json
import signal
import subprocess
import sys

import pytest
from pydantic import SecretStr

from streams.cli.demo import _variables, program
from streams.datasets import DATASETS
from streams.datasets.dataset import DatasetMissingError
from streams.embedded import embedded_servers
from streams.settings import Settings

from .commands import CLV, environment, started, until


def report_of(done: subprocess.CompletedProcess[str]) -> dict:
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    *_, last = done.stdout.splitlines()
    return json.loads(last)


@pytest.mark.slow
def test_the_demo_ends_with_a_report_that_adds_up():
    report = report_of(started("demo", "--dataset", "cdnow", "--once", "--json"))
    assert report["dataset"] == "cdnow"
    assert report["simulated"] is True
    assert report["events"] > DATASETS["cdnow"].orders
    assert report["accepted"] + report["duplicates"] + report["dead_letters"] == report["events"]
    assert report["dead_letters"] == 0
    assert report["customers"] == report["cached_customers"] == 23_570
    assert report["updates"] >= report["customers"]
    assert report["segment_changes"] >= 3 * report["customers"]
    assert report["events_per_second"] > 0
    assert report["parameters"].startswith("mbg-nbd-1998-07-01-")  # Of the second fit.
    # Who bought on the last day of the data is lost in the end, one step after the other.
    silence = [each["current"] for each in report["silence"] if each["dimension"] == "lifecycle"]
    assert silence[-1] == "lost"
    assert len(silence) > 1
    times = [each["as_of"] for each in report["silence"]]
    assert times == sorted(times)
    assert times[0] > "1998-07-01"
    for dimension in report["segments"].values():
        assert sum(segment["customers"] for segment in dimension.values()) == 23_570


@pytest.mark.parametrize(
    ("found", "called", "said"),
    [
        ("/usr/bin/clv", "/usr/bin/clv", "clv"),
        (None, ".venv/bin/clv", ".venv/bin/clv"),
        (None, "/a shop/.venv/bin/clv", "'/a shop/.venv/bin/clv'"),
        (None, "streams/cli/__main__.py", "'/a shop/.venv/bin/python' -m streams.cli"),
    ],
)
def test_the_demo_names_its_program_so_that_a_shell_finds_it(
    found, called, said, monkeypatch, tmp_path
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("shutil.which", lambda _name: found)
    monkeypatch.setattr(sys, "argv", [called, "demo"])
    monkeypatch.setattr(sys, "executable", "/a shop/.venv/bin/python")
    assert program() == said


@pytest.mark.slow
def test_the_demo_counts_what_online_retail_lacks():
    try:
        DATASETS["online-retail"].path()
    except DatasetMissingError as missing:
        pytest.skip(str(missing))
    report = report_of(started("demo", "--dataset", "online-retail", "--once", "--json"))
    assert report["simulated"] is False
    assert report["events"] == 25_900
    assert report["dead_letters_by_reason"] == {"missing-customer": 3_710}
    assert report["accepted"] + report["duplicates"] == 25_900 - 3_710
    assert report["customers"] == report["cached_customers"] == 4_372


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_demo_that_is_interrupted_ends_without_a_traceback(number, tmp_path):
    with (tmp_path / "log").open("w+") as log:
        process = subprocess.Popen(
            [*CLV, "demo", "--no-simulated", "--json"],
            stdout=subprocess.DEVNULL,
            stderr=log,
            env=environment(),
        )
        with process:
            try:
                until(lambda: "Publishing" in (tmp_path / "log").read_text())
                process.send_signal(number)
                assert process.wait(timeout=120) == 130
            finally:
                process.kill()
    said = (tmp_path / "log").read_text()
    assert "Traceback" not in said
    assert said.endswith("interrupted\n")


@pytest.mark.slow
def test_the_demo_keeps_to_itself_on_servers_that_others_use(tmp_path):
    """On a configured broker it has topics of its own, and says where it can be looked at."""

    async def demo_and_doctor() -> str:
        async with embedded_servers() as servers:
            variables = {
                "CLV_BROKER": servers.broker.address,
                "CLV_REDIS": servers.redis.url,
                "CLV_SESSION_TIMEOUT": "4",
                "CLV_HEARTBEAT_INTERVAL": "1",
            }
            done = await asyncio.to_thread(
                started, "demo", "--no-simulated", "--once", "--json", **variables
            )
            assert report_of(done)["broker"] == servers.broker.address
            return (await asyncio.to_thread(started, "doctor", **variables)).stdout

    said = asyncio.run(demo_and_doctor())
    assert "missing: shop.orders" in said
    assert "0 customers are cached" in said


def test_the_demos_key_is_for_its_own_broker_only(monkeypatch):
    for name in ("CLV_BROKER", "CLV_REDIS", "CLV_ERASURE_KEY"):
        monkeypatch.delenv(name, raising=False)
    settings = Settings(
        broker="127.0.0.1:1", redis="redis://127.0.0.1:2/0", erasure_key=SecretStr("k" * 64)
    )
    own = dict(each.split("=", 1) for each in _variables(settings))
    assert own["CLV_ERASURE_KEY"] == "k" * 64
    assert own["CLV_BROKER"] == "127.0.0.1:1"
    monkeypatch.setenv("CLV_BROKER", "shop:9092")
    assert list(_variables(settings)) == ["CLV_REDIS=redis://127.0.0.1:2/0"]
