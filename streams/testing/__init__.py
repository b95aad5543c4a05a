"""Testing a topology: the real service in one process, its clock in the test's hands.

Agents, table, pipeline, outputs and cache writer are the service's own; broker, consumer group and
Redis are simulated, and say so. With pytest, a test asks for the fixture `topology`; elsewhere:

    async with running_topology() as topology:
        await topology.orders.placed("c1", total="40.00 EUR", at="2026-01-03")
        await topology.advance(days=200)
        change = await topology.segment_changes.last("c1", "lifecycle")
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from streams.files.reader import read_orders
    from streams.outcome.outcome import Outcome
    from streams.simulation.clock import START, Clock, Moment
    from streams.simulation.service import NotSettled
    from streams.simulation.worker import MemoryWorker, WorkerCrashed
    from streams.testing.cluster import Cluster, MemoryOnly, running_cluster
    from streams.testing.golden import Golden, GoldenFailed
    from streams.testing.outcomes import outcome_of, replayed
    from streams.testing.plugin import everywhere
    from streams.testing.process import WorkerProcess
    from streams.testing.reading import Letter, NotPublished
    from streams.testing.settings import shop_settings
    from streams.testing.topology import Topology, running_topology
    from streams.testing.usage import FaultUnused, NotAwaited, OtherEventLoop
    from streams.testing.writing import Money
    from streams.transport.memory.broker import MemoryBroker, Record

__all__ = [
    "START",
    "Clock",
    "Cluster",
    "FaultUnused",
    "Golden",
    "GoldenFailed",
    "Letter",
    "MemoryBroker",
    "MemoryOnly",
    "MemoryWorker",
    "Moment",
    "Money",
    "NotAwaited",
    "NotPublished",
    "NotSettled",
    "OtherEventLoop",
    "Outcome",
    "Record",
    "Topology",
    "WorkerCrashed",
    "WorkerProcess",
    "everywhere",
    "outcome_of",
    "read_orders",
    "replayed",
    "running_cluster",
    "running_topology",
    "shop_settings",
]

# Imported when asked for: every run of pytest imports the plugin, and Faust takes a second.
_MODULES = {
    "streams.files.reader": ("read_orders",),
    "streams.outcome.outcome": ("Outcome",),
    "streams.transport.memory.broker": ("MemoryBroker", "Record"),
    "streams.simulation.clock": ("START", "Clock", "Moment"),
    "streams.simulation.service": ("NotSettled",),
    "streams.simulation.worker": ("MemoryWorker", "WorkerCrashed"),
    "streams.testing.cluster": ("Cluster", "MemoryOnly", "running_cluster"),
    "streams.testing.golden": ("Golden", "GoldenFailed"),
    "streams.testing.outcomes": ("outcome_of", "replayed"),
    "streams.testing.plugin": ("everywhere",),
    "streams.testing.process": ("WorkerProcess",),
    "streams.testing.reading": ("Letter", "NotPublished"),
    "streams.testing.settings": ("shop_settings",),
    "streams.testing.topology": ("Topology", "running_topology"),
    "streams.testing.usage": ("FaultUnused", "NotAwaited", "OtherEventLoop"),
    "streams.testing.writing": ("Money",),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(module), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
