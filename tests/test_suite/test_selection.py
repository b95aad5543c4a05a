"""What `make test` leaves out, and that this is told, and never happens on CI."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.servers.allowed import allow_kafka, require_kafka_allowed

ROOT = Path(__file__).parents[2]
TESTS = """\
import pytest
from hypothesis import given, settings, strategies as st

seen = []

@pytest.mark.slow
def test_slow(): pass

@pytest.mark.parametrize("broker", ["embedded", "kafka"])
def test_either(broker): pass

@settings(max_examples=100, database=None)
@given(st.integers())
def test_property(number): seen.append(number)

def test_share(): assert len(seen) == 20
"""


def run(tmp_path: Path, *options: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run these tests as the whole suite is run."""
    (tmp_path / "conftest.py").write_text("from tests.conftest import *\n")
    (tmp_path / "test_some.py").write_text(TESTS)
    kept = {name: value for name, value in os.environ.items() if name != "CLV_CI"}
    return subprocess.run(
        [
            sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"),
            "--rootdir", str(tmp_path), "--import-mode=prepend", "-p", "no:cacheprovider",
            str(tmp_path), *options,
        ],
        cwd=tmp_path, env=kept | {"PYTHONPATH": str(ROOT)} | variables, capture_output=True,
        text=True, timeout=300, check=False,
    )  # fmt: skip


SHORT = ("-m", "not slow and not kafka", "--hypothesis-profile", "short")


@pytest.mark.parametrize("processes", ["0", "2"])
def test_what_is_left_out_is_told(tmp_path, processes):
    done = run(tmp_path, *SHORT, "-n", processes, "--dist", "loadfile")
    assert "2 tests were left out (1 kafka, 1 slow)" in done.stdout
    assert "3 passed" in done.stdout
    assert done.returncode == 0, done.stdout


def test_on_ci_nothing_is_left_out(tmp_path):
    done = run(tmp_path, *SHORT, "-n", "2", CLV_CI="1")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    done = run(tmp_path, "-k", "not share", "--deselect", "test_some.py::test_share", CLV_CI="1")
    assert done.returncode == pytest.ExitCode.TESTS_FAILED
    assert "1 tests were left out (1 other)" in done.stdout


def test_only_a_marked_test_may_start_kafka():
    with pytest.raises(AssertionError, match=r"mark it with pytest\.mark\.kafka"):
        require_kafka_allowed()
    with allow_kafka(True):
        require_kafka_allowed()


def test_ci_runs_every_test_lints_and_builds_the_documents():
    commands = (ROOT / ".ci/run").read_text().splitlines()
    assert {"make test-all", "make lint", "make docs", "make audit"} <= set(commands)
