"""How fast events are replayed in memory, beside the bare engine on the same events.

`python -m benchmarks replay`. Each run is a process of its own, in turns. What is timed begins with
all events in memory and ends with every customer valued; both must come to the same.
"""

import asyncio
import json
import logging
import math
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from statistics import median
from typing import Annotated

import structlog
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks import workload
from benchmarks.report import machine
from models.context import Context
from streams.batch import score_events
from streams.cli.sources import Source, open_source
from streams.datasets import DATASETS
from streams.files.outgoing import OutgoingEvent
from streams.outcome.outcome import Outcome
from streams.replay.memory import in_memory
from streams.replay.orders import FromOrders
from streams.settings import Settings
from streams.testing import shop_settings

ROOT = Path(__file__).resolve().parents[1]
KNOWN = tuple(workload.WORKLOADS)
MADE_EVENTS = 100_000
CONTENDERS = {"engine": "the bare engine", "replay": "clv replay, in memory"}

console = Console(width=120)


@dataclass(frozen=True)
class Run:
    """What one run showed; value: sum over all customers."""

    events: int
    customers: int
    value: float
    seconds: float
    cpu: float
    rss: int


def _events(name: str, count: int) -> tuple[Source, Settings]:
    """The first events of a workload, all of them for 0, in memory; and its shop."""
    if name in DATASETS:
        settings = shop_settings(economics={"currency": DATASETS[name].currency})
        source = open_source(name, settings.economics)
    else:
        settings = shop_settings()
        source = _made(name, count or MADE_EVENTS, settings)
    events = list(islice(source.events(), count or None))
    return replace(source, events=lambda: iter(events), expected=len(events)), settings


def _made(name: str, count: int, settings: Settings) -> Source:
    def events() -> Iterator[OutgoingEvent]:
        for event in workload.events(name, count):
            time = datetime.fromtimestamp(event.timestamp / 1000, UTC)
            yield OutgoingEvent(event.role, event.key, event.value, workload.HEADERS, time)

    end = datetime.fromtimestamp(workload.START + workload.SPAN_SECONDS, UTC)
    return Source(name, settings.economics, events, end)


def engine(source: Source, settings: Settings) -> tuple[int, float]:
    """Fold and value without a broker and topics; customers and their value."""
    if source.as_of is None:
        raise ValueError(f"{source.name} has no as-of time")
    result = score_events(source.events(), Context(settings.economics), source.as_of)
    return len(result.updates), math.fsum(update.clv for update in result.updates)


def replay(source: Source, settings: Settings) -> tuple[int, float]:
    """The service over a simulated broker, every topic written and read."""
    return asyncio.run(_replay(source, settings))


async def _replay(source: Source, settings: Settings) -> tuple[int, float]:
    outcome = Outcome(detailed=False)
    orders = FromOrders(source.events, lambda: source.end().moment, settings.partitions)
    async with in_memory(settings, orders, outcome) as replay:
        await replay.run()
    result = outcome.result()
    if result.disagreements or result.dead_letters:
        raise RuntimeError(f"{result.disagreements}, refused: {result.dead_letters}")
    return result.customers, result.value


def contend(kind: str, dataset: str, count: int) -> Run:
    """Be a contender."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    logging.disable(logging.CRITICAL)
    source, settings = _events(dataset, count)
    began, cpu = time.monotonic(), time.process_time()
    customers, value = {"engine": engine, "replay": replay}[kind](source, settings)
    seconds, cpu = time.monotonic() - began, time.process_time() - cpu
    # Linux counts in KiB, macOS in bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    rss = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
    return Run(source.expected or 0, customers, value, seconds, cpu, rss)


def _run(kind: str, dataset: str, count: int, limit: float) -> Run:
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.replay", kind, dataset, str(count)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        timeout=limit,
        check=True,
    )
    return Run(**json.loads(done.stdout.splitlines()[-1]))


def _range(values: list[float]) -> str:
    return f"{median(values):,.0f} ({min(values):,.0f}–{max(values):,.0f})"


def main(
    *,
    dataset: Annotated[str, typer.Option(help=f"Of {', '.join(KNOWN)}.")] = "cdnow",
    events: Annotated[
        int,
        typer.Option(min=0, help=f"So many of its first events; 0: all, or {MADE_EVENTS} made."),
    ] = 0,
    rounds: Annotated[int, typer.Option(min=1, help="Rounds, in turns.")] = 3,
    limit: Annotated[float, typer.Option(help="Seconds allowed to one run.")] = 600,
) -> None:
    """Measure a replay in memory beside the bare engine."""
    if dataset not in KNOWN:
        raise typer.BadParameter(f"{dataset!r}; known are {', '.join(KNOWN)}")
    runs: dict[str, list[Run]] = {kind: [] for kind in CONTENDERS}
    for number in range(1, rounds + 1):
        for kind, done in runs.items():
            done.append(_run(kind, dataset, events, limit))
            rate = done[-1].events / done[-1].seconds
            console.print(f"round {number} {kind}: {rate:,.0f} events/s")
        came = {(done[-1].customers, done[-1].value) for done in runs.values()}
        if len(came) > 1:
            console.print(f"benchmark failed: they came to different values: {came}")
            raise typer.Exit(1)
    console.print(" ".join(f"{key}={value}" for key, value in machine().items()))
    shown = Table("", box=box.MARKDOWN)
    for heading in ("events", "customers", "events/s", "× engine", "CPU s", "peak MB"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for kind, title in CONTENDERS.items():
        ratios = [e.seconds / r.seconds for e, r in zip(runs["engine"], runs[kind], strict=True)]
        shown.add_row(
            title,
            f"{runs[kind][0].events:,}",
            f"{runs[kind][0].customers:,}",
            _range([run.events / run.seconds for run in runs[kind]]),
            f"{median(ratios):.2f}",
            f"{median(run.cpu for run in runs[kind]):.1f}",
            f"{median(run.rss for run in runs[kind]) / 1e6:,.0f}",
        )
    console.print(shown)


if __name__ == "__main__":
    _kind, _dataset, _count = sys.argv[1:]
    print(json.dumps(contend(_kind, _dataset, int(_count)).__dict__))
