"""A topology under test: the real service in one process, its clock in the test's hands."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from models.contracts.parameters import Parameters
from models.segments import Dimension, Rules
from streams.kafka.partitions import TopicPartition
from streams.settings import Settings
from streams.simulation.clock import START, Moment
from streams.simulation.service import SETTLE_SECONDS, Simulation, running_simulation
from streams.testing.cache_view import MemoryCacheView
from streams.testing.service import Service
from streams.testing.settings import shop_settings
from streams.testing.usage import FaultUnused, awaited
from streams.transport.memory.broker import OutgoingRecord, Record


class Topology(Simulation, Service):
    """The service in this process, over a simulated broker, with faults on demand.

    Made by `running_topology`. settle_seconds: wall time without progress before it gives up.
    """

    def __init__(self, settings: Settings, start: Moment, settle_seconds: float) -> None:
        Simulation.__init__(self, settings, start, settle_seconds)
        Service.__init__(self, self.settings, self.clock)
        self.cache = MemoryCacheView(self._around.cache, self.settled, self._usage)

    settled = awaited(Simulation.settled)
    still = awaited(Simulation.still)
    start_worker = awaited(Simulation.start_worker)
    stop_worker = awaited(Simulation.stop_worker)
    kill_worker = awaited(Simulation.kill_worker)
    crash = awaited(Simulation.crash)

    @awaited
    async def use_parameters(self, parameters: Parameters, *, revalue: bool = False) -> None:
        """As for every service; workers have them at once."""
        await self.settled()
        self._feed.use(parameters)
        await super().use_parameters(parameters, revalue=revalue)

    @awaited
    async def use_rules(self, dimensions: Sequence[Dimension], version: str = "rules-2") -> Rules:
        """As for every service; workers have them at once."""
        await self.settled()
        self._feed.use_rules(self._rules(dimensions, version))
        return await super().use_rules(dimensions, version)

    async def _append(self, tp: TopicPartition, records: Sequence[OutgoingRecord]) -> int:
        return self.broker.append_all(tp, records)

    async def _records(self, topic: str) -> list[Record]:
        return self.broker.records(topic)

    def _records_now(self, topic: str) -> Sequence[Record]:
        return self.broker.records(topic)

    def _take_unused_fault(self) -> FaultUnused | None:
        unused = +self.broker.fail_next
        self.broker.fail_next.clear()
        if not unused:
            return None
        listed = ", ".join(f"{topic} ({count} left)" for topic, count in sorted(unused.items()))
        return FaultUnused(
            f"fail_next_send asked for failures that never happened: {listed}. Nothing was written "
            "there after the call, or the test ended before; ask before you publish, and wait: "
            "`await topology.crash()`"
        )

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

    Errors, at the end: WorkerCrashed for an unexpected crash; NotAwaited, FaultUnused.
    settings: by default those of `shop_settings`. start: the time of its clock. settle_seconds:
    wall time without progress before a reader gives up.
    """
    made = Topology(settings or shop_settings(), start, settle_seconds)
    async with running_simulation(made, workers=workers, parameters=parameters) as topology:
        yield topology
    topology.check_end()
