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
    from streams.testing.backends import everywhere
    from streams.testing.broker import MemoryBroker, Record
    from streams.testing.clock import START, Clock, Moment
    from streams.testing.cluster import Cluster, running_cluster
    from streams.testing.errors import MemoryOnly, NotPublished, NotSettled, WorkerCrashed
    from streams.testing.golden import Golden, GoldenFailed
    from streams.testing.golden_outcome import Outcome, outcome_of, replayed
    from streams.testing.process import WorkerProcess
    from streams.testing.reading import Letter
    from streams.testing.settings import shop_settings
    from streams.testing.topology import Topology, running_topology
    from streams.testing.worker import MemoryWorker
    from streams.testing.writing import Money

__all__ = [
    "START",
    "Clock",
    "Cluster",
    "Golden",
    "GoldenFailed",
    "Letter",
    "MemoryBroker",
    "MemoryOnly",
    "MemoryWorker",
    "Moment",
    "Money",
    "NotPublished",
    "NotSettled",
    "Outcome",
    "Record",
    "Topology",
    "WorkerCrashed",
    "WorkerProcess",
    "everywhere",
    "outcome_of",
    "replayed",
    "running_cluster",
    "running_topology",
    "shop_settings",
]

# Imported when asked for: every run of pytest imports the plugin, and Faust takes a second.
_MODULES = {
    "everywhere": "backends",
    "MemoryBroker": "broker",
    "Record": "broker",
    "START": "clock",
    "Clock": "clock",
    "Moment": "clock",
    "Cluster": "cluster",
    "running_cluster": "cluster",
    "MemoryOnly": "errors",
    "NotPublished": "errors",
    "NotSettled": "errors",
    "WorkerCrashed": "errors",
    "Golden": "golden",
    "GoldenFailed": "golden",
    "Outcome": "golden_outcome",
    "outcome_of": "golden_outcome",
    "replayed": "golden_outcome",
    "WorkerProcess": "process",
    "Letter": "reading",
    "shop_settings": "settings",
    "Topology": "topology",
    "running_topology": "topology",
    "MemoryWorker": "worker",
    "Money": "writing",
}


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
