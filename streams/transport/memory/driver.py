"""Faust's transport over the simulated broker: stock Faust's, and the service's.

Only the driver is simulated. `MemoryTransport` is stock Faust on top of it, and
`BatchMemoryTransport` is the service's transport on top of it.
"""

from __future__ import annotations

from typing import Any, ClassVar

from faust.transport import base

from streams.transport.consumer import BatchDelivery
from streams.transport.memory.broker import MemoryBroker
from streams.transport.memory.consuming import MemoryConsumer
from streams.transport.memory.group import MemoryGroup
from streams.transport.memory.producing import MemoryProducer
from streams.transport.memory.recovering import MemoryRecovery
from streams.transport.producer import StrictDelivery


class MemoryTransport(base.Transport):  # type: ignore[misc]
    """Stock Faust over the simulated broker; it creates a group unless one is given."""

    Consumer: ClassVar[type] = MemoryConsumer
    Producer: ClassVar[type] = MemoryProducer

    def __init__(self, app: Any, broker: MemoryBroker, group: MemoryGroup | None = None) -> None:
        super().__init__([], app)
        self.broker = broker
        self.group = MemoryGroup(broker.partitions) if group is None else group


class BatchMemoryConsumer(BatchDelivery, MemoryConsumer):
    """Our consumer over the simulated broker."""


class StrictMemoryProducer(StrictDelivery, MemoryProducer):
    """Our producer over the simulated broker."""


class BatchMemoryTransport(MemoryTransport):
    """Our transport over the simulated broker."""

    Consumer: ClassVar[type] = BatchMemoryConsumer
    Producer: ClassVar[type] = StrictMemoryProducer


def run_in_memory(app: Any, broker: MemoryBroker, group: MemoryGroup | None = None) -> None:
    """Make a batch app that is not started yet run over a simulated broker."""
    app.transport = BatchMemoryTransport(app, broker, group)
    app.tables._recovery = MemoryRecovery(app, app.tables, beacon=app.tables.beacon)  # noqa: SLF001
    app.tables.sleep = _no_sleep


async def _no_sleep(_seconds: float) -> None:
    """Skip the second that Faust's table manager sleeps at its start."""


def batches_in_work(app: Any) -> int:
    """Return how many batches are fetched and not finished."""
    queues = app.consumer._in_work.values()  # noqa: SLF001
    return sum(not message.acked for queue in queues for message in queue)


def silence(app: Any) -> None:
    """Cut an app off from the broker, like a killed process; the caller then cancels its tasks.

    The app and its services are marked as stopped. Otherwise each would report a crash when its
    tasks end, and be started again.
    """
    app.consumer.die()
    app.producer.client.die()
    for service in (app, *app.agents.values()):
        _stopped(service)


def _stopped(service: Any) -> None:
    service._stopped.set()  # noqa: SLF001 - to `stop` is what a process that was killed does not do
    for child in service._children:  # noqa: SLF001
        if child is not None:
            _stopped(child)
