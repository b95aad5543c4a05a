"""One contender, run as whole processes and measured from the outside."""

import asyncio
import subprocess
import sys
import tempfile
import time
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import redis.asyncio
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from benchmarks.answers import Published, published, totals
from benchmarks.contenders import Contender
from benchmarks.contenders.settings import BrokerKind, Settings
from benchmarks.processes import Process
from benchmarks.publishing import BATCH_BYTES, Batches, Workload
from streams.kafka.partitions import TopicPartition

POLL_SECONDS = 0.05
VISIBLE_SECONDS = 5.0
SAMPLER = Path(sys.executable).with_name("py-spy")
"""Takes the samples of a flame graph; installed apart."""


@dataclass(frozen=True)
class Run:
    """What one run showed; seconds, bytes, records.

    Of the measured events: `events_timed`, `seconds_timed`, `cpu_timed`. `cpu_total` begins with
    the process. `sent` is by topic; `sent_redis` is what Redis received.
    """

    contender: str
    workload: str
    broker: BrokerKind
    round: int
    events: int
    events_timed: int
    seconds_timed: float
    cpu_timed: float
    cpu_total: float
    seconds_wall: float
    memory: int
    memory_peak: int
    customers: int
    updates: int
    sent: dict[str, int]
    sent_redis: int
    exit_codes: list[int | None]

    @property
    def rate(self) -> float:
        """Events a second."""
        return self.events_timed / self.seconds_timed

    @property
    def cpu_us(self) -> float:
        """Processor microseconds a measured event, of all the contender's processes."""
        return self.cpu_timed / self.events_timed * 1e6

    @property
    def cpu_us_with_start(self) -> float:
        """The same over all events, start included."""
        return self.cpu_total / self.events * 1e6

    @property
    def sent_bytes(self) -> float:
        """Bytes sent an event, to the broker and to Redis."""
        return (sum(self.sent.values()) + self.sent_redis) / self.events


class Moment(NamedTuple):
    """A time in monotonic seconds, and the processor seconds of a contender until then."""

    at: float
    cpu: float

    @classmethod
    def now(cls, processes: list[Process]) -> "Moment":
        """Return this moment."""
        return cls(time.monotonic(), sum(process.cpu_seconds() for process in processes))


class ContenderError(Exception):
    """A contender ended early, took too long, or came to other totals; shows its log's tail."""


async def run(
    contender: Contender,
    workload: Workload,
    settings: Settings,
    *,
    round_number: int,
    limit_seconds: float,
    from_start: bool = False,
    flame: Path | None = None,
) -> Run:
    """Run a contender over a workload with fresh topics and group, and an empty Redis.

    from_start: measure all events from the start of the process, not the others once it has
    committed the first ones. flame: a file for a flame graph of what is measured, by py-spy, which
    takes time of its own.

    Raises:
        ContenderError: it did not commit every record within `limit_seconds`, or its outputs do
            not add up to the workload.

    """
    async with AsyncExitStack() as stack:
        cache = redis.asyncio.from_url(settings.redis)
        stack.push_async_callback(cache.aclose)
        admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker)
        await admin.start()
        stack.push_async_callback(admin.close)
        await cache.flushall()
        await create_topics(admin, settings)
        stack.push_async_callback(_delete_topics, admin, settings.app_id)
        producer = await stack.enter_async_context(
            AIOKafkaProducer(bootstrap_servers=settings.broker, max_batch_size=BATCH_BYTES)
        )
        topics = settings.inputs
        warm = len(workload.events) if from_start else workload.warm
        parts = list(zip(workload.events, workload.partitions, strict=True))
        await Batches(producer, topics, parts[:warm]).publish()
        measured = Batches(producer, topics, parts[warm:])
        received = (await cache.info("stats"))["total_net_input_bytes"]
        directory = stack.enter_context(tempfile.TemporaryDirectory(prefix="clv-bench-"))
        processes = _start(contender, settings, Path(directory))

        async def until(count: int) -> Moment:
            counts = workload.counts(topics, count)
            await _until_committed(admin, processes, settings.app_id, counts)
            if contender.commits_early and count == len(workload.events):
                await _answer(contender, workload, settings, processes[0], limit_seconds)
            return Moment.now(processes)

        try:
            async with asyncio.timeout(limit_seconds):
                first = Moment(processes[0].started, 0.0)
                if not from_start:
                    await until(warm)
                    first = Moment.now(processes)
                if flame:
                    sampler = _sample(processes[0].pid, flame)
                    stack.push_async_callback(asyncio.to_thread, sampler.wait)
                await measured.publish()
                last = await until(len(workload.events))
            memory = [process.memory() for process in processes]
        except TimeoutError:
            raise ContenderError(
                f"{contender.name} did not finish {len(workload.events)} events of "
                f"{workload.name} in {limit_seconds:g} s\n{processes[0].log_tail()}"
            ) from None
        finally:
            await asyncio.gather(*(asyncio.to_thread(each.stop) for each in processes))
        received = (await cache.info("stats"))["total_net_input_bytes"] - received
        found = await _answer(contender, workload, settings, processes[0])
        return Run(
            contender=contender.name,
            workload=workload.name,
            broker=settings.broker_kind,
            round=round_number,
            events=len(workload.events),
            events_timed=len(workload.events) - (0 if from_start else warm),
            seconds_timed=last.at - first.at,
            cpu_timed=last.cpu - first.cpu,
            cpu_total=last.cpu,
            seconds_wall=last.at - processes[0].started,
            memory=sum(each["VmRSS"] for each in memory),
            memory_peak=sum(each["VmHWM"] for each in memory),
            customers=workload.totals.customers,
            updates=found.updates,
            sent=dict(found.bytes),
            sent_redis=received,
            exit_codes=[process.exit_code for process in processes],
        )


def _start(contender: Contender, settings: Settings, directory: Path) -> list[Process]:
    environment = {**settings.environ(), **contender.environment}
    return [
        Process(contender.name, contender.command, environment, directory / str(number))
        for number in range(contender.processes)
    ]


async def _answer(
    contender: Contender,
    workload: Workload,
    settings: Settings,
    process: Process,
    seconds: float = VISIBLE_SECONDS,
) -> Published:
    """Read what a contender published until it is right; ContenderError if that takes longer."""
    deadline = time.monotonic() + seconds
    while True:
        found = await published(settings.broker, settings.app_id, set(settings.inputs.values()))
        came = totals(contender.answers, found.last, process.last_line())
        count = len(workload.events) if contender.per_event else found.updates
        if came == workload.totals and not found.dead_letters and found.updates == count:
            return found
        # A transaction's records can be read a moment after its offsets.
        if time.monotonic() > deadline:
            raise ContenderError(
                f"{contender.name} came to {came} in {found.updates} updates and "
                f"{found.dead_letters} dead letters where {workload.name} has "
                f"{workload.totals} in {len(workload.events)} events\n{process.log_tail()}"
            )
        await asyncio.sleep(POLL_SECONDS)


def _sample(pid: int, file: Path) -> subprocess.Popen[bytes]:
    """Sample a process until it ends."""
    command = [SAMPLER, "record", "--pid", str(pid), "--output", file, "--duration", "3600"]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def _until_committed(
    admin: AIOKafkaAdminClient,
    processes: list[Process],
    group: str,
    counts: dict[TopicPartition, int],
) -> None:
    """Poll a group's committed offsets until it has so many; ContenderError if a process ends."""
    while True:
        for process in processes:
            if process.ended():
                raise ContenderError(
                    f"{process.name} ended by itself with exit code {process.exit_code}\n"
                    f"{process.log_tail()}"
                )
        offsets = await committed(admin, group, list(counts))
        if all(offsets[place] >= count for place, count in counts.items()):
            return
        await asyncio.sleep(POLL_SECONDS)


async def committed(
    admin: AIOKafkaAdminClient, group: str, partitions: list[TopicPartition]
) -> dict[TopicPartition, int]:
    """Return a group's committed offsets; 0 where there is none yet."""
    try:
        offsets = await admin.list_consumer_group_offsets(group, partitions=partitions)
    except KafkaError:
        # The group does not exist before its first member joins.
        offsets = {}
    return {tp: max(offsets[tp].offset, 0) if tp in offsets else 0 for tp in partitions}


async def create_topics(admin: AIOKafkaAdminClient, settings: Settings) -> None:
    """Create the topics of a run that not all contenders create."""
    # Quix Streams copies the retention to its changelog and needs it to be set.
    kept = {"retention.ms": "-1"}
    names = (
        *settings.inputs.values(),
        settings.topics_customers,
        settings.topics_updates,
        settings.topics_segment_changes,
        settings.topics_dead_letters,
    )
    await admin.create_topics(
        [NewTopic(name, settings.partitions, 1, topic_configs=kept) for name in names]
    )


async def _delete_topics(admin: AIOKafkaAdminClient, app_id: str) -> None:
    """Free the memory of a run's outputs and changelogs before the next one starts."""
    names = [name for name in await admin.list_topics() if app_id in name]
    await admin.delete_topics(names)
