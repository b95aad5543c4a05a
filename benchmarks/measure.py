"""One contender, run as whole processes and measured from the outside."""

import asyncio
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import redis.asyncio
from aiokafka import TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.errors import KafkaError

from benchmarks.answers import Published, published, totals
from benchmarks.contenders import Contender
from benchmarks.contenders.settings import BrokerKind, Settings
from benchmarks.processes import Process
from benchmarks.publishing import Totals, Workload

POLL_SECONDS = 0.05
VISIBLE_SECONDS = 5.0


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


class Committed(NamedTuple):
    """How many records the group had committed, when (monotonic seconds), and for how much CPU."""

    at: float
    total: int
    cpu: float


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
) -> Run:
    """Run a contender over a workload with fresh topics and group, and an empty Redis.

    from_start: measure from the start of the process, not from when it was warm.

    Raises:
        ContenderError: it did not commit every record within `limit_seconds`, or its outputs do
            not add up to the workload.

    """
    cache = redis.asyncio.from_url(settings.redis)
    admin = AIOKafkaAdminClient(bootstrap_servers=settings.broker)
    processes: list[Process] = []
    try:
        await admin.start()
        await cache.flushall()
        await create_topics(admin, settings)
        received = (await cache.info("stats"))["total_net_input_bytes"]
        with tempfile.TemporaryDirectory(prefix="clv-bench-") as directory:
            for number in range(contender.processes):
                environment = {**settings.environ(), **contender.environment}
                processes.append(
                    Process(
                        contender.name,
                        contender.command,
                        environment,
                        Path(directory) / str(number),
                    )
                )
            try:
                async with asyncio.timeout(limit_seconds):
                    first, last = await _watch(
                        admin, processes, settings, workload, from_start=from_start
                    )
                    if contender.commits_early:
                        await _answer(contender, workload, settings, processes[0], limit_seconds)
                        cpu = sum(process.cpu_seconds() for process in processes)
                        last = Committed(time.monotonic(), last.total, cpu)
                memory = [process.memory() for process in processes]
            except TimeoutError:
                raise ContenderError(
                    f"{contender.name} did not finish {workload.events} events of "
                    f"{workload.name} in {limit_seconds:g} s\n{processes[0].log_tail()}"
                ) from None
            finally:
                await asyncio.gather(*(asyncio.to_thread(each.stop) for each in processes))
            received = (await cache.info("stats"))["total_net_input_bytes"] - received
            async with asyncio.timeout(limit_seconds):
                found, came = await _answer(contender, workload, settings, processes[0])
        return Run(
            contender=contender.name,
            workload=workload.name,
            broker=settings.broker_kind,
            round=round_number,
            events=workload.events,
            events_timed=last.total - first.total,
            seconds_timed=last.at - first.at,
            cpu_timed=last.cpu - first.cpu,
            cpu_total=last.cpu,
            seconds_wall=last.at - processes[0].started,
            memory=sum(each["VmRSS"] for each in memory),
            memory_peak=sum(each["VmHWM"] for each in memory),
            customers=came.customers,
            updates=found.updates,
            sent=dict(found.bytes),
            sent_redis=received,
            exit_codes=[process.exit_code for process in processes],
        )
    finally:
        await _delete_topics(admin, settings.app_id)
        await admin.close()
        await cache.aclose()


async def _answer(
    contender: Contender,
    workload: Workload,
    settings: Settings,
    process: Process,
    seconds: float = VISIBLE_SECONDS,
) -> tuple[Published, Totals]:
    """Read what a contender published until it is right; ContenderError if that takes longer."""
    deadline = time.monotonic() + seconds
    while True:
        found = await published(settings.broker, settings.app_id)
        came = totals(contender.answers, found.last, process.last_line())
        count = workload.events if contender.per_event else found.updates
        if came == workload.totals and not found.dead_letters and found.updates == count:
            return found, came
        # A transaction's records can be read a moment after its offsets.
        if time.monotonic() > deadline:
            raise ContenderError(
                f"{contender.name} came to {came} in {found.updates} updates and "
                f"{found.dead_letters} dead letters where {workload.name} has "
                f"{workload.totals} in {workload.events} events\n{process.log_tail()}"
            )
        await asyncio.sleep(POLL_SECONDS)


async def _watch(
    admin: AIOKafkaAdminClient,
    processes: list[Process],
    settings: Settings,
    workload: Workload,
    *,
    from_start: bool,
) -> tuple[Committed, Committed]:
    """Poll the group's committed offsets; return when all were warm, and when all were done."""
    partitions = [TopicPartition(*place) for place, count in workload.counts.items() if count]
    first = Committed(processes[0].started, 0, 0.0) if from_start else None
    while True:
        for process in processes:
            if process.ended():
                raise ContenderError(
                    f"{process.name} ended by itself with exit code {process.exit_code}\n"
                    f"{process.log_tail()}"
                )
        offsets = await committed(admin, settings.app_id, partitions)
        now = Committed(
            time.monotonic(),
            sum(offsets.values()),
            sum(process.cpu_seconds() for process in processes),
        )
        if first is None and now.total and _reached(offsets, workload.warm):
            first = now
        if first is not None and _reached(offsets, workload.counts):
            if first.total == now.total:
                raise ContenderError(
                    f"{processes[0].name} committed all that was to be measured at once, so there "
                    "is no interval: give it more events, or --from-start"
                )
            return first, now
        await asyncio.sleep(POLL_SECONDS)


def _reached(offsets: dict[TopicPartition, int], counts: dict[TopicPartition, int]) -> bool:
    return all(offsets.get(place, 0) >= count for place, count in counts.items())


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
    """Create the topics of a run that contenders do not create."""
    names = (
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
