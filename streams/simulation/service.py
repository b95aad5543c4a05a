"""The service in one process, over a simulated broker, with its clock in the caller's hands."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import TypeVar

from models.contracts.parameters import Parameters
from models.errors import ClvError
from models.segments import Rules
from streams.kafka.partitions import TopicPartition, partitions_of
from streams.settings import Settings
from streams.simulation.cache import MemoryScoreCache
from streams.simulation.clock import START, Clock, Moment
from streams.simulation.parameters import MemoryParameters
from streams.simulation.settings import TESTING_ERASURE_KEY
from streams.simulation.worker import MemoryWorker, Surroundings, WorkerCrashed, running
from streams.topics import plan
from streams.transport.memory.broker import MemoryBroker
from streams.transport.memory.group import MemoryGroup

SETTLE_SECONDS = 10.0
"""How long a simulation may stand still, by the wall clock, before it is given up."""

_QUICK_TURNS = 2_000
"""Turns of the event loop before it is looked at only now and then, for what waits for a timer."""

_STILL_TURNS = 300
"""Turns in which nothing changes while a fault is on: nothing will."""

_PAUSE_SECONDS = 0.002

_Made = TypeVar("_Made", bound="Simulation")


class NotSettled(ClvError, AssertionError):
    """Records are not processed or not acknowledged; the text names them."""


class Simulation:
    """The service in this process, over a simulated broker, with faults on demand.

    Made by `running_simulation`. settle_seconds: how long it may stand still by the wall clock.
    """

    def __init__(
        self, settings: Settings, start: Moment = START, settle_seconds: float = SETTLE_SECONDS
    ) -> None:
        # Offsets are committed when everything settles, so that what a killed worker had not
        # committed does not depend on how quick the machine is.
        key = TESTING_ERASURE_KEY if settings.erasure_key is None else settings.erasure_key
        settings = settings.model_copy(
            update={"commit_interval": 60.0, "state_dir": None, "erasure_key": key}
        )
        self.settings = settings
        self.partitions = settings.partitions
        self.clock = Clock(settings.economics.timezone, start)
        self.broker = MemoryBroker(self.clock.now)
        for topic in plan(settings):
            self.broker.create_topic(topic.name, topic.partitions)
        self.workers: list[MemoryWorker] = []
        self._started = 0
        self._settle_seconds = settle_seconds
        self._feed = MemoryParameters(settings.economics.currency, settings.rules)
        self._around = Surroundings(
            settings,
            self.broker,
            MemoryGroup(self.broker.partitions),
            MemoryScoreCache(),
            self._feed,
        )
        self._sources = partitions_of(dict.fromkeys(settings.topics.sources, self.partitions))

    async def settled(self) -> None:
        """Wait until everything published is processed, and what follows from it.

        Raises WorkerCrashed when a worker has crashed; NotSettled when records wait and there is no
        progress: no worker runs, or a topic is frozen.
        """
        turns, still, seen, moved_at = 0, 0, -1, monotonic()
        while (waits := await self._waits()) is not None:
            turns += 1
            if (now := self._progress()) != seen:
                seen, still, moved_at = now, 0, monotonic()
            still += 1
            hopeless = bool(self.broker.silent) or not self.workers
            gone = monotonic() - moved_at > self._settle_seconds
            if gone or (hopeless and still > _STILL_TURNS):
                raise NotSettled(f"the topology does not settle: {waits}{self._faults()}")
            await asyncio.sleep(0 if turns < _QUICK_TURNS else _PAUSE_SECONDS)

    async def still(self) -> None:
        """Wait until nothing happens any more, even if a fault holds records up."""
        still, seen = 0, -1
        while still < _STILL_TURNS:
            still += 1
            if (now := self._progress()) != seen:
                seen, still = now, 0
            await asyncio.sleep(0)

    def give_parameters(self, parameters: Parameters | None) -> None:
        """Have workers use these too, from when they hold; None: only weak prior ones."""
        self._feed.use(parameters)

    def give_rules(self, rules: Rules) -> None:
        """Have workers use these too, from when they hold."""
        self._feed.use_rules(rules)

    # Workers.

    async def start_worker(self) -> MemoryWorker:
        """Start one more worker; return when it has joined and recovered.

        Raises WorkerCrashed when it, or another one, has crashed.
        """
        self._started += 1
        worker = MemoryWorker(f"worker-{self._started}", self._around)
        self.workers.append(worker)
        await worker.start()
        self._check()
        return worker

    async def stop_worker(self, worker: MemoryWorker | None = None) -> None:
        """Stop a worker, the newest if none is named; it commits and leaves the group.

        Errors: NotSettled when it does not stop, such as with a frozen topic; it is killed then.
        ValueError for a worker that does not run.
        """
        worker = running(self.workers, worker)
        try:
            stopped = await worker.stop(self._settle_seconds)
        finally:
            self._take_out(worker)
        if not stopped:
            raise NotSettled(
                f"{worker.name} did not stop within {self._settle_seconds:g} s and was killed"
                f"{self._faults()}"
            )
        worker.check()

    async def kill_worker(self, worker: MemoryWorker | None = None) -> None:
        """Kill a worker, the newest if none is named; it finishes, flushes and commits nothing.

        The group notices at once; other workers, or the next one started, recover its partitions.
        """
        worker = running(self.workers, worker)
        self._take_out(worker)
        await worker.kill()

    async def crash(self) -> BaseException:
        """Wait for the crash that the test expects; remove the worker and return its error.

        Raises NotSettled when everything is processed and no worker has crashed.
        """
        try:
            await self.settled()
        except WorkerCrashed as crash:
            await self.kill_worker(next(each for each in self.workers if each.error is not None))
            if crash.__cause__ is None:
                raise
            return crash.__cause__
        raise NotSettled("no worker crashed: everything that was published is worked on")

    # Faults.

    def fail_next_send(self, topic: str, times: int = 1) -> None:
        """Have the next writes to a topic fail, which crashes a worker.

        Errors: ValueError for an unknown topic, here and below.
        """
        partition_count(self.settings, topic)
        self.broker.fail_next[topic] += times

    def freeze(self, topic: str) -> None:
        """Leave writes to a topic unacknowledged until it is released."""
        partition_count(self.settings, topic)
        self.broker.silent.add(topic)

    def release(self, *topics: str) -> None:
        """Release frozen topics: these, or all."""
        for topic in topics:
            partition_count(self.settings, topic)
        self.broker.release(*topics)

    async def close(self, *, quiet: bool = False) -> None:
        """Kill all workers; raise WorkerCrashed for an unexpected crash, unless quiet."""
        crashed = next((worker for worker in self.workers if worker.error is not None), None)
        for worker in list(self.workers):
            await self.kill_worker(worker)
        if crashed is not None and not quiet:
            crashed.check()

    def _check(self) -> None:
        """Raise WorkerCrashed if a worker has crashed."""
        for worker in self.workers:
            worker.check()

    def _faults(self) -> str:
        """What the test holds up, for the end of a sentence."""
        broker = self.broker
        waiting = sorted({f"{tp.topic}[{tp.partition}]" for tp, _, _ in broker.unanswered})
        if broker.silent:
            held = f", which holds records to {', '.join(waiting)}" if waiting else ""
            return f"; the test froze {', '.join(sorted(broker.silent))}{held}"
        return ""

    async def _waits(self) -> str | None:
        """What is waited for, in words; None when there is nothing."""
        self._check()
        if self._around.group.rebalancing or any(w.recovering for w in self.workers):
            return "partitions are being given to workers"
        if unread := self._unread():
            if not self.workers:
                return f"no worker runs, and nobody reads {_listed(unread)}"
            for worker in self.workers:
                if not worker.in_work:
                    await worker.commit()
            return f"nobody has finished {_listed(unread)}"
        if not self._around.cache.out and any(w.cache_behind for w in self.workers):
            return "the cache has not everything"
        return None

    def _unread(self) -> list[TopicPartition]:
        committed, ends = self.broker.committed, self.broker.ends
        return [tp for tp in self._sources if committed.get(tp, 0) < ends[tp]]

    def _progress(self) -> int:
        positions = sum(sum(w.app.consumer.positions.values()) for w in self.workers)
        return self.broker.changes + positions

    def _take_out(self, worker: MemoryWorker) -> None:
        # One that is being stopped may be killed meanwhile.
        if worker in self.workers:
            self.workers.remove(worker)


@asynccontextmanager
async def running_simulation(
    simulation: _Made, *, workers: int = 1, parameters: Parameters | None = None
) -> AsyncIterator[_Made]:
    """A simulation with workers that are ready; they are killed at the end.

    Raises WorkerCrashed at the end, for a crash that the caller did not ask for.
    """
    try:
        simulation.give_parameters(parameters)
        for _ in range(workers):
            await simulation.start_worker()
        yield simulation
    except BaseException:
        await simulation.close(quiet=True)
        raise
    await simulation.close()


def partition_count(settings: Settings, topic: str) -> int:
    """How many partitions a topic has; ValueError for a name that none has."""
    found = {each.name: each.partitions for each in plan(settings)}
    if topic not in found:
        raise ValueError(f"no topic is named {topic!r}; there are {', '.join(sorted(found))}")
    return found[topic]


def _listed(tps: list[TopicPartition]) -> str:
    return ", ".join(f"{tp.topic}[{tp.partition}]" for tp in tps)
