"""The service under test on a real broker and Redis, with workers as processes."""

from __future__ import annotations

import asyncio
import signal
import tempfile
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any, NoReturn
from unittest import SkipTest

from models.contracts.parameters import Parameters
from models.errors import ClvError
from streams.cache import ScoreCache, connect
from streams.embedded import EmbeddedBroker, EmbeddedRedis
from streams.kafka.clients import admin_client
from streams.kafka.connection import Broker
from streams.kafka.partitions import TopicPartition, partitions_of
from streams.kafka.topics import TopicPlan, create_missing, create_new
from streams.kafka.writing import Outgoing, RecordWriter, record_writer
from streams.settings import Settings, Topics
from streams.simulation.clock import START, Clock, Moment
from streams.simulation.service import NotSettled, partition_count
from streams.simulation.worker import running
from streams.testing.cache_view import CacheView
from streams.testing.kafka_log import KafkaLog
from streams.testing.process import WorkerProcess
from streams.testing.service import Service
from streams.testing.settings import shop_settings
from streams.testing.usage import awaited
from streams.topics import plan, prepare_topics
from streams.transport.memory.broker import OutgoingRecord, Record

SETTLE_SECONDS = 120.0
"""How long a cluster may take to settle: a rebalance waits for sessions, and machines are slow."""

_LOOK_SECONDS = 0.05
_QUICK = {
    "session_timeout": 2.0,
    "heartbeat_interval": 0.5,
    "commit_interval": 0.1,
    "health_port": None,
}
"""What is found out and committed soon, so that tests need not wait for it."""

_ANY_TIME = {
    "message.timestamp.type": "CreateTime",
    "message.timestamp.after.max.ms": str(2**63 - 1),
    "retention.ms": "-1",
}
"""The test's clock may be ahead of the broker's, or far behind it."""


class MemoryOnly(ClvError, SkipTest):
    """A fault that only a simulated broker has on request: on a real one the test is skipped."""


class Cluster(Service):
    """The service as `clv worker` processes, with the interface of a `Topology`.

    Made by `running_cluster`. Kills are by SIGKILL; the workers read the clock from a file.
    """

    def __init__(
        self,
        settings: Settings,
        start: Moment,
        directory: Path,
        seconds: float,
        writer: RecordWriter,
    ) -> None:
        super().__init__(settings, Clock(settings.economics.timezone, start))
        self.workers: list[WorkerProcess] = []
        self.log = KafkaLog(Broker.of(settings), settings.app_id)
        self._redis = connect(str(settings.redis))
        self.cache = CacheView(
            ScoreCache(self._redis, settings.redis_prefix), self.settled, self._usage
        )
        self._directory = directory
        self._clock_file = directory / "clock"
        self._seconds = seconds
        self._writer = writer
        self._started = 0
        self._ended_history: str | None = None
        self._sources = partitions_of(dict.fromkeys(settings.topics.sources, self.partitions))
        self._tell_time()

    @awaited
    async def settled(self) -> None:
        """Wait until everything published is processed and committed.

        Raises WorkerCrashed when a worker has ended by itself, with the end of its log; NotSettled
        when it takes too long, or there is no worker.
        """
        until = monotonic() + self._seconds
        ends: dict[TopicPartition, int] = {}
        # Workers send records to each other: a commit may come with new ones to wait for.
        while ends != (ends := await self.log.ends(self._sources)):
            await self._committed(ends, until)

    @awaited
    async def start_worker(self) -> WorkerProcess:
        """Start one more worker; it joins by itself."""
        self._tell_time()
        self._started += 1
        worker = await WorkerProcess.start(
            f"worker-{self._started}", self._directory, self._clock_file, self.settings
        )
        self.workers.append(worker)
        return worker

    @awaited
    async def stop_worker(self, worker: WorkerProcess | None = None) -> None:
        """Stop a worker by SIGTERM, the newest if none is named; WorkerCrashed if it fails."""
        worker = self._take_out(worker)
        # One that was not ready yet has nothing to finish, and dies of the signal.
        if await worker.stop() not in (0, -signal.SIGTERM):
            worker.check()

    @awaited
    async def kill_worker(self, worker: WorkerProcess | None = None) -> None:
        """Kill a worker by SIGKILL, the newest if none is named; its session ends by itself."""
        await self._take_out(worker).stop(signal.SIGKILL)

    @awaited
    async def use_parameters(self, parameters: Parameters, *, revalue: bool = False) -> None:
        """As for every service, but revalue must be True: only a tick waits for the parameters."""
        if not revalue:
            raise MemoryOnly("workers come to new parameters by themselves: say revalue=True")
        await super().use_parameters(parameters, revalue=revalue)

    def fail_next_send(self, topic: str, times: int = 1) -> NoReturn:
        """Only a simulated broker does that; the test is skipped."""
        raise MemoryOnly(f"no delivery to {topic} fails {times} times at the word of a test here")

    def freeze(self, topic: str) -> NoReturn:
        """Only a simulated broker does that; the test is skipped."""
        raise MemoryOnly(f"a real broker does not freeze {topic}")

    def history(self, *customers: str) -> str:
        """As for every service; once the cluster has ended, what it was when the test failed."""
        if self._ended_history is not None:
            return self._ended_history
        return super().history(*customers)

    def keep_history(self) -> None:
        """Keep the history for the report of a test that has failed: the topics will be gone."""
        try:
            self._ended_history = self.history()
        except Exception as error:  # noqa: BLE001 - the test's own error counts
            self._ended_history = f"the history cannot be told: {error!r}"

    async def close(self) -> None:
        """End everything; WorkerCrashed for a worker that had ended by itself."""
        ended = next((worker for worker in self.workers if not worker.running), None)
        for worker in self.workers:
            await worker.stop(signal.SIGKILL)
        await self._redis.aclose()
        self._ended_history = self._ended_history or "the cluster has ended, with all its topics"
        if ended is not None:
            ended.check()

    async def _committed(self, ends: dict[TopicPartition, int], until: float) -> None:
        awaited = {tp: end for tp, end in ends.items() if end}
        while awaited:
            for worker in self.workers:
                worker.check()
            committed = await self.log.committed(awaited)
            awaited = {tp: end for tp, end in awaited.items() if committed.get(tp, 0) < end}
            if awaited and (not self.workers or monotonic() > until):
                where = ", ".join(f"{tp.topic}[{tp.partition}]" for tp in sorted(awaited))
                why = f"in {self._seconds:g} s" if self.workers else "for no worker runs"
                raise NotSettled(f"the cluster does not settle: nobody has finished {where}, {why}")
            await asyncio.sleep(_LOOK_SECONDS if awaited else 0)

    async def _append(self, tp: TopicPartition, records: Sequence[OutgoingRecord]) -> int:
        self._tell_time()
        now = self.clock.now()
        rows = [Outgoing(key, value, headers, now) for key, value, headers in records]
        return (await self._writer.write(tp, rows)).begin

    async def _records(self, topic: str) -> list[Record]:
        tps = partitions_of({topic: partition_count(self.settings, topic)})
        return await self.log.read(tps)

    def _records_now(self, topic: str) -> Sequence[Record]:
        # A report is made outside of the test's loop.
        with ThreadPoolExecutor(1) as thread:
            return thread.submit(asyncio.run, self._records(topic)).result()

    @property
    def _can_settle(self) -> bool:
        return bool(self.workers)

    def _take_out(self, worker: WorkerProcess | None) -> WorkerProcess:
        worker = running(self.workers, worker)
        self.workers.remove(worker)
        return worker

    def _tell_time(self) -> None:
        """Write the clock's file anew, whole at any moment."""
        written = self._clock_file.with_suffix(".new")
        written.write_text(str(self.clock.now()))
        written.rename(self._clock_file)


@asynccontextmanager
async def running_cluster(
    settings: Settings | None = None,
    *,
    workers: int = 1,
    start: Moment = START,
    kafka: str | None = None,
    replication: int = 1,
    settle_seconds: float = SETTLE_SECONDS,
) -> AsyncIterator[Cluster]:
    """A cluster with workers that have been started; otherwise as `running_topology`.

    settings: by default those of `shop_settings`; servers and timeouts are set here. kafka:
    bootstrap servers of an Apache Kafka, where it makes its own topics and deletes them at the end;
    None: an embedded broker. Redis is always embedded.
    """
    async with AsyncExitStack() as stack:
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="clv-testing-")))
        redis = await stack.enter_async_context(EmbeddedRedis())
        chosen = {**_QUICK, "redis": redis.url, "replication": replication}
        if kafka is None:
            broker = await stack.enter_async_context(EmbeddedBroker())
            chosen["broker"] = broker.address
        else:
            chosen |= {"broker": kafka, **await _own_names(kafka)}
        configured = (settings or shop_settings()).model_copy(update=chosen)
        if kafka is not None:
            stack.push_async_callback(_delete_topics, configured)
            await _create_inputs(configured)
        await prepare_topics(configured, Broker.of(configured))
        writer = await stack.enter_async_context(record_writer(Broker.of(configured)))
        cluster = Cluster(configured, start, directory, settle_seconds, writer)
        stack.push_async_callback(cluster.close)
        for _ in range(workers):
            await cluster.start_worker()
        try:
            yield cluster
        except Exception:
            cluster.keep_history()
            raise
    cluster.check_end()


async def _own_names(servers: str) -> dict[str, Any]:
    """Names of group and topics that nobody else uses: a topic that is made here claims them."""
    async with admin_client(Broker(servers)) as admin:
        for number in count(1):
            claim = f"clv-testing-{number}"
            if await create_new(admin, [TopicPlan(claim, 1)], 1):
                break
    topics = {field: f"{name}.{claim}" for field, name in Topics().model_dump().items()}
    return {"app_id": claim, "topics": Topics(**topics)}


async def _create_inputs(settings: Settings) -> None:
    """Create the topics that the test writes to: Kafka refuses records of the future otherwise."""
    topics = settings.topics
    written = {*topics.inputs, topics.clock, topics.models}
    planned = [
        replace(topic, config={**topic.config, **_ANY_TIME})
        for topic in plan(settings)
        if topic.name in written
    ]
    async with admin_client(Broker.of(settings)) as admin:
        await create_missing(admin, planned, settings.replication)


async def _delete_topics(settings: Settings) -> None:
    """Leave nothing behind on a broker that others use too."""
    async with admin_client(Broker.of(settings)) as admin:
        await admin.delete_topics([settings.app_id, *(topic.name for topic in plan(settings))])
