"""Ends of workers: which nobody asked for, what they said, and what a soak makes of them."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from streams.transport.lease import FENCED
from tests.faults.ends import Ended, last_words, told
from tests.faults.fleet import ENDS, Fleet
from tests.faults.soak_report import Broken, Reading, Sample, Soak, creep


def logged(level: str, event: str) -> str:
    return json.dumps({"level": level, "event": event})


def test_the_last_words_are_the_farewell_before_any_logged_error_before_the_last_line():
    log = "\n".join([logged("error", "one"), logged("error", "two"), logged("info", "three")])
    assert last_words(log) == "two"
    assert last_words(f"error: the worker stopped\n{log}") == "error: the worker stopped"
    assert last_words("Timeout (0:00:08)!\nThread 0x1") == "Timeout (0:00:08)!"
    assert last_words("Traceback\nValueError: 3\n") == "ValueError: 3"
    assert last_words("\n") == "it said nothing"


def test_ends_that_differ_in_numbers_only_are_told_as_one_kind():
    ends = [
        Ended(0, 1, 1.0, asked=False, words="no broker at port 123"),
        Ended(1, 1, 2.0, asked=False, words="no broker at port 45"),
        Ended(0, 76, 3.0, asked=False, words="no broker at port 45"),
        Ended(0, -9, 4.0),
    ]
    assert told(ends) == [
        "2 x status 1: no broker at port 45",
        "1 x status 76: no broker at port 45",
    ]


async def test_a_process_that_ends_unasked_leaves_the_log_of_its_life_and_no_other(tmp_path: Path):
    fleet = Fleet(tmp_path, {}, ["json.tool", str(tmp_path / "missing.json")])
    first = fleet.next_end(0)
    fleet.resize(1)
    try:
        await first
        again = await fleet.next_end(0)
    finally:
        await fleet.stop()
    assert not again.asked
    assert again.status > 0
    assert "missing.json" in again.words
    kept = [path.read_text() for path in sorted((tmp_path / ENDS).iterdir())]
    assert len(kept) >= 2
    assert all(text.count("No such file") == 1 for text in kept)


async def test_an_end_by_the_faults_own_signal_is_asked_for(tmp_path: Path):
    fleet = Fleet(tmp_path, {}, ["http.server", "0"])
    fleet.resize(1)
    try:
        for _ in range(400):
            if fleet.slots[0].running:
                break
            await asyncio.sleep(0.05)
        killed = fleet.next_end(0)
        fleet.slots[0].kill()
        end = await killed
    finally:
        await fleet.stop()
    assert (end.status, end.asked) == (-signal.SIGKILL, True)
    assert not (tmp_path / ENDS).exists()


def life(per_minute: float, readings: int, jump: float = 0.0) -> list[Reading]:
    """Of a worker that creeps, and jumps once halfway."""
    return [
        Reading(5.0 * n, 100 + per_minute * 5.0 * n / 60 + (jump if n > readings // 2 else 0.0))
        for n in range(readings)
    ]


def test_a_creep_is_seen_where_memory_also_jumps():
    assert creep([life(3.0, 36)]) == pytest.approx(3.0)
    assert creep([life(3.0, 36, jump=25.0)]) == pytest.approx(3.0)
    assert creep([life(0.0, 36), life(3.0, 36)]) == pytest.approx(1.5)
    assert creep([life(3.0, 4)]) is None
    # While a server is away, what waits for it takes room.
    away = Broken(0.0, "refused", "broker", 60.0, 20.0)
    assert creep([life(0.0, 36), life(30.0, 16)], [away]) == pytest.approx(0.0)


def test_memory_is_flat_if_nothing_creeps_and_later_workers_need_no_more():
    def soak(lives: list[list[Reading]], memory: Callable[[int], float]) -> Soak:
        samples = [Sample(5.0 * n, memory(n) + 0.1 * n, 0.1 * n, 0, 0) for n in range(36)]
        return Soak(1, samples=samples, lives=dict(enumerate(lives)))

    assert soak([life(0.5, 36, jump=25.0)], lambda _: 150.0).memory_is_flat
    assert not soak([life(5.0, 36)], lambda _: 150.0).memory_is_flat
    assert not soak([life(0.0, 36)], lambda n: 100.0 + 3.0 * n).memory_is_flat
    assert not soak([life(0.0, 4)], lambda _: 150.0).memory_is_flat


def test_only_what_a_worker_needs_explains_that_it_ended_with_an_error():
    found = Soak(
        1,
        began=1_000.0,
        breaks=[
            Broken(60.0, "refused", "broker", 5.0, 10.0),
            Broken(120.0, "kill", "worker", 5.0, 10.0),
        ],
    )
    during, after, killed = (1_000.0 + seconds for seconds in (70.0, 80.0, 125.0))
    found.ends = [
        Ended(0, 1, during, asked=False),
        Ended(0, FENCED, after, asked=False),
        Ended(0, -signal.SIGKILL, killed),
    ]
    assert found.unexplained == []
    found.ends += [Ended(0, 1, at, asked=False) for at in (after, killed)]
    assert found.unexplained == found.ends[-2:]
    assert not found.ok
