"""How fast a worker gets its table back: stock Faust, this transport, and this one with its copy.

`python -m benchmarks recovery`. Each contender is a process of its own, one after the other, and
reads the same kind of changelog from the same broker; what is timed is the recovery itself.
"""

import asyncio
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, Any

import faust
import typer
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from rich.console import Console
from rich.table import Table

from benchmarks.report import machine
from streams.embedded import EmbeddedBroker
from streams.transport import batch_app

ROOT = Path(__file__).resolve().parents[1]
TABLE = "customers"
POLL_SECONDS = 0.002
SMALLEST, LARGEST = 200, 400

console = Console(width=120)


def records(customers: int) -> Iterator[tuple[bytes, bytes]]:
    """Keys and values as long as a customer's record; the values do not compress."""
    random.seed(1)
    pool = random.randbytes(1 << 20)
    for number in range(customers):
        start = random.randrange(len(pool) - LARGEST)
        yield b"customer-%09d" % number, pool[start : start + random.randint(SMALLEST, LARGEST)]


async def publish(broker: str, app_id: str, customers: int, partitions: int) -> None:
    """Make the topics of a contender and write its changelog."""
    topics = [f"{app_id}-{TABLE}-changelog", f"{app_id}-orders"]
    admin = AIOKafkaAdminClient(bootstrap_servers=broker)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(topic, partitions, 1) for topic in topics])
    finally:
        await admin.close()
    async with AIOKafkaProducer(bootstrap_servers=broker, max_batch_size=512 * 1024) as producer:
        number = 0
        batch = producer.create_batch()
        for key, value in records(customers):
            if batch.append(timestamp=None, key=key, value=value) is None:
                await producer.send_batch(batch, topics[0], partition=number % partitions)
                number += 1
                batch = producer.create_batch()
                batch.append(timestamp=None, key=key, value=value)
        await producer.send_batch(batch, topics[0], partition=number % partitions)
        await producer.flush()


def contender(kind: str, broker: str, app_id: str, partitions: int, state_dir: str) -> faust.App:
    """An app with the table, and an agent so that it is assigned the partitions."""
    settings: dict[str, Any] = {
        "broker": f"kafka://{broker}",
        "topic_partitions": partitions,
        "web_enabled": False,
        # The embedded broker keeps a joining worker waiting for as long as a session lasts.
        "broker_session_timeout": 6.0,
        "broker_heartbeat_interval": 1.0,
    }
    if kind == "stock":
        app = faust.App(app_id, store="memory://", topic_disable_leader=True, **settings)
    else:
        app = batch_app(app_id, state_dir=Path(state_dir) if state_dir else None, **settings)
    kinds = {} if kind != "stock" else {"key_type": bytes, "value_type": bytes}
    app.Table(TABLE, partitions=partitions, **kinds)

    async def run(stream: Any) -> None:
        async for _ in stream:
            pass

    app.agent(app.topic(f"{app_id}-orders"), name="run")(run)
    return app


async def recover(kind: str, broker: str, app_id: str, partitions: int, state_dir: str) -> None:
    """Be a contender: recover, say how long it took, and leave in good order if it can."""
    app = contender(kind, broker, app_id, partitions, state_dir)
    app.finalize()
    starting = asyncio.create_task(app.start())
    while not app.tables.recovery.in_recovery:  # noqa: ASYNC110 - Faust has no event for it
        await asyncio.sleep(POLL_SECONDS)
    began, cpu = time.monotonic(), time.process_time()
    while not app.tables.actives_ready:  # noqa: ASYNC110
        await asyncio.sleep(POLL_SECONDS)
    held = app.tables[TABLE].data
    parts = [held] if kind == "stock" else held.partitions.values()
    result = {
        "seconds": time.monotonic() - began,
        "cpu": time.process_time() - cpu,
        "keys": sum(map(len, parts)),
        "rss": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        "copy": 0,
    }
    if kind != "stock":
        await starting
        await app.stop()
        result["copy"] = _size(Path(state_dir)) if state_dir else 0
    print(json.dumps(result), flush=True)
    # Stock Faust goes on reading what it thinks is left.
    os._exit(0)


def _size(directory: Path) -> int:
    return sum(path.stat().st_size for path in directory.rglob("*") if path.is_file())


async def _run(limit: float, *arguments: str) -> dict[str, float]:
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "benchmarks.recovery",
        *arguments,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(limit):
            output, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    return dict(json.loads(output.splitlines()[-1]))


async def _bench(
    broker: str, customers: int, stock_customers: int, partitions: int, limit: float
) -> None:
    async with AsyncExitStack() as stack:
        if not broker:
            broker = (await stack.enter_async_context(EmbeddedBroker())).address
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="clv-recovery-"))
        run_id = f"{time.time_ns():x}"
        shown = Table("", "customers", "seconds", "customers/s", "CPU s", "peak MB", "copy MB")
        for title, kind, count, state_dir in (
            ("stock Faust", "stock", stock_customers, ""),
            ("ours, no copy", "ours", customers, ""),
            ("ours, makes its copy", "ours", customers, directory),
            ("ours, has its copy", "ours", customers, directory),
        ):
            app_id = f"recovery-{run_id}-{kind}"
            if title in ("stock Faust", "ours, no copy"):
                await publish(broker, app_id, count, partitions)
            result = await _run(limit, kind, broker, app_id, str(partitions), state_dir)
            shown.add_row(
                title,
                f"{result['keys']:,} of {count:,}",
                f"{result['seconds']:.2f}",
                f"{result['keys'] / result['seconds']:,.0f}",
                f"{result['cpu']:.2f}",
                f"{result['rss'] / 1e6:,.0f}",
                f"{result['copy'] / 1e6:,.0f}" if state_dir else "",
            )
    console.print(" ".join(f"{key}={value}" for key, value in machine().items()))
    console.print(shown)


def main(
    *,
    customers: Annotated[int, typer.Option(min=1, help="Customers in the changelog.")] = 1_000_000,
    stock_customers: Annotated[int, typer.Option(min=1, help="The same for stock Faust.")] = 50_000,
    partitions: Annotated[int, typer.Option(min=1, help="Partitions of the changelog.")] = 4,
    broker: Annotated[str, typer.Option(help="host:port; none: the embedded broker.")] = "",
    limit: Annotated[float, typer.Option(help="Seconds allowed to one run.")] = 300,
) -> None:
    """Measure recovery of a table from its changelog."""
    asyncio.run(_bench(broker, customers, stock_customers, partitions, limit))


if __name__ == "__main__":
    _kind, _broker, _app_id, _partitions, _state_dir = sys.argv[1:]
    asyncio.run(recover(_kind, _broker, _app_id, int(_partitions), _state_dir))
