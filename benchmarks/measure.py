"""One contender, run as a whole process and measured from the outside."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import redis.asyncio
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from benchmarks.settings import Settings

ROOT = Path(__file__).resolve().parents[1]
POLL_SECONDS = 0.05
STOP_SECONDS = 20
LOG_TAIL = 40


@dataclass(frozen=True)
class Contender:
    """A program that reads orders and writes updates."""

    name: str
    arguments: tuple[str, ...]
    title: str


CONTENDERS = {
    contender.name: contender
    for contender in (
        Contender("ours", ("-m", "benchmarks.ours"), "our worker"),
        Contender(
            "faust",
            # At quieter levels Faust's spinner costs several log records per event.
            ("-m", "benchmarks.idiomatic_faust", "worker", "--without-web", "--loglevel=info"),
            "idiomatic Faust app",
        ),
        Contender("quix", ("-m", "benchmarks.quix_streams"), "Quix Streams app"),
    )
}


@dataclass(frozen=True)
class Workload:
    """A topic, how many records each of its partitions has, and of how many customers."""

    shape: str
    topic: str
    counts: dict[int, int]
    customers: int

    @property
    def events(self) -> int:
        """Records in the topic."""
        return sum(self.counts.values())


@dataclass(frozen=True)
class Run:
    """What one run showed; seconds, bytes, records."""

    contender: str
    shape: str
    round: int
    events: int
    events_per_second: float
    events_timed: int
    seconds_timed: float
    seconds_wall: float
    seconds_cpu: float
    peak_rss_bytes: int
    exit_code: int | None
    updates: int
    redis_keys: int


class Committed(NamedTuple):
    """How many records the group had committed, and when (monotonic seconds)."""

    at: float
    total: int


class ContenderError(Exception):
    """A contender stopped early, took too long, or left customers out; shows its log's tail."""


async def run(
    contender: Contender,
    workload: Workload,
    settings: Settings,
    *,
    round_number: int,
    limit_seconds: float,
) -> Run:
    """Run a contender over a workload with fresh topics and group, and an empty Redis.

    Raises:
        ContenderError: it did not commit every record within `limit_seconds`, or its updates
            do not cover every customer.

    """
    cache = redis.asyncio.from_url(settings.redis)
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker)
    try:
        await admin.start()
        await cache.flushall()
        await _create_topics(admin, settings)
        with tempfile.TemporaryDirectory(prefix="clv-bench-") as directory:
            process = _Process(contender, settings, Path(directory))
            try:
                async with asyncio.timeout(limit_seconds):
                    first, last = await _watch(admin, process, settings, workload)
            except TimeoutError:
                raise ContenderError(
                    f"{contender.name} did not finish {workload.events} events of "
                    f"{workload.topic} in {limit_seconds:g} s\n{process.log_tail()}"
                ) from None
            finally:
                process.stop()
            async with asyncio.timeout(limit_seconds):
                outputs = await _records_by_key(settings.broker, settings.topics_updates)
                refused = await _records_by_key(settings.broker, settings.topics_dead_letters)
            if len(outputs) != workload.customers or refused:
                raise ContenderError(
                    f"{contender.name} published updates of {len(outputs)} customers where "
                    f"{workload.topic} has {workload.customers}, and {refused.total()} dead "
                    f"letters\n{process.log_tail()}"
                )
        return Run(
            contender=contender.name,
            shape=workload.shape,
            round=round_number,
            events=workload.events,
            events_per_second=(last.total - first.total) / (last.at - first.at),
            events_timed=last.total - first.total,
            seconds_timed=last.at - first.at,
            seconds_wall=last.at - process.started,
            seconds_cpu=process.cpu_seconds,
            peak_rss_bytes=process.peak_rss_bytes,
            exit_code=process.exit_code,
            updates=outputs.total(),
            redis_keys=await cache.dbsize(),
        )
    finally:
        await _delete_topics(admin, settings.app_id)
        await admin.close()
        await cache.aclose()


class _Process:
    """A child in a process group of its own, with its log in a file."""

    def __init__(self, contender: Contender, settings: Settings, directory: Path) -> None:
        self.name = contender.name
        self._log_path = directory / "bench.log"
        self.exit_code: int | None = None
        self.cpu_seconds = 0.0
        self.peak_rss_bytes = 0
        self.started = time.monotonic()
        with self._log_path.open("wb") as log:
            self._child = subprocess.Popen(
                [sys.executable, *contender.arguments],
                cwd=directory,
                env={**os.environ, **settings.environ(), "PYTHONPATH": str(ROOT)},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    def log_tail(self) -> str:
        """Return the end of what the contender wrote."""
        lines = self._log_path.read_text(errors="replace").splitlines()[-LOG_TAIL:]
        return "\n".join([f"--- last lines of {self.name} ---", *lines, "---"])

    def reap(self, flags: int = os.WNOHANG) -> bool:
        """Take the child's exit code and resource usage if it has ended."""
        if self.exit_code is None:
            pid, status, usage = os.wait4(self._child.pid, flags)
            if pid:
                self.exit_code = os.waitstatus_to_exitcode(status)
                self._child.returncode = self.exit_code
                self.cpu_seconds = usage.ru_utime + usage.ru_stime
                # Linux counts in KiB, macOS in bytes.
                unit = 1 if sys.platform == "darwin" else 1024
                self.peak_rss_bytes = usage.ru_maxrss * unit
        return self.exit_code is not None

    def stop(self) -> None:
        """Ask the contender to end, then end it and whatever it left."""
        if not self.reap():
            self._child.send_signal(signal.SIGTERM)
            deadline = time.monotonic() + STOP_SECONDS
            while not self.reap() and time.monotonic() < deadline:
                time.sleep(0.05)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._child.pid, signal.SIGKILL)
        self.reap(flags=0)


async def _watch(
    admin: AIOKafkaAdminClient, process: _Process, settings: Settings, workload: Workload
) -> tuple[Committed, Committed]:
    """Poll the group's committed offsets; return the first that are not 0, and the last."""
    partitions = [TopicPartition(workload.topic, partition) for partition in workload.counts]
    first = None
    while True:
        if process.reap():
            raise ContenderError(
                f"{process.name} ended by itself with exit code {process.exit_code}\n"
                f"{process.log_tail()}"
            )
        offsets = await _committed(admin, settings.app_id, partitions)
        now = Committed(time.monotonic(), sum(offsets.values()))
        if first is None and now.total:
            first = now
        if first is not None and offsets == workload.counts:
            if first.total == now.total:
                raise ContenderError(
                    f"{process.name} committed all {now.total} events at once, so there is no "
                    "interval to measure: give it more events"
                )
            return first, now
        await asyncio.sleep(POLL_SECONDS)


async def _committed(
    admin: AIOKafkaAdminClient, group: str, partitions: list[TopicPartition]
) -> dict[int, int]:
    try:
        offsets = await admin.list_consumer_group_offsets(group, partitions=partitions)
    except KafkaError:
        # The group does not exist before its first member joins.
        offsets = {}
    return {tp.partition: max(offsets[tp].offset, 0) if tp in offsets else 0 for tp in partitions}


async def _create_topics(admin: AIOKafkaAdminClient, settings: Settings) -> None:
    names = (
        settings.topics_support,
        settings.topics_customers,
        settings.topics_updates,
        settings.topics_segment_changes,
        settings.topics_dead_letters,
    )
    await admin.create_topics([NewTopic(name, settings.partitions, 1) for name in names])


async def _delete_topics(admin: AIOKafkaAdminClient, app_id: str) -> None:
    """Free the memory of a run's outputs and changelogs before the next one starts."""
    names = [name for name in await admin.list_topics() if app_id in name]
    await admin.delete_topics(names)


async def _records_by_key(broker: str, topic: str) -> Counter[bytes | None]:
    """Count a topic's records by key."""
    counts: Counter[bytes | None] = Counter()
    consumer = AIOKafkaConsumer(
        topic, bootstrap_servers=broker, auto_offset_reset="earliest", enable_auto_commit=False
    )
    try:
        await consumer.start()
        # The end comes from fetch responses: Tansu's ListOffsets is short for batched records.
        while not await _at_end(consumer):
            for records in (await consumer.getmany(timeout_ms=200)).values():
                counts.update(record.key for record in records)
    finally:
        await consumer.stop()
    return counts


async def _at_end(consumer: AIOKafkaConsumer) -> bool:
    for partition in consumer.assignment():
        end = consumer.highwater(partition)
        if end is None or await consumer.position(partition) < end:
            return False
    return True
