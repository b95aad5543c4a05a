"""The benchmark of a worker beside the API does its work; no test here is about how fast."""

from __future__ import annotations

import asyncio
import math
from collections import Counter

import pytest

from benchmarks import beside


def test_a_window_with_load_is_compared_with_its_neighbours():
    records = [10.0, 6.0, 14.0, 9.0, 4.0]
    windows = [
        beside.Window(loaded=n % 2 == 1, seconds=1.0, records=each, cpu_us=1.0, serve=0.1)
        for n, each in enumerate(records)
    ]
    assert beside.ratios(windows, lambda each: each.records) == [0.5, 1.0]


def test_each_kind_of_request_has_its_share():
    paths = Counter(beside.requested([f"c{n}" for n in range(30)]))
    assert paths.total() == 500
    assert paths["/v1/ranking?limit=50"] == 40
    assert paths["/changes"] == 25
    asked = {path: n for path, n in paths.items() if path.startswith("/v1/customers/")}
    assert len(asked) == 30
    assert sum(asked.values()) == 350


@pytest.mark.slow
def test_a_worker_works_on_while_clients_ask(monkeypatch, capsys):
    monkeypatch.setattr(beside, "SETTLE_SECONDS", 0.2)
    # All of these orders are done before the first window, so that more must follow.
    plan = beside.Plan(
        loaded=1, seconds=0.5, clients=5, requests=40, customers=1_000, orders=3, limit=120
    )
    windows = asyncio.run(beside.measure(plan))
    assert "3,000 orders were done too early" in capsys.readouterr().out
    assert [each.loaded for each in windows] == [False, True, False]
    for each in windows:
        assert each.seconds >= 0.5
        assert each.records > 0
        assert each.cpu_us > 0
        assert (each.answers > 0) == (0 < each.p50 <= each.p99) == each.loaded


def test_the_mean_ratio_is_between_ratios_and_their_inverses():
    middle, reach = beside.mean_ratio([0.5, 2.0, 1.0])
    assert middle == pytest.approx(1.0)
    assert reach == pytest.approx(1.96 * math.log(2.0) / math.sqrt(3.0))
    assert math.isnan(beside.mean_ratio([0.9])[1])
