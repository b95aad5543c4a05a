"""How soon an event is seen in `clv.updates` and in Redis, at shares of what the contender can do.

`python -m benchmarks latency`. All customers are known. First as many events as the contender can
take show its capacity; then events come at a steady rate, and two observers, processes of their
own, note when each customer is seen again. An event's latency is the time from when it was due to
be published until its customer was next seen.
"""

import asyncio
import json
import multiprocessing
import random
import signal
import tempfile
import time
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import quantiles
from typing import Annotated, cast

import redis
import typer
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from rich import box
from rich.console import Console
from rich.table import Table

from benchmarks.contenders import CONTENDERS
from benchmarks.contenders.settings import BrokerKind, Settings
from benchmarks.measure import committed, create_topics
from benchmarks.processes import Process
from benchmarks.publishing import BATCH_BYTES, Batches, Workload
from benchmarks.report import machine
from benchmarks.rounds import settings_of
from benchmarks.servers import running_servers
from benchmarks.workload import SPAN_SECONDS, START, order
from streams.kafka.partitions import TopicPartition

IDLE_RATE = 50.0
TICK_SECONDS = 0.005
POLL_SECONDS = 0.02
SETTLE_SECONDS = 2.0
REDIS_KEYS = b"clv:customer:"

Seen = dict[bytes, list[float]]

console = Console(width=120)


@dataclass(frozen=True)
class Latency:
    """Milliseconds of a share of the capacity: p50, p99 and p99.9; of how many events."""

    contender: str
    place: str
    share: str
    rate: float
    events: int
    p50: float
    p99: float
    p999: float


def _updates(settings: Settings, told: Connection) -> None:
    """Note when the updates of each customer are read, until something is said."""
    from confluent_kafka import OFFSET_BEGINNING, Consumer  # noqa: PLC0415
    from confluent_kafka import TopicPartition as Place  # noqa: PLC0415

    # As soon as there is anything: each wait would count as latency.
    asks = {"fetch.wait.max.ms": 10, "fetch.queue.backoff.ms": 10}
    consumer = Consumer({"bootstrap.servers": settings.broker, "group.id": "observer"} | asks)
    consumer.assign(
        [Place(settings.topics_updates, n, OFFSET_BEGINNING) for n in range(settings.partitions)]
    )
    seen: Seen = defaultdict(list)
    while not told.poll():
        message = consumer.poll(POLL_SECONDS)
        if message is not None and message.error() is None:
            seen[message.key()].append(time.monotonic())
    told.send(dict(seen))


def _cache(settings: Settings, told: Connection) -> None:
    """Note when the hash of each customer is written, until something is said."""
    client = redis.Redis.from_url(settings.redis)
    client.config_set("notify-keyspace-events", "Kh")
    pubsub = client.pubsub()
    pubsub.psubscribe(b"__keyspace@0__:" + REDIS_KEYS + b"*")
    seen: Seen = defaultdict(list)
    while not told.poll():
        message = pubsub.get_message(timeout=POLL_SECONDS)
        while message is not None:
            if message["type"] == "pmessage":
                customer = message["channel"].partition(REDIS_KEYS)[2]
                seen[customer].append(time.monotonic())
            message = pubsub.get_message()
    told.send(dict(seen))


@contextmanager
def _observing(settings: Settings) -> Iterator[Callable[[], dict[str, Seen]]]:
    """Run the observers; the function ends them and returns what they saw, by place."""
    context = multiprocessing.get_context("spawn")
    started = {}
    for place, target in (("clv.updates", _updates), ("Redis", _cache)):
        ours, theirs = context.Pipe()
        process = context.Process(target=target, args=(settings, theirs), daemon=True)
        process.start()
        started[place] = process, ours

    def seen() -> dict[str, Seen]:
        for _, told in started.values():
            told.send(None)
        return {place: told.recv() for place, (_, told) in started.items()}

    try:
        yield seen
    finally:
        for process, _ in started.values():
            process.terminate()
            process.join()


@dataclass(frozen=True)
class Plan:
    """What to measure: known customers, percents of the capacity, seconds of each."""

    broker: BrokerKind
    customers: int
    shares: list[int]
    seconds: float
    partitions: int
    limit_seconds: float


class _Publisher:
    """Publishes one order after the other of all customers in turn, and notes when."""

    def __init__(self, producer: AIOKafkaProducer, settings: Settings, known: Workload) -> None:
        self._producer = producer
        self._settings = settings
        self._rng = random.Random(2)
        self._customers = [
            (event.key, number)
            for event, number in zip(known.events, known.partitions, strict=True)
        ]
        self._sent = len(self._customers)
        self.counts = known.counts(settings.inputs)

    async def send(self, count: int) -> list[bytes]:
        """Publish so many orders at once; return their customers."""
        parts = []
        for number in range(self._sent, self._sent + count):
            key, partition = self._customers[number % len(self._customers)]
            event = order(number, key, START + SPAN_SECONDS + number, self._rng)
            parts.append((event, partition))
            self.counts[TopicPartition(self._settings.topics_orders, partition)] += 1
        self._sent += count
        await Batches(self._producer, self._settings.inputs, parts).publish()
        return [event.key for event, _ in parts]

    async def steadily(self, rate: float, seconds: float) -> list[tuple[bytes, float]]:
        """Publish at a rate; return each event's customer, and when it was due."""
        sent: list[tuple[bytes, float]] = []
        began = due = time.monotonic()
        while due < began + seconds:
            await asyncio.sleep(max(due - time.monotonic(), 0))
            count = int((due - began) * rate) - len(sent)
            if count > 0:
                sent += [(customer, due) for customer in await self.send(count)]
            due += TICK_SECONDS
        return sent


async def _until_committed(
    admin: AIOKafkaAdminClient,
    settings: Settings,
    counts: dict[TopicPartition, int],
    process: Process,
    limit: float,
) -> None:
    deadline = time.monotonic() + limit
    while True:
        found = await committed(admin, settings.app_id, list(counts))
        if all(found[place] >= count for place, count in counts.items()):
            return
        if process.ended() or time.monotonic() > deadline:
            raise RuntimeError(f"{found} of {counts} within {limit:g} s\n{process.log_tail()}")
        await asyncio.sleep(POLL_SECONDS)


def latencies(sent: list[tuple[bytes, float]], seen: Seen) -> list[float]:
    """Return the milliseconds of each event until its customer was next seen.

    Errors: ValueError if a customer was never seen again.
    """
    found = []
    for customer, due in sent:
        times = seen.get(customer, [])
        index = bisect_left(times, due)
        if index == len(times):
            raise ValueError(f"{customer!r} was not seen again")
        found.append((times[index] - due) * 1e3)
    return found


async def measure(name: str, plan: Plan) -> list[Latency]:
    """Return the latencies of a contender, of an idle one first."""
    contender = CONTENDERS[name]
    if reason := contender.missing(plan.broker):
        raise RuntimeError(reason)
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(running_servers(plan.broker))
        known = Workload.of("new", plan.customers, plan.partitions)
        settings = settings_of(servers, known, name, plan.partitions)
        admin = AIOKafkaAdminClient(bootstrap_servers=servers.broker)
        await admin.start()
        stack.push_async_callback(admin.close)
        await create_topics(admin, settings)
        producer = await stack.enter_async_context(
            AIOKafkaProducer(
                bootstrap_servers=servers.broker, linger_ms=0, max_batch_size=BATCH_BYTES
            )
        )
        parts = zip(known.events, known.partitions, strict=True)
        await Batches(producer, settings.inputs, parts).publish()
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="clv-bench-"))
        process = Process(name, contender.command, settings.environ(), Path(directory) / "0")
        stack.callback(process.stop)
        seen = stack.enter_context(_observing(settings))
        publisher = _Publisher(producer, settings, known)

        async def done() -> None:
            await _until_committed(admin, settings, publisher.counts, process, plan.limit_seconds)

        await done()
        began = time.monotonic()
        await publisher.send(plan.customers)
        await done()
        capacity = plan.customers / (time.monotonic() - began)
        console.print(f"{name}: {capacity:,.0f} events/s of known customers")
        steps = {"idle": IDLE_RATE} | {f"{n} %": capacity * n / 100 for n in plan.shares}
        sent = {}
        for share, rate in steps.items():
            sent[share] = await publisher.steadily(rate, plan.seconds)
            await done()
            await asyncio.sleep(SETTLE_SECONDS)
        return [
            _latency(name, place, share, steps[share], latencies(sent[share], times))
            for place, times in seen().items()
            if times  # Not all contenders write Redis.
            for share in steps
        ]


def _latency(name: str, place: str, share: str, rate: float, found: list[float]) -> Latency:
    cuts = quantiles(found, n=1_000)
    return Latency(name, place, share, rate, len(found), cuts[499], cuts[989], cuts[998])


def main(
    *,
    contenders: Annotated[str, typer.Option(help="Comma separated.")] = "ours",
    broker: Annotated[str, typer.Option(help="embedded or kafka.")] = "embedded",
    customers: Annotated[int, typer.Option(min=1_000, help="Known customers.")] = 40_000,
    shares: Annotated[str, typer.Option(help="Percent of the capacity.")] = "25,50,80",
    seconds: Annotated[float, typer.Option(min=1, help="Seconds of each share.")] = 20,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of every topic.")] = 4,
    limit: Annotated[float, typer.Option(help="Seconds allowed to one step.")] = 300,
    json_file: Annotated[Path | None, typer.Option("--json", help="Write it to this file.")] = None,
) -> None:
    """Measure how soon events are seen."""

    async def all_of_them() -> list[Latency]:
        this = asyncio.current_task()
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, this.cancel)
        percents = [int(share) for share in shares.split(",")]
        plan = Plan(cast("BrokerKind", broker), customers, percents, seconds, partitions, limit)
        return [each for name in contenders.split(",") for each in await measure(name, plan)]

    found = asyncio.run(all_of_them())
    console.print(" ".join(f"{key}={value}" for key, value in machine().items()))
    shown = Table("contender", "seen in", "load", box=box.MARKDOWN)
    for heading in ("events/s", "events", "p50 ms", "p99 ms", "p99.9 ms"):
        shown.add_column(heading, justify="right")
    for each in found:
        shown.add_row(
            each.contender, each.place, each.share, f"{each.rate:,.0f}", f"{each.events:,}",
            f"{each.p50:,.0f}", f"{each.p99:,.0f}", f"{each.p999:,.0f}",
        )  # fmt: skip
    console.print(shown)
    if json_file:
        document = {"machine": machine(), "latencies": [each.__dict__ for each in found]}
        json_file.write_text(json.dumps(document, indent=2) + "\n")
