"""What a night costs: customers who are due at one midnight, while live orders come in.

`python -m benchmarks silence`. The engine makes the records of some customers, and looks at them
until it is known when each changes next. Copies of them under other ids, so many due at each of
some midnights and hardly anybody else, become the changelog of a real worker. Its clock is set past
one midnight after the other while others order; in turn only few are due. At the end other
parameters are published, and everybody is scored again. Latency is from the sending of an order to
its customer's value update, as a process of its own reads it.
"""

from __future__ import annotations

import asyncio
import random
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, NamedTuple, get_args

import msgspec
import numpy as np
import typer
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from rich.console import Console
from rich.table import Table

from benchmarks.contenders.ours import PARAMETERS
from benchmarks.contenders.settings import BrokerKind
from benchmarks.report import machine
from benchmarks.scaling import (
    BATCH,
    ECONOMICS,
    ROOT,
    history,
    order,
    running,
    scrape,
    seed,
    shop_environment,
    shop_settings,
    until,
)
from benchmarks.servers import running_servers
from benchmarks.workload import HEADERS
from models.aggregate.record import decode_record, encode_record, is_customer
from models.context import Context
from models.contracts.clock import Tick
from models.engine import advance, process
from models.outputs import Outputs
from models.timeline import Timeline
from streams.kafka.connection import Broker
from streams.kafka.partitions import home_partition
from streams.parameters import publish_parameters
from streams.publisher import Publisher
from streams.settings import Settings
from streams.testing.worker_process import CLOCK

DAY = 86_400_000
HOUR = 3_600_000
MINUTE = 60_000
STEP_SECONDS = 0.02
LEAD_SECONDS = 3.0
"""In which orders come in before midnight, so that the worker is warm."""

QUIET_DAYS = 10
"""For so long nobody is due but those who are to be."""

POLL_SECONDS = 0.25
SETTLE_SECONDS = 5.0

console = Console(width=120)


class Templates(NamedTuple):
    """Records of customers to be copied.

    begins: milliseconds since 1970; all that was due by then was told. changing: of those whom each
    of the nights that follow brings a change. quiet: of those whom nothing brings any for long.
    """

    begins: int
    changing: list[list[bytes]]
    quiet: list[bytes]

    def midnight(self, night: int) -> int:
        """Return the midnight of a night, counted from 0."""
        return (self.begins // DAY + 1 + night) * DAY


def templates(customers: int, nights: int) -> Templates:
    """Fold the orders of customers, and let time pass until their due times are known."""
    context = Context(ECONOMICS, Timeline().with_(PARAMETERS), erasure_key=b"k" * 32)
    records, states = list(history(customers)), dict[bytes, bytes]()
    for start in range(0, len(records), BATCH):
        batch = records[start : start + BATCH]
        outputs = process(states, "made/0", batch, context, now=batch[-1].timestamp)
        states.update(outputs.records)
    begins = (records[-1].timestamp // DAY + 1) * DAY + HOUR
    keys = [key for key in states if is_customer(key)]

    def look(at: int, offset: int, whose: Sequence[bytes]) -> Iterator[Outputs]:
        for start in range(0, len(whose), BATCH):
            yield advance(
                states, whose[start : start + BATCH], "made/1", offset, context,
                as_of=at, due_only=True,
            )  # fmt: skip

    for outputs in look(begins, 0, keys):
        states.update(outputs.records)
    made = Templates(begins, [], [])
    plain = {key: _plain(states[key]) for key in keys}
    due = {key: decode_record(states[key]).due for key in keys}
    made.quiet.extend(plain[key] for key in keys if due[key] > begins + QUIET_DAYS * DAY)
    for night in range(nights):
        midnight = made.midnight(night)
        those = [key for key in keys if due[key] == midnight]
        changed = {key for each in look(midnight, 1, those) for key, _ in each.segment_changes}
        made.changing.append([plain[key] for key in those if key in changed])
    return made


def _plain(data: bytes) -> bytes:
    """Return a record without what it says of the topics that it came from."""
    record = decode_record(data)
    return encode_record(msgspec.structs.replace(record, applied={}, outbox=()))


def copies(made: Templates, nights: Sequence[int], customers: int) -> Iterator[tuple[bytes, bytes]]:
    """Yield the records of all customers: first those who are due each night, then the others."""
    number = 0
    for due, records in zip(nights, made.changing, strict=True):
        for each in range(due):
            yield _key(number), records[each % len(records)]
            number += 1
    while number < customers:
        yield _key(number), made.quiet[number % len(made.quiet)]
        number += 1


def _key(number: int) -> bytes:
    return b"c%09d" % number


class Seen(NamedTuple):
    """What another process read: first arrivals of updates, and of changes by their time.

    Updates are by customer and as-of time, in milliseconds since 1970.
    """

    updates: dict[tuple[bytes, int], float]
    changes: dict[int, list[float]]


class Reader:
    """Reads the updates and changes of a service in another process."""

    def __init__(self, file: Path) -> None:
        self._file = file
        self._at = 0
        self.count = 0
        """How many updates were read."""
        self.seen = Seen({}, {})

    def look(self) -> None:
        """Take in what was read since the last look."""
        with self._file.open("rb") as file:
            file.seek(self._at)
            data = file.read()
        data = data[: data.rfind(b"\n") + 1]
        self._at += len(data)
        for line in data.splitlines():
            kind, key, arrived, of = line.split(b" ")
            if kind == b"u":
                self.count += 1
                self.seen.updates.setdefault((key, int(of)), float(arrived))
            else:
                self.seen.changes.setdefault(int(of), []).append(float(arrived))


async def read(broker: str, partitions: int, updates: str, changes: str, file: str) -> None:
    """Write down when each update and each change arrives, until the process is ended."""
    # A fetch of idle partitions is not to hold up what comes in the others.
    consumer = AIOKafkaConsumer(
        bootstrap_servers=broker, enable_auto_commit=False, fetch_max_wait_ms=10
    )
    await consumer.start()
    places = [TopicPartition(t, n) for t in (updates, changes) for n in range(partitions)]
    consumer.assign(places)
    await consumer.seek_to_end(*places)
    for each in places:
        await consumer.position(each)
    out = await asyncio.to_thread(Path(file).open, "wb")
    print("ready", flush=True)
    with out:
        while True:
            found = await consumer.getmany(timeout_ms=50)
            arrived = b"%.4f" % time.monotonic()
            for tp, records in found.items():
                kind = b"u" if tp.topic == updates else b"c"
                out.writelines(
                    b"%s %s %s %d\n" % (kind, each.key, arrived, _time(each.value))
                    for each in records
                    if each.value is not None
                )
            if found:
                out.flush()


def _time(document: bytes) -> int:
    at = document.index(b'"time":"') + 8
    text = document[at : document.index(b'"', at)].decode()
    return round(datetime.fromisoformat(text).timestamp() * 1000)


@contextmanager
def reading(broker: Broker, settings: Settings, file: Path) -> Iterator[Reader]:
    """Read in the context."""
    topics = settings.topics
    arguments = (str(broker), str(settings.partitions), topics.updates, topics.segment_changes)
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.silence", *arguments, str(file)],
        cwd=ROOT, stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        if process.stdout.readline() != b"ready\n":
            raise RuntimeError("the reader did not start")
        yield Reader(file)
    finally:
        process.terminate()
        process.wait(30)


class Orders:
    """Orders of customers whom nothing brings a change, each of another one, at a steady pace."""

    def __init__(
        self, broker: Broker, settings: Settings, rate: float, first: int, customers: int
    ) -> None:
        self.sent: dict[tuple[bytes, int], float] = {}
        """When orders were sent, by the monotonic clock; by customer and the time of the order."""
        self.at = 0
        """When orders are placed, in milliseconds since 1970."""
        self.broker = broker
        self.settings = settings
        self._rate = rate
        self._first, self._customers = first, customers
        self._rng = random.Random(7)

    @asynccontextmanager
    async def coming(self) -> AsyncIterator[None]:
        """Publish orders in the context."""
        async with AIOKafkaProducer(
            bootstrap_servers=str(self.broker), linger_ms=2, acks="all"
        ) as producer:
            task = asyncio.create_task(self._publish(producer))
            try:
                yield
            finally:
                task.cancel()
                with suppress(asyncio.CancelledError):
                    await task

    async def _publish(self, producer: AIOKafkaProducer) -> None:
        topic, partitions = self.settings.topics.orders, self.settings.partitions
        began, number = time.monotonic(), 0
        while True:
            while number < (time.monotonic() - began) * self._rate:
                key = self._next()
                _, value = order(key, 10**9 + len(self.sent), self.at / 1000, self._rng)
                partition = home_partition(key, partitions)
                self.sent[key, self.at] = time.monotonic()
                await producer.send(
                    topic, value, key=key, partition=partition, headers=list(HEADERS)
                )
                number += 1
            await asyncio.sleep(STEP_SECONDS)

    def _next(self) -> bytes:
        number = self._first + len(self.sent)
        if number >= self._customers:
            raise RuntimeError("there are not as many customers as orders; make more of them")
        return _key(number)


class Night(NamedTuple):
    """How a night went.

    due: customers who were due. told: seconds after midnight when the last of their changes
    arrived. cpu: seconds of the worker's processor until then. latencies: of orders, in seconds.
    """

    due: int
    told: float
    cpu: float
    latencies: list[float]


class Bench:
    """A worker at work, and what is done to it."""

    def __init__(self, made: Templates, port: int, reader: Reader, orders: Orders, clock: Path):
        self.made = made
        self.port = port
        self.reader = reader
        self.orders = orders
        self._clock = clock

    async def night(self, number: int, due: int, seconds: float, limit: float) -> Night:
        """Pass a midnight at which so many are due, and go on for some seconds at least."""
        midnight = self.made.midnight(number)
        self.orders.at = midnight - HOUR
        async with self.orders.coming():
            await asyncio.sleep(LEAD_SECONDS)
            self.orders.at = midnight + HOUR
            cpu, began = await self._cpu(), time.monotonic()
            self.set_clock(midnight + HOUR)

            def arrived() -> list[float]:
                self.reader.look()
                return self.reader.seen.changes.get(midnight, [])

            while len(arrived()) < due:
                if time.monotonic() > began + limit:
                    raise RuntimeError(f"{len(arrived())} of {due} are told after {limit:g} s")
                await asyncio.sleep(POLL_SECONDS)
            told, cpu = max(arrived()) - began, await self._cpu() - cpu
            ends = max(began + seconds, began + told)
            await asyncio.sleep(ends - time.monotonic())
        latencies = await self._latencies(began, ends, limit)
        return Night(due, told, cpu, latencies)

    async def rescoring(self, customers: int, limit: float) -> Night:
        """Score everybody with other parameters, and tell of all of them."""
        since = int(self._clock.read_text())
        parameters = PARAMETERS.model_copy(
            update={"version": "later", "holds_from": datetime.fromtimestamp(since / 1000, UTC)}
        )
        settings = self.orders.settings
        await publish_parameters(self.orders.broker, settings.topics.models, parameters)
        # Later than the tick, so that updates of orders and of the tick differ.
        self.orders.at = since + MINUTE
        async with self.orders.coming():
            await asyncio.sleep(LEAD_SECONDS)
            self.reader.look()
            before, cpu, began = self.reader.count, await self._cpu(), time.monotonic()
            async with Publisher(
                self.orders.broker, settings.topics, settings.partitions
            ) as publisher:
                tick = Tick(as_of=parameters.holds_from, parameters=parameters.version)
                await publisher.tick(tick)
            while self.reader.count - before < customers:
                if time.monotonic() > began + limit:
                    done = self.reader.count - before
                    raise RuntimeError(f"{done} of {customers} are scored after {limit:g} s")
                await asyncio.sleep(POLL_SECONDS)
                self.reader.look()
            ends = time.monotonic()
            cpu = await self._cpu() - cpu
        latencies = await self._latencies(began, ends, limit)
        return Night(customers, ends - began, cpu, latencies)

    def set_clock(self, moment: int) -> None:
        """Set the worker's clock."""
        draft = self._clock.with_suffix(".draft")
        draft.write_text(str(moment))
        draft.rename(self._clock)

    async def _cpu(self) -> float:
        seen = await asyncio.to_thread(scrape, self.port)
        return seen["process_cpu_seconds_total"]

    async def _latencies(self, began: float, ends: float, limit: float) -> list[float]:
        """Return the latencies of the orders that were sent in between, when all have arrived."""
        sent = {key: at for key, at in self.orders.sent.items() if began <= at < ends}
        while not sent.keys() <= self.reader.seen.updates.keys():
            if time.monotonic() > ends + limit:
                raise RuntimeError("the updates of some orders do not arrive")
            await asyncio.sleep(POLL_SECONDS)
            self.reader.look()
        updates = self.reader.seen.updates
        return [updates[key] - at for key, at in sent.items()]


class Plan(NamedTuple):
    """What to run; see `main`."""

    kind: BrokerKind
    customers: int
    nights: list[int]
    rate: float
    seconds: float
    limit: float
    rescoring: bool


async def _bench(made: Templates, plan: Plan) -> None:
    kind, customers, nights, rate, seconds, limit, rescoring = plan
    async with running_servers(kind) as servers:
        broker = Broker(servers.broker)
        name = f"silence-{uuid.uuid4().hex[:6]}"
        with tempfile.TemporaryDirectory(prefix="clv-silence-") as made_in:
            directory = Path(made_in)
            clock = directory / "clock"
            clock.write_text(str(made.begins))
            settings = shop_settings(name)
            environment = shop_environment(settings, broker, servers.redis)
            environment[CLOCK] = str(clock)
            await seed(broker, settings, copies(made, nights, customers))
            log = directory / "worker.log"
            with (
                running(environment, log, ["streams.testing.worker_process"]) as port,
                reading(broker, settings, directory / "read") as reader,
            ):
                restored = await until(port, "recovered", limit)
                # Sweeps begin before there is anything to be behind with.
                await asyncio.sleep(SETTLE_SECONDS)
                orders = Orders(broker, settings, rate, sum(nights), customers)
                bench = Bench(made, port, reader, orders, clock)
                shown = _table(customers, rate)
                for number, due in enumerate(nights):
                    _show(shown, "night", await bench.night(number, due, seconds, limit))
                held = (await asyncio.to_thread(scrape, port))["process_resident_memory_bytes"]
                if rescoring:
                    _show(shown, "rescoring", await bench.rescoring(customers, limit))
    console.print(shown)
    memory = restored["process_resident_memory_bytes"]
    console.print(f"memory: {memory / 1e6:,.0f} MB restored, {held / 1e6:,.0f} MB after the nights")


def _table(customers: int, rate: float) -> Table:
    return Table(
        "", "customers", "all told after s", "processor s", "processor µs each", "p50 ms", "p99 ms",
        "max ms", title=f"{customers:,} customers, one worker, {rate:,.0f} orders a second",
    )  # fmt: skip


def _show(shown: Table, what: str, night: Night) -> None:
    p50, p99 = (1000 * float(np.quantile(night.latencies, share)) for share in (0.5, 0.99))
    shown.add_row(
        what,
        f"{night.due:,}",
        f"{night.told:.1f}",
        f"{night.cpu:.1f}",
        f"{night.cpu / night.due * 1e6:,.0f}",
        f"{p50:.0f}",
        f"{p99:.0f}",
        f"{1000 * max(night.latencies):.0f}",
    )
    console.print(f"{what}: {night.due:,} told after {night.told:.1f} s")


def main(
    *,
    broker: Annotated[str, typer.Option(help="embedded or kafka.")] = "embedded",
    customers: Annotated[int, typer.Option(min=1_000, help="Customers of the worker.")] = 1_000_000,
    made: Annotated[int, typer.Option(min=1_000, help="Customers that the engine makes.")] = 20_000,
    nights: Annotated[
        str, typer.Option(help="How many are due each night: N,N,…")
    ] = "100,10000,100,100000,100",
    rate: Annotated[float, typer.Option(min=1, help="Orders a second meanwhile.")] = 1_000,
    seconds: Annotated[float, typer.Option(min=1, help="Of a night, at least.")] = 20,
    limit: Annotated[float, typer.Option(help="Seconds allowed to one step.")] = 600,
    rescoring: Annotated[bool, typer.Option(help="Score everybody again at the end.")] = True,
) -> None:
    """Measure nights in which few and many customers are due, and a rescoring of all."""
    if broker not in get_args(BrokerKind):
        raise typer.BadParameter(f"{broker!r} is none of {', '.join(get_args(BrokerKind))}")
    kind: BrokerKind = "kafka" if broker == "kafka" else "embedded"
    console.print(" ".join(f"{key}={value}" for key, value in machine().items()))
    due = [int(each) for each in nights.split(",")]
    plan = Plan(kind, customers, due, rate, seconds, limit, rescoring)
    asyncio.run(_bench(templates(made, len(due)), plan))


if __name__ == "__main__":
    _broker, _partitions, _updates, _changes, _file = sys.argv[1:]
    with suppress(KeyboardInterrupt):
        asyncio.run(read(_broker, int(_partitions), _updates, _changes, _file))
