"""How much slower a worker is while `clv serve` answers: `python -m benchmarks beside`.

One embedded broker and Redis, one worker that works off orders of known customers as fast as it
can, and one `clv serve`, which runs all the time. Clients, in a process of their own at a low
priority, ask it for customers, lists and changes at a steady rate in every second window of time;
in the others nobody asks. A window with load is compared with those before and after it.

The worker has a processor of its own, as in a cluster, unless all are shared on request.
"""

from __future__ import annotations

import asyncio
import json
import multiprocessing
import os
import signal
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import asdict, dataclass, replace
from math import exp, inf, log, nan, sqrt
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import mean, median, stdev
from typing import Annotated
from urllib.parse import quote

import aiohttp
import typer
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.contenders.ours import PARAMETERS
from benchmarks.report import machine, spread
from benchmarks.scaling import publish, running, scrape, shop_environment, shop_settings
from benchmarks.serving import Latencies, client, percentiles
from streams.embedded import embedded_servers
from streams.kafka.connection import Broker
from streams.parameters import publish_parameters
from streams.settings import Settings
from streams.topics import prepare_topics

MIX = (
    ("/v1/ranking?limit=50", 8),
    ("/v1/segments", 6),
    ("/v1/segments/lifecycle/active?limit=50", 6),
    ("/v1/flows", 5),
    ("/changes", 5),
)
"""How often each is asked for, of 100 requests; the others are for a customer."""

CUSTOMERS = 500
"""The clients ask for those who are worth most."""

BATCH = 500
"""Records of a batch at most: 5,000 as they come take a second, too long for windows of some."""

KNOWN_ORDERS = 3
"""Of each customer before the first window: first ones bring more segment changes."""

NICE = 10
SETTLE_SECONDS = 1.5
"""After the clients have begun or ended; not measured."""

POLL_SECONDS = 0.05

console = Console(width=160)


@dataclass(frozen=True)
class Window:
    """What was seen in a window; times in seconds, `cpu_us` in processor µs a record.

    serve: processors that `clv serve` took, without the process that sums beside it. answers: a
    second. p50 and p99: from sending a request until its answer was read; 0 without load.
    """

    loaded: bool
    seconds: float
    records: float
    cpu_us: float
    serve: float
    answers: float = 0.0
    p50: float = 0.0
    p99: float = 0.0

    @property
    def worker(self) -> float:
        """Processors that the worker took."""
        return self.records * self.cpu_us / 1e6


@dataclass(frozen=True)
class Plan:
    """What to run; see `main`."""

    loaded: int
    seconds: float
    clients: int
    requests: float
    customers: int
    orders: int
    limit: float
    shared: bool = False


def _asking(url: str, clients: int, requests: float, told: Connection) -> None:
    """Ask whenever something is said; what is said next begins a window, then ends it."""
    os.nice(NICE)
    while told.recv():
        told.send(asyncio.run(_load(url, clients, requests, told)))


async def _load(
    url: str, clients: int, requests: float, told: Connection
) -> tuple[float, Latencies]:
    """Return for how long was asked, and how long each answer took."""
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:
        async with session.get(f"{url}/v1/ranking?limit={CUSTOMERS}") as response:
            response.raise_for_status()
            ids = [each["customer_id"] for each in (await response.json())["customers"]]
        paths = [url + path for path in requested(ids)]
        found: Latencies = []
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(client(session, paths, clients / requests, inf, found))
                for _ in range(clients)
            ]
            await asyncio.to_thread(told.recv)
            found.clear()
            began = time.perf_counter()
            await asyncio.to_thread(told.recv)
            while not found:  # noqa: ASYNC110 - a median needs an answer
                await asyncio.sleep(POLL_SECONDS)
            seconds = time.perf_counter() - began
            for task in tasks:
                task.cancel()
    return seconds, found


def requested(ids: Sequence[str]) -> list[str]:
    """Return paths in which each of the mix has its share, however many customers there are."""
    times = CUSTOMERS // 100
    lists = [path for path, share in MIX for _ in range(share * times)]
    customers = [f"/v1/customers/{quote(each, safe='')}" for each in ids]
    return lists + [customers[n % len(customers)] for n in range(100 * times - len(lists))]


@contextmanager
def _clients(url: str, clients: int, requests: float) -> Iterator[Connection]:
    """Run the process of the clients in the context."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    arguments = (url, clients, requests, theirs)
    process = context.Process(target=_asking, args=arguments, daemon=True)
    process.start()
    theirs.close()
    try:
        yield ours
    finally:
        process.terminate()
        process.join()


@contextmanager
def _on(processors: set[int]) -> Iterator[None]:
    """Run this process, and what it starts in the context, on these processors."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, processors)
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


@dataclass(frozen=True)
class _Moment:
    """When a batch was done: monotonic seconds; records, and processor seconds of both so far."""

    at: float
    records: float
    cpu: float
    serve: float


@dataclass(frozen=True)
class _Bench:
    """A worker at work, `clv serve`, and its clients."""

    worker: int
    serve: int
    asking: Connection

    async def window(self, seconds: float, backlog: int, *, loaded: bool) -> Window | None:
        """Measure a window of so many seconds, from the end of a batch to that of another.

        None if the worker has done all `backlog` records before the window ends.
        """
        if loaded:
            self.asking.send(True)
        await asyncio.sleep(SETTLE_SECONDS)
        first = await self._batch_done(backlog)
        if loaded:
            self.asking.send(True)
        await asyncio.sleep(seconds)
        last = await self._batch_done(backlog)
        asked, found = 0.0, Latencies()
        if loaded:
            self.asking.send(True)
            asked, found = await asyncio.to_thread(self.asking.recv)
        if first is None or last is None:
            return None
        took, records = last.at - first.at, last.records - first.records
        measured = Window(
            loaded, took, records / took, (last.cpu - first.cpu) / records * 1e6,
            (last.serve - first.serve) / took,
        )  # fmt: skip
        if not loaded:
            return measured
        p50, p99 = percentiles(found)
        return replace(measured, answers=len(found) / asked, p50=p50, p99=p99)

    async def _batch_done(self, backlog: int) -> _Moment | None:
        before = await asyncio.to_thread(scrape, self.worker)
        while True:
            seen = await asyncio.to_thread(scrape, self.worker)
            at = time.monotonic()
            if seen["clv_records_total"] >= backlog:
                return None
            if seen["clv_records_total"] > before["clv_records_total"]:
                break
            await asyncio.sleep(POLL_SECONDS)
        serve = await asyncio.to_thread(scrape, self.serve)
        cpu = "process_cpu_seconds_total"
        return _Moment(at, seen["clv_records_total"], seen[cpu], serve[cpu])


async def measure(plan: Plan) -> list[Window]:
    """Return the windows, without load and with it in turn.

    Errors: RuntimeError if a process does not start, or there is no processor for the worker alone.
    """
    others = os.sched_getaffinity(0)
    own = others if plan.shared else {min(others)}
    if not plan.shared and not (others := others - own):
        raise RuntimeError("there is one processor only: --shared")
    async with AsyncExitStack() as stack:
        stack.enter_context(_on(others))
        servers = await stack.enter_async_context(embedded_servers())
        broker = Broker(servers.broker.address)
        name = f"beside-{uuid.uuid4().hex[:6]}"
        settings = shop_settings(name)
        environment = shop_environment(settings, broker, servers.redis.url)
        environment["CLV_POLL_RECORDS"] = str(BATCH)
        await prepare_topics(settings, broker)
        await publish_parameters(broker, settings.topics.models, PARAMETERS)
        await _publish(broker, settings, plan.customers, range(1, plan.orders + 1))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clv-beside-")))
        log = directory / "serve.log"
        command = ("streams.cli", "serve", "--port", "0")
        serve = stack.enter_context(running(environment, log, command))
        url = await _address(log, plan.limit)
        asking = stack.enter_context(_clients(url, plan.clients, plan.requests))
        with _on(own):
            worker = stack.enter_context(running(environment, directory / "worker.log"))
        await _known(worker, plan)
        bench = _Bench(worker, serve, asking)
        orders, windows = plan.orders, list[Window]()
        while (number := len(windows)) < 2 * plan.loaded + 1:
            backlog = plan.customers * orders
            seen = await bench.window(plan.seconds, backlog, loaded=number % 2 == 1)
            if seen is not None:
                windows.append(seen)
                _say(number, seen)
                continue
            console.print(f"{backlog:,} orders were done too early: as many again")
            await _publish(broker, settings, plan.customers, range(orders + 1, 2 * orders + 1))
            orders *= 2
        return windows


async def _publish(broker: Broker, settings: Settings, customers: int, days: range) -> None:
    """Publish an order of each customer for each of these days."""
    for day in days:
        await publish(broker, settings, customers, customers, day)


async def _known(worker: int, plan: Plan) -> None:
    """Wait until each customer has so many orders that the next ones cost about the same."""
    orders = KNOWN_ORDERS * plan.customers
    deadline = time.monotonic() + plan.limit
    while True:
        seen = await asyncio.to_thread(scrape, worker)
        if seen.get("clv_records_total", 0) >= orders:
            return
        if time.monotonic() > deadline:
            raise RuntimeError(f"not {orders:,} orders within {plan.limit:g} s: {seen}")
        await asyncio.sleep(POLL_SECONDS)


async def _address(log: Path, limit: float) -> str:
    """Return where `clv serve` says that it serves."""
    deadline = time.monotonic() + limit
    while "serving http" not in (said := await asyncio.to_thread(log.read_text)):
        if time.monotonic() > deadline:
            raise RuntimeError(f"`clv serve` did not start:\n{said}")
        await asyncio.sleep(POLL_SECONDS)
    return said.partition("serving ")[2].split("/ ", 1)[0]


def ratios(windows: Sequence[Window], value: Callable[[Window], float]) -> list[float]:
    """Return the value with load over the mean of those without, right before and right after."""
    return [
        value(loaded) / mean((value(before), value(after)))
        for before, loaded, after in zip(
            windows[:-2:2], windows[1:-1:2], windows[2::2], strict=True
        )
    ]


def mean_ratio(ratios: Sequence[float]) -> tuple[float, float]:
    """Return the geometric mean of ratios, and how far its 95 % interval reaches to each side.

    By the normal distribution; nan of fewer than two.
    """
    logs = [log(each) for each in ratios]
    middle = exp(mean(logs))
    if len(logs) < 2:
        return middle, nan
    return middle, 1.96 * middle * stdev(logs) / sqrt(len(logs))


def _say(number: int, seen: Window) -> None:
    answered = ""
    if seen.loaded:
        p50, p99 = 1e3 * seen.p50, 1e3 * seen.p99
        answered = f", {seen.answers:,.1f} answers/s, p50 {p50:,.1f} ms, p99 {p99:,.1f} ms"
    console.print(
        f"window {number + 1}: {seen.records:,.0f} records/s, {seen.cpu_us:,.0f} µs each, "
        f"serve {seen.serve:.2f} of a processor{answered}"
    )


def _show(windows: Sequence[Window]) -> None:
    """Print medians, with least and greatest."""
    shown = Table("", box=box.MARKDOWN)
    for heading in (
        "records/s", "processor µs a record", "processors of the worker", "of serve", "answers/s",
        "p50 ms", "p99 ms",
    ):  # fmt: skip
        shown.add_column(heading, justify="right")
    for what, loaded in (("nobody asks", False), ("clients ask", True)):
        those = [each for each in windows if each.loaded == loaded]
        cells = [
            spread([each.records for each in those]),
            spread([each.cpu_us for each in those]),
            spread([each.worker for each in those], ".2f"),
            f"{median(each.serve for each in those):.2f}",
        ]
        if loaded:
            cells += [
                f"{median(each.answers for each in those):.1f}",
                spread([1e3 * each.p50 for each in those], ".1f"),
                spread([1e3 * each.p99 for each in those], ".1f"),
            ]
        shown.add_row(what, *cells)
    of: tuple[Callable[[Window], float], ...] = (
        lambda each: each.records,
        lambda each: each.cpu_us,
        lambda each: each.worker,
    )
    found = [ratios(windows, value) for value in of]
    shown.add_row("ratio", *(spread(each, ".2f") for each in found))
    means = [mean_ratio(each) for each in found]
    shown.add_row("mean ratio", *(f"{middle:.3f} ± {reach:.3f}" for middle, reach in means))
    console.print(shown)


def main(
    *,
    loaded: Annotated[int, typer.Option(min=1, help="With load, each between two without.")] = 4,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of a window.")] = 6,
    clients: Annotated[int, typer.Option(min=1, help="Who ask.")] = 50,
    requests: Annotated[float, typer.Option(min=0.1, help="Of all clients a second.")] = 50,
    customers: Annotated[int, typer.Option(min=100, help="Known customers.")] = 20_000,
    orders: Annotated[
        int,
        typer.Option(min=KNOWN_ORDERS + 1, help="Of each customer; more follow if needed."),
    ] = 30,
    limit: Annotated[float, typer.Option(help="Seconds allowed to one step.")] = 300,
    shared: Annotated[
        bool, typer.Option("--shared", help="The worker has no processor of its own.")
    ] = False,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write it to this file.")] = None,
) -> None:
    """Measure a worker while nobody asks `clv serve`, and while clients do."""

    async def ended_by_signal() -> list[Window]:
        # Termination must end the servers and the others too.
        this = asyncio.current_task()
        assert this is not None
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
        return await measure(plan)

    plan = Plan(loaded, seconds, clients, requests, customers, orders, limit, shared)
    console.print(" ".join(f"{key}={value}" for key, value in machine().items()))
    found = asyncio.run(ended_by_signal())
    _show(found)
    if json_file:
        document = {
            "machine": machine(),
            "plan": asdict(plan),
            "windows": [asdict(each) for each in found],
        }
        json_file.write_text(json.dumps(document, indent=2) + "\n")
