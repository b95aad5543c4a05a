"""The same calls give the same records, in another process too."""

import itertools
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from streams import ticks
from streams.pacing import FIRST
from streams.testing import running_topology


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


async def sweep_of_many(seconds: float, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the broker holds after a sweep, if the engine takes so long for each step."""
    clock = itertools.count()
    with monkeypatch.context() as patched:
        patched.setattr(ticks, "time", SimpleNamespace(monotonic=lambda: seconds * next(clock)))
        async with running_topology() as topology:
            for number in range(8 * FIRST):
                await topology.orders.placed(f"c{number}", total=10, at="2026-01-03")
            await topology.advance(days=200)
            return [
                repr(record)
                for tp in sorted(topology.broker.logs)
                for record in topology.broker.logs[tp]
            ]


async def test_how_fast_the_machine_is_changes_no_byte(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = await sweep_of_many(0.0, monkeypatch)
    assert fast == await sweep_of_many(10.0, monkeypatch)
