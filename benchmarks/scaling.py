"""What customers cost: bytes of state and topics, processor time of an event and of a tick, memory.

`python -m benchmarks scaling`. First the engine alone folds the orders of some customers. Then
their records, copied under other ids until there are enough, become the changelog of a real worker,
which restores them and processes orders of some of them; it is asked for its own metrics.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import tempfile
import time
import urllib.request
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer
from prometheus_client.parser import text_string_to_metric_families
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.contenders.ours import PARAMETERS
from benchmarks.heavy import Heavy, Record
from benchmarks.heavy import measure as measure_heavy
from benchmarks.report import machine
from benchmarks.workload import HEADERS
from models.aggregate.record import is_customer
from models.context import Context
from models.economics import Economics
from models.engine import advance, process
from models.timeline import Timeline
from streams.embedded import embedded_servers
from streams.kafka.connection import Broker
from streams.kafka.partitions import TopicPartition, home_partition
from streams.kafka.writing import record_writer
from streams.parameters import publish_parameters
from streams.settings import Settings
from streams.simulation.settings import TESTING_ERASURE_KEY
from streams.topics import changelog_topic, prepare_topics

ROOT = Path(__file__).resolve().parents[1]
START = datetime(2023, 1, 1, tzinfo=UTC).timestamp()
SPAN_SECONDS = 730 * 86_400
ORDERS = 3.0
"""Orders of a customer, in the mean; CDNOW's have 2.96."""

BATCH = 1_000
"""Small enough that hardly any customer comes twice in one, as in a large shop."""

AT_ONCE = 20_000
ECONOMICS = Economics(currency="EUR")

console = Console(width=120)


def order(customer: bytes, number: int, seconds: float, rng: random.Random) -> tuple[int, bytes]:
    """Return the time in milliseconds and the event of an order."""
    at = datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    cents = min(int(rng.lognormvariate(8.3, 0.6)), 10_000_000)
    return int(seconds * 1000), (
        f'{{"specversion":"1.0","id":"e{number}","source":"/shop/eu","type":"order.placed",'
        f'"time":"{at}","datacontenttype":"application/json","data":{{"order_id":"o{number}",'
        f'"customer_id":"{customer.decode()}","placed_at":"{at}","currency":"EUR",'
        f'"total":"{cents // 100}.{cents % 100:02d}"}}}}'
    ).encode()


def history(customers: int) -> Iterator[Record]:
    """Yield the orders of customers in the order of time: a geometric number of each."""
    rng = random.Random(1)
    times = []
    for number in range(customers):
        orders = 1
        while rng.random() > 1 / ORDERS:
            orders += 1
        times += [(START + SPAN_SECONDS * rng.random(), number) for _ in range(orders)]
    for number, (seconds, customer) in enumerate(sorted(times)):
        key = b"c%09d" % customer
        milliseconds, value = order(key, number, seconds, rng)
        yield Record(number, milliseconds, key, value, HEADERS)


def context() -> Context:
    """Return what the engine scores with."""
    return Context(ECONOMICS, Timeline().with_(PARAMETERS), erasure_key=b"k" * 32)


def engine(customers: int) -> dict[bytes, bytes]:
    """Fold their orders and let time pass once; show the costs, and return the stored records."""
    shop = context()
    records = list(history(customers))
    states: dict[bytes, bytes] = {}
    written = published = changed = 0
    began = time.process_time()
    for start in range(0, len(records), BATCH):
        batch = records[start : start + BATCH]
        outputs = process(states, "shop.orders/0", batch, shop, now=batch[-1].timestamp)
        states.update((key, value) for key, value in outputs.records.items() if value is not None)
        written += sum(len(key) + len(value or b"") for key, value in outputs.records.items())
        published += sum(len(each.key) + len(each.document) for each in outputs.updates)
        changed += sum(len(key) + len(document) for key, document in outputs.segment_changes)
    folding = time.process_time() - began
    keys = [key for key in states if is_customer(key)]
    end = int((START + SPAN_SECONDS) * 1000)
    began = time.process_time()
    told = stored = 0
    for first in range(0, len(keys), BATCH):
        chunk = keys[first : first + BATCH]
        outputs = advance(states, chunk, "clv.clock/0", 0, shop, as_of=end)
        told += sum(len(each.key) + len(each.document) for each in outputs.updates)
        stored += sum(len(key) + len(value or b"") for key, value in outputs.records.items())
    passing = time.process_time() - began
    shown = Table("the engine alone", "", title=f"{len(keys):,} customers, {len(records):,} orders")
    size = sum(len(key) + len(states[key]) for key in keys) / len(keys)
    for what, value in (
        ("stored record of a customer, with its key", f"{size:,.0f} bytes"),
        ("an event: processor", f"{folding / len(records) * 1e6:,.0f} µs"),
        ("an event: to the changelog", f"{written / len(records):,.0f} bytes"),
        ("an event: value updates", f"{published / len(records):,.0f} bytes"),
        ("an event: segment changes", f"{changed / len(records):,.0f} bytes"),
        ("a customer in a tick: processor", f"{passing / len(keys) * 1e6:,.0f} µs"),
        ("a customer in a tick: value update", f"{told / len(keys):,.0f} bytes"),
        ("a customer in a tick: to the changelog", f"{stored / len(keys):,.0f} bytes"),
    ):
        shown.add_row(what, value)
    console.print(shown)
    return {key: states[key] for key in keys}


def copies(made: Mapping[bytes, bytes], customers: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield records of as many customers, under ids of their own."""
    values = list(made.values())
    for number in range(customers):
        yield b"c%09d" % number, values[number % len(values)]


async def seed(broker: Broker, settings: Settings, records: Iterable[tuple[bytes, bytes]]) -> None:
    """Create the topics, and write the changelog: keys and values."""
    await prepare_topics(settings, broker)
    await publish_parameters(broker, settings.topics.models, PARAMETERS)
    topic = changelog_topic(settings)
    by_partition: dict[int, list[tuple[bytes, bytes, list[tuple[str, bytes]]]]]
    by_partition = {number: [] for number in range(settings.partitions)}
    async with record_writer(broker) as writer:

        async def write(number: int) -> None:
            await writer.write(TopicPartition(topic, number), by_partition[number])
            by_partition[number].clear()

        for key, value in records:
            number = home_partition(key, settings.partitions)
            by_partition[number].append((key, value, []))
            if len(by_partition[number]) == AT_ONCE:
                await write(number)
        for number in by_partition:
            await write(number)


async def publish(broker: Broker, settings: Settings, events: int, customers: int, at: int) -> None:
    """Publish orders, each of another customer, as of the n-th day after the seeded ones."""
    rng = random.Random(at)
    by_partition: dict[int, list[tuple[bytes, bytes, list[tuple[str, bytes]]]]] = {}
    for number in range(events):
        key = b"c%09d" % (number * (customers // events) % customers)
        seconds = START + SPAN_SECONDS + at * 86_400 + number
        _, value = order(key, 10**9 * at + number, seconds, rng)
        where = home_partition(key, settings.partitions)
        by_partition.setdefault(where, []).append((key, value, list(HEADERS)))
    async with record_writer(broker) as writer:
        for number, records in by_partition.items():
            await writer.write(TopicPartition(settings.topics.orders, number), records)


def scrape(port: int) -> dict[str, float]:
    """Return the sums of a worker's metrics by name, over all labels."""
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        text = answer.read().decode()
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0.0) + sample.value
    return found


def shop_settings(name: str) -> Settings:
    """Return the settings of a worker of this name."""
    return Settings(
        app_id=name,
        economics=ECONOMICS,
        erasure_key=TESTING_ERASURE_KEY,
        session_timeout=6,
        heartbeat_interval=1,
    )


def shop_environment(settings: Settings, broker: Broker, redis: str) -> dict[str, str]:
    """Return the variables by which a process has these settings; of the others, the defaults."""
    return {
        "CLV_BROKER": str(broker),
        "CLV_REDIS": redis,
        "CLV_APP_ID": settings.app_id,
        "CLV_ECONOMICS__CURRENCY": settings.economics.currency,
        "CLV_ERASURE_KEY": TESTING_ERASURE_KEY.get_secret_value(),
        "CLV_SESSION_TIMEOUT": f"{settings.session_timeout:g}",
        "CLV_HEARTBEAT_INTERVAL": f"{settings.heartbeat_interval:g}",
    }


@contextmanager
def running(
    environment: Mapping[str, str], log: Path, command: Sequence[str] = ("streams.cli", "worker")
) -> Iterator[int]:
    """Run a worker in the context; yield the port of its metrics. command: module, arguments."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT, stdout=output, stderr=output,
            env={**os.environ, **environment, "CLV_HEALTH_PORT": "0"},
        )  # fmt: skip
    try:
        until = time.monotonic() + 60
        while '"health is served"' not in (said := log.read_text()):
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError(f"the worker did not start:\n{said}")
            time.sleep(0.05)
        line = next(line for line in said.splitlines() if '"health is served"' in line)
        yield int(line.split('"port": ')[1].split(",")[0].rstrip("}"))
    finally:
        process.terminate()
        process.wait(60)


async def until(port: int, condition: str, limit: float) -> dict[str, float]:
    """Wait until a condition of the metrics holds: "recovered", or a number of accepted records."""
    deadline = time.monotonic() + limit
    while True:
        seen = await asyncio.to_thread(scrape, port)
        done = seen.get("clv_ready") == 1 if condition == "recovered" else False
        if not done and condition != "recovered":
            done = seen["clv_records_total"] >= int(condition) and not seen["clv_batches_in_work"]
        if done:
            return seen
        if time.monotonic() > deadline:
            raise RuntimeError(f"not {condition} within {limit:g} s: {seen}")
        await asyncio.sleep(0.2)


@dataclass(frozen=True)
class WorkerCost:
    """A worker with so many customers: bytes of memory, seconds, processor µs an event.

    ready: from the start of the process until it processes events. microseconds: of each round of
    events.
    """

    customers: int
    records: int
    ready: float
    memory: int
    memory_after: int
    microseconds: list[float]


async def worker(
    made: Mapping[bytes, bytes], customers: int, events: int, limit: float
) -> WorkerCost:
    """Measure what a worker with so many customers takes."""
    async with embedded_servers() as servers:
        broker = Broker(servers.broker.address)
        name = f"scaling-{uuid.uuid4().hex[:6]}"
        settings = shop_settings(name)
        environment = shop_environment(settings, broker, servers.redis.url)
        await seed(broker, settings, copies(made, customers))
        began = time.monotonic()
        with (
            tempfile.TemporaryDirectory(prefix="clv-scaling-") as directory,
            running(environment, Path(directory) / "worker.log") as port,
        ):
            restored = await until(port, "recovered", limit)
            ready = time.monotonic() - began
            done, rounds = 0, []
            before = restored
            for day in (1, 2):
                await publish(broker, settings, events, customers, day)
                done += events
                seen = await until(port, str(done), limit)
                rounds.append(
                    (seen["process_cpu_seconds_total"] - before["process_cpu_seconds_total"])
                    / events
                )
                before = seen
    return WorkerCost(
        customers,
        int(restored["clv_state_records"]),
        ready,
        int(restored["process_resident_memory_bytes"]),
        int(seen["process_resident_memory_bytes"]),
        [seconds * 1e6 for seconds in rounds],
    )


def show_workers(found: Sequence[WorkerCost]) -> None:
    """Print what workers took; a customer's memory is what it adds to the smallest of them."""
    shown = Table(box=box.MARKDOWN)
    for heading in ("customers", "ready s", "memory MB", "bytes a customer", "after events MB"):
        shown.add_column(heading, justify="right")
    shown.add_column("processor µs an event, by round", justify="right")
    for each in found:
        more = each.customers - found[0].customers
        shown.add_row(
            f"{each.customers:,}",
            f"{each.ready:.1f}",
            f"{each.memory / 1e6:,.0f}",
            f"{(each.memory - found[0].memory) / more:,.0f}" if more else "",
            f"{each.memory_after / 1e6:,.0f}",
            ", ".join(f"{microseconds:,.0f}" for microseconds in each.microseconds),
        )
    console.print(shown)


def show_heavy(found: Sequence[Heavy]) -> None:
    """Print what customers with few and many orders take."""
    shown = Table(box=box.MARKDOWN)
    for heading in (
        "orders of a customer", "record bytes", "memory bytes", "µs a further order", "soon after",
    ):  # fmt: skip
        shown.add_column(heading, justify="right")
    for each in found:
        shown.add_row(
            f"{each.orders:,}",
            f"{each.record:,}",
            f"{each.memory:,}",
            f"{each.microseconds:,.0f}",
            f"{each.lately:,.0f}",
        )
    console.print(shown)


def main(
    *,
    customers: Annotated[
        str, typer.Option(help="Customers of the worker: N,N,…")
    ] = "10000,100000,1000000",
    orders: Annotated[
        str, typer.Option(help="Orders of one customer: N,N,…")
    ] = "1,10,100,1000,10000",
    made: Annotated[int, typer.Option(min=100, help="Customers that the engine makes.")] = 50_000,
    events: Annotated[int, typer.Option(min=100, help="Orders a round of the worker.")] = 20_000,
    limit: Annotated[float, typer.Option(help="Seconds allowed to one step.")] = 300,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write it to this file.")] = None,
) -> None:
    """Measure what customers and events cost."""
    console.print(" ".join(f"{key}={value}" for key, value in machine().items()))
    heavy = [measure_heavy(number, context()) for number in map(int, orders.split(","))]
    show_heavy(heavy)
    records = engine(made)
    workers = []
    for number in map(int, customers.split(",")):
        workers.append(asyncio.run(worker(records, number, events, limit)))
        show_workers(workers)
    if json_file:
        document = {
            "machine": machine(),
            "orders of a customer": [asdict(each) for each in heavy],
            "workers": [asdict(each) for each in workers],
        }
        json_file.write_text(json.dumps(document, indent=2) + "\n")
