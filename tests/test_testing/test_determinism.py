"""The same calls give the same records, in another process too."""

import os
import subprocess
import sys

import pytest


def records(seed: str) -> bytes:
    """What the broker holds after the scenario, with sets and dictionaries in another order."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.test_testing.scenario"],
        env=os.environ | {"PYTHONHASHSEED": seed},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout


@pytest.mark.slow
def test_the_same_calls_give_the_same_bytes() -> None:
    first = records("1")
    assert b"merged" in first
    assert first == records("2")
