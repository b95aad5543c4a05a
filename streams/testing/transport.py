"""Faust's transport over the simulated broker: stock Faust's, and the service's.

Only the driver is simulated: what stands above it is Faust's own (`MemoryTransport`), or the
service's over the same driver (`BatchMemoryTransport`).
"""

from __future__ import annotations

from typing import Any, ClassVar

from faust.transport import base

from streams.testing.broker import MemoryBroker
from streams.testing.consuming import MemoryConsumer
from streams.testing.group import MemoryGroup
from streams.testing.producing import MemoryProducer
from streams.transport import BatchDelivery, StrictDelivery


class MemoryTransport(base.Transport):  # type: ignore[misc]
    """Stock Faust over the simulated broker; a group of its own, unless it is given one."""

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
