"""A topology under test: the real service in one process, its clock in the test's hands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from faust.types import TP

from models.contracts.parameters import Parameters
from streams.settings import Settings
from streams.testing.broker import MemoryBroker, OutgoingRecord, Record
from streams.testing.cache import MemoryScoreCache
from streams.testing.cache_view import MemoryCacheView
from streams.testing.clock import START, Moment
from streams.testing.errors import NotSettled, WorkerCrashed
from streams.testing.group import MemoryGroup
from streams.testing.parameters import MemoryParameters
from streams.testing.service import Service, running
from streams.testing.settings import shop_settings, with_erasure_key
from streams.testing.settling import Settling
from streams.testing.worker import MemoryWorker, Surroundings
from streams.topics import plan

SETTLE_SECONDS = 10.0
"""How long a topology may stand still, by the wall clock, before a reader gives up."""


class Topology(Service):
    """The service in this process, over a simulated broker, with faults at the test's word.

    Made by `running_topology`. settle_seconds: how long it may stand still by the wall clock.
    """

    def __init__(self, settings: Settings, start: Moment, settle_seconds: float) -> None:
        # Offsets are committed when the topology settles, so that what a killed worker had not
        # committed does not depend on how quick the machine is.
        settings = with_erasure_key(
            settings.model_copy(update={"commit_interval": 60.0, "state_dir": None})
        )
        super().__init__(settings, start)
        self.broker = MemoryBroker(self.clock.now)
        for topic in plan(settings):
            self.broker.create_topic(topic.name, topic.partitions)
        self.workers: list[MemoryWorker] = []
        self._started = 0
        self._settle_seconds = settle_seconds
        self._feed = MemoryParameters(settings.economics.currency)
        cache = MemoryScoreCache()
        self.cache = MemoryCacheView(cache, self.settled, self._touch)
        self._around = Surroundings(
            settings,
            self.partitions,
            self.broker,
            MemoryGroup(self.broker.partitions),
            cache,
            self._feed,
            self.clock.now,
        )
        self._settling = Settling(self._around, self.workers, settle_seconds)

    async def settled(self) -> None:
        """Wait until everything that was published is worked on, and what follows from it.

        Raises
        ------
        WorkerCrashed
            when a worker has crashed.
        NotSettled
            when records wait and nothing goes on: no worker runs, or a topic is frozen.
        """
        await self._settling.settle()

    async def still(self) -> None:
        """Wait until nothing goes on, also where a fault holds something up."""
        await self._settling.until_still()

    @property
    def parameters(self) -> Parameters | None:
        """The fitted parameters in use; none: the simple average. To set them publishes nothing."""
        return self._feed.current

    @parameters.setter
    def parameters(self, parameters: Parameters | None) -> None:
        self._feed.use(parameters)

    async def use_parameters(self, parameters: Parameters, *, revalue: bool = False) -> None:
        """As for every service; workers have them at once."""
        await self.settled()
        self._feed.use(parameters)
        await super().use_parameters(parameters, revalue=revalue)

    # Workers.

    async def start_worker(self) -> MemoryWorker:
        """Start one more worker; it has joined and recovered when this returns.

        Raises WorkerCrashed when it, or another one, has crashed.
        """
        self._started += 1
        worker = MemoryWorker(f"worker-{self._started}", self._around)
        self.workers.append(worker)
        await worker.start()
        self._settling.check()
        return worker

    async def stop_worker(self, worker: MemoryWorker | None = None) -> None:
        """Stop a worker in good order, the newest if none is named; it commits and leaves.

        Errors: NotSettled when it does not come to an end, such as over a frozen topic; then it is
        killed. ValueError for one that does not run.
        """
        worker = running(self.workers, worker)
        try:
            stopped = await worker.stop(self._settle_seconds)
        finally:
            self._take_out(worker)
        if not stopped:
            raise NotSettled(
                f"{worker.name} did not stop within {self._settle_seconds:g} s and was killed"
                f"{self._settling.faults()}"
            )
        if worker.error is not None:
            raise WorkerCrashed(f"{worker.name}: {worker.error!r}") from worker.error

    async def kill_worker(self, worker: MemoryWorker | None = None) -> None:
        """Kill a worker, the newest if none is named: nothing is finished, flushed or committed.

        The group notices at once. What it held is recovered by those that are left, or by the next
        that is started.
        """
        worker = running(self.workers, worker)
        self._take_out(worker)
        await worker.kill()

    async def crash(self) -> BaseException:
        """Wait for a worker to crash, as the test expects; returns its error, the worker is gone.

        Raises NotSettled when everything is done and no worker has crashed.
        """
        worker = await self._settling.until_crash()
        error = worker.error
        await self.kill_worker(worker)
        if error is None:
            raise AssertionError(f"{worker.name} has not crashed")
        return error

    # Faults.

    def fail_next_send(self, topic: str, times: int = 1) -> None:
        """Have the next requests to write to a topic answered with an error: a worker crashes.

        Errors: ValueError for a topic that there is none of, here and below.
        """
        self._partitions(topic)
        self.broker.fail_next[topic] += times

    def freeze(self, topic: str) -> None:
        """Have what is written to a topic be acknowledged only when it is released."""
        self._partitions(topic)
        self.broker.silent.add(topic)

    def release(self, *topics: str) -> None:
        """Let frozen topics go on: these, or all."""
        for topic in topics:
            self._partitions(topic)
        self.broker.release(*topics)

    async def close(self, *, quiet: bool = False) -> None:
        """End all workers; WorkerCrashed for a crash that nobody asked about, unless quiet."""
        crashed = next((worker for worker in self.workers if worker.error is not None), None)
        for worker in list(self.workers):
            await self.kill_worker(worker)
        if crashed is not None and not quiet:
            raise WorkerCrashed(f"{crashed.name}: {crashed.error!r}") from crashed.error

    def _take_out(self, worker: MemoryWorker) -> None:
        # One that is being stopped may be killed meanwhile.
        if worker in self.workers:
            self.workers.remove(worker)

    async def _append(self, tp: TP, records: Sequence[OutgoingRecord]) -> int:
        return self.broker.append_all(tp, records)

    async def _records(self, topic: str) -> list[Record]:
        return self.broker.records(topic)

    def _records_now(self, topic: str) -> Sequence[Record]:
        return self.broker.records(topic)

    @property
    def _can_settle(self) -> bool:
        return bool(self.workers) and not self.broker.silent


@asynccontextmanager
async def running_topology(
    settings: Settings | None = None,
    *,
    workers: int = 1,
    start: Moment = START,
    parameters: Parameters | None = None,
    settle_seconds: float = SETTLE_SECONDS,
) -> AsyncIterator[Topology]:
    """A topology with workers that are ready.

    settings: those of `shop_settings`, if there are none. start: what time it is.
    settle_seconds: how long it may stand still by the wall clock before a reader gives up.

    Raises
    ------
    WorkerCrashed
        at the end, for a worker that crashed without the test asking.
    """
    topology = Topology(settings or shop_settings(), start, settle_seconds)
    try:
        topology.parameters = parameters
        for _ in range(workers):
            await topology.start_worker()
        yield topology
    except BaseException:
        await topology.close(quiet=True)
        raise
    await topology.close()
