"""Metrics: those that are documented are those that are exposed, and they count what happened."""

from __future__ import annotations

import asyncio
import re
import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from models.contracts import EVENT_TYPES
from streams.cache import ScoreCache, connect
from streams.fitter.fitter import Fitter, Kind
from streams.fitter.metrics import fitter_samples
from streams.health.metrics import Measured, worker_samples
from streams.health.server import answering
from streams.kafka.connection import Broker
from streams.metrics.catalogue import CATALOGUE, OUTCOMES, Metric, Process
from streams.metrics.meters import WAITS, Histogram, Samples, one
from streams.registry.records import STATE, Outcome, State
from streams.registry.registry import Registry
from streams.serving.api import create_app
from streams.serving.metrics import Metered
from streams.serving.server import serving
from streams.serving.sources import Sources
from streams.settings import Settings
from streams.testing import Topology
from tests.test_models.parameters import PARAMETERS

from .test_health import GOOD
from .watched_workers import ready, world

parser = pytest.importorskip("prometheus_client.parser", reason="run `make test` to install it")
exposition = pytest.importorskip("streams.metrics.exposition")

ROOT = Path(__file__).parents[2]
DOCUMENT = (ROOT / "docs/metrics.md").read_text()
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
ROW = re.compile(
    r"^\| `(clv_\w+)` \| (\w+) \|((?: `\w+`,?)*) \| (\w+(?:, \w+)*) \| (.+) \|$", re.MULTILINE
)


def documented() -> list[Metric]:
    """The table of docs/metrics.md."""
    return [
        Metric(name, kind, tuple(re.findall(r"\w+", labels)), tuple(processes.split(", ")), meaning)  # type: ignore[arg-type]
        for name, kind, labels, processes, meaning in ROW.findall(DOCUMENT)
    ]


def of(process: Process) -> dict[str, Metric]:
    return {name: each for name, each in CATALOGUE.items() if process in each.processes}


def read(samples: Samples) -> dict[str, Any]:
    """What a scrape gives, by the metric's name, as Prometheus' own parser reads it."""
    text, content_type = exposition.exposed(samples)
    assert content_type.startswith("text/plain")
    return by_name(text.decode())


def by_name(text: str) -> dict[str, Any]:
    """The families of an exposition."""
    families = parser.text_string_to_metric_families(text)
    return {
        f"{each.name}_total" if each.type == "counter" else each.name: each for each in families
    }


def value(scraped: dict[str, Any], metric: str, sample: str = "", **labels: str) -> float:
    """One value of a scrape."""
    [found] = [
        each.value
        for each in scraped[metric].samples
        if each.name == (sample or metric) and each.labels == labels
    ]
    return found


def check(scraped: dict[str, Any], process: Process) -> None:
    """What a process exposes is what the table says of it."""
    ours = {name: each for name, each in scraped.items() if name.startswith("clv_")}
    assert ours.keys() == of(process).keys()
    for name, family in ours.items():
        assert family.type == CATALOGUE[name].kind
        assert family.documentation == CATALOGUE[name].meaning
        for sample in family.samples:
            assert sample.labels.keys() - {"le"} == set(CATALOGUE[name].labels)
    assert value(scraped, "process_resident_memory_bytes") > 1_000_000


def test_the_documented_table_is_the_catalogue():
    assert documented() == list(CATALOGUE.values())


@pytest.mark.parametrize("name", CATALOGUE)
def test_names_follow_the_conventions(name: str):
    """prometheus.io/docs/practices/naming: base units in the name, `_total` for counters alone."""
    assert re.fullmatch(r"clv_[a-z]+(_[a-z]+)*", name)
    assert name.endswith("_total") is (CATALOGUE[name].kind == "counter")
    assert not re.search(r"_(ms|millis\w*|minutes|hours|days|kb|mb|percent)(_|$)", name)
    if CATALOGUE[name].kind == "histogram":
        assert name.endswith("_seconds")


@given(st.lists(st.floats(0, 1e5) | st.sampled_from(WAITS)))
def test_a_histogram_counts_each_value_below_its_bound(values: list[float]):
    histogram = Histogram(WAITS)
    for each in values:
        histogram.observe(each)
    scraped = read({"clv_batch_seconds": [(("orders",), histogram)]})
    for bound in [*WAITS, float("inf")]:
        le = "+Inf" if bound == float("inf") else str(bound)
        counted = value(
            scraped, "clv_batch_seconds", "clv_batch_seconds_bucket", input="orders", le=le
        )
        assert counted == sum(each <= bound for each in values)
    total = value(scraped, "clv_batch_seconds", "clv_batch_seconds_sum", input="orders")
    assert total == pytest.approx(sum(values))


def test_what_is_not_in_the_catalogue_is_not_exposed():
    with pytest.raises(KeyError):
        exposition.exposed({"clv_surprise": one(1)})
    with pytest.raises(ValueError, match="labels"):
        exposition.exposed({"clv_lag_records": one(1)})
    with pytest.raises(ValueError, match="histogram"):
        exposition.exposed({"clv_refit_seconds": one(1)})


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
def test_promtool_finds_no_fault_with_the_exposition():
    samples = worker_samples(GOOD, Measured()) | fitter_samples(fitter(Registry("USD")))
    text, _ = exposition.exposed(samples)
    done = subprocess.run(
        ["promtool", "check", "metrics"], input=text, check=False, capture_output=True
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def test_a_worker_that_starts_exposes_all_of_its_metrics():
    scraped = read(worker_samples(GOOD, Measured()))
    check(scraped, "worker")
    assert value(scraped, "clv_health", status="ok") == 1
    assert value(scraped, "clv_health", status="stalled") == 0
    # A rate from nothing to the first dead letter needs the 0 before it.
    assert value(scraped, "clv_dead_letters_total", reason="not-json") == 0
    outcomes = {each.labels["outcome"] for each in scraped["clv_records_total"].samples}
    assert outcomes == set(OUTCOMES)


class Standing:
    """A fitter's customers, reader and registry, as far as its metrics look."""

    def __init__(self, registry: Registry) -> None:
        self.registry = registry
        self.population = {1: "a", 2: "b", 3: "c"}


def fitter(registry: Registry) -> Fitter:
    around: Any = Standing(registry)
    broker = Broker("127.0.0.1:1")
    return Fitter(Settings(), broker, around, around, kind=Kind(), now=lambda: NOW)


def test_a_fitter_exposes_all_of_its_metrics():
    assert value(read(fitter_samples(None)), "clv_ready") == 0
    registry = Registry("USD")
    working = fitter(registry)
    scraped = read(fitter_samples(working))
    check(scraped, "fitter")
    assert value(scraped, "clv_customers") == 3
    assert scraped["clv_last_refit_timestamp_seconds"].samples == []
    assert {each.labels["outcome"] for each in scraped["clv_refits_total"].samples} == {
        "published", "unchanged", "refused", "impossible",
    }  # fmt: skip

    at = NOW - timedelta(days=2)
    held = PARAMETERS.model_copy(update={"holds_from": at})
    registry.take(held.version.encode(), held.model_dump_json().encode())
    state = State(at=at, outcome="published", version=held.version)
    registry.take(STATE, state.model_dump_json().encode())
    working.every = timedelta(days=7)
    scraped = read(fitter_samples(working))
    assert value(scraped, "clv_parameters_info", version=held.version) == 1
    assert value(scraped, "clv_last_refit_timestamp_seconds") == at.timestamp()
    due = at + timedelta(days=7)
    assert value(scraped, "clv_next_refit_timestamp_seconds") == due.timestamp()


async def test_a_fitter_counts_its_refits(monkeypatch: pytest.MonkeyPatch):
    working = fitter(Registry("USD"))
    outcomes: list[Outcome] = ["refused", "published", "refused"]

    async def ended(_self: Fitter) -> State:
        return State(at=NOW, outcome=outcomes.pop())

    monkeypatch.setattr(Fitter, "_refit", ended)
    for _ in range(3):
        await working.refit()
    scraped = read(fitter_samples(working))
    assert value(scraped, "clv_refits_total", outcome="refused") == 2
    assert value(scraped, "clv_refits_total", outcome="published") == 1
    assert value(scraped, "clv_refit_seconds", "clv_refit_seconds_count") == 3


async def test_metrics_are_served_beside_the_health():
    async with (
        answering(None, "127.0.0.1", 0, lambda: worker_samples(GOOD, Measured())) as port,
        aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
    ):
        async with client.get("/metrics") as response:
            assert response.status == 200
            assert response.headers["Content-Type"].startswith("text/plain; version=")
            assert 'clv_health{status="ok"} 1.0' in (await response.text()).splitlines()
        wanted = {"Accept": "application/openmetrics-text; version=1.0.0"}
        async with client.get("/metrics", headers=wanted) as response:
            assert response.headers["Content-Type"].startswith("application/openmetrics-text")
            assert (await response.text()).endswith("# EOF\n")
        for path, status in (("/live", 200), ("/ready", 404), ("/health", 404)):
            async with client.get(path) as response:
                assert response.status == status
        async with client.post("/metrics") as response:
            assert response.status == 405


async def test_the_read_api_exposes_all_of_its_metrics():
    """Redis is away: its 503 counts as every other answer."""
    redis = connect("redis://127.0.0.1:1/0", timeout_seconds=0.2)
    sources = Sources.of(ScoreCache(redis), Broker("127.0.0.1:1"), Settings())
    app = Metered(create_app(sources))
    try:
        async with (
            serving(app, "127.0.0.1", 0) as port,
            aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client,
        ):
            for path in (
                "/v1/customers/c1",
                "/v1/customers/c2",
                "/v1/nothing",
                "/v1/ranking?limit=0",
            ):
                async with client.get(path) as response:
                    await response.read()
    finally:
        await redis.aclose()
    scraped = read(app.samples())
    check(scraped, "serve")
    answered = {
        (each.labels["path"], each.labels["status"]): each.value
        for each in scraped["clv_requests_total"].samples
    }
    assert answered == {
        ("/v1/customers/{customer_id:path}", "503"): 2,
        ("other", "404"): 1,
        ("/v1/ranking", "422"): 1,
    }
    assert value(scraped, "clv_requests_open") == 0


async def test_a_worker_counts_what_became_of_each_record(topology: Topology):
    for number in range(5):
        await topology.orders.placed(
            f"c{number}", total="40.00 EUR", at="2026-01-03", order_id=f"o{number}"
        )
    await topology.orders.placed("c1", total="40.00 EUR", at="2026-01-03", order_id="o1")
    await topology.publish("shop.orders", key="c1", value=b"no JSON")
    await topology.support.opened("c1", at="2026-01-04")
    await topology.support.opened("c2", at="2026-01-04")
    await topology.customers.acquired("c1", "5.00 EUR", at="2026-01-03")
    await topology.customers.erased("c4", at="2026-01-05")
    await topology.advance(days=200)
    await topology.settled()
    [worker] = topology.workers
    pipeline = worker.pipeline
    scraped = read(
        worker_samples(
            GOOD, Measured(pipeline.counts, pipeline.meters, outstanding=pipeline.outstanding)
        )
    )
    check(scraped, "worker")
    orders = {
        each.labels["outcome"]: each.value
        for each in scraped["clv_records_total"].samples
        if each.labels["input"] == "orders"
    }
    assert orders == {
        "accepted": 5, "duplicate": 1, "refused": 1, "replayed": 0, "forgotten": 0, "rerouted": 0,
    }  # fmt: skip
    events = {each.labels["type"]: each.value for each in scraped["clv_events_total"].samples}
    assert events.keys() == EVENT_TYPES.keys()
    assert {name: count for name, count in events.items() if count} == {
        "order.placed": 5, "ticket.opened": 2, "customer.acquired": 1, "customer.erased": 1,
    }  # fmt: skip
    assert value(scraped, "clv_dead_letters_total", reason="not-json") == 1
    assert value(scraped, "clv_new_customers_total") == 5
    changes = await topology.segment_changes.all()
    removals = await topology.removals.all()
    assert value(scraped, "clv_segment_changes_total") == len(changes) + len(removals)
    assert value(scraped, "clv_removed_customers_total") == len(removals) == 1
    assert value(scraped, "clv_ticks_total") > 0
    for name in ("clv_engine_seconds", "clv_batch_seconds", "clv_end_to_end_seconds"):
        assert value(scraped, name, f"{name}_count", input="orders") > 0
    assert value(scraped, "clv_deliveries_outstanding") == 0


@pytest.mark.slow
async def test_a_worker_process_serves_them(tmp_path: Path):
    async with world(tmp_path, partitions=2) as around:
        worker = await around.worker()
        await worker.until(ready)
        await around.publish(50)
        await worker.until(lambda h: h["counts"]["records"] == 50 and h["lag"] == 0)
        status, text = await worker.get("/metrics")
    assert status == 200
    scraped = by_name(text)
    check(scraped, "worker")
    assert value(scraped, "clv_ready") == 1
    assert value(scraped, "clv_cache_up") == 1
    assert value(scraped, "clv_records_total", input="orders", outcome="accepted") == 50
    assert 50 <= value(scraped, "clv_state_records") < 60
    assert scraped["clv_parameters_info"].samples == []
    lags = {
        (each.labels["topic"], each.labels["partition"]): each.value
        for each in scraped["clv_lag_records"].samples
    }
    topics = around.settings.topics.sources
    assert lags == {(topic, partition): 0 for topic in topics for partition in ("0", "1")}
    assert value(scraped, "clv_partitions") == len(lags)
    assert "c1" not in text.split()


@pytest.mark.slow
async def test_fitter_and_read_api_serve_theirs_as_commands(tmp_path: Path):
    async with world(tmp_path, partitions=1) as around:
        for command, process in ((["fitter"], "fitter"), (["serve", "--port", "0"], "serve")):
            running = await around.command(*command)
            await running.alive()
            async with asyncio.timeout(60):
                while True:
                    status, text = await running.get("/metrics")
                    assert status == 200
                    scraped = by_name(text)
                    # A fitter has read nothing yet when it begins to answer.
                    if process == "serve" or value(scraped, "clv_ready") == 1:
                        break
                    await asyncio.sleep(0.1)
            check(scraped, process)


def test_the_documented_alerts_are_those_that_there_are():
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text())["groups"][0][
        "rules"
    ]
    listed = re.findall(r"^\| `(Clv\w+)` \| (\w+) \|", DOCUMENT, re.MULTILINE)
    assert listed == [(rule["alert"], rule["labels"]["severity"]) for rule in rules]
