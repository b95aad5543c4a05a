"""Our transport for Faust: batches in, strict delivery out, bulk recovery.

Faust keeps the group protocol, the assignor, agents, tables, supervisors and timers; what is
replaced is what loses or counts twice, and what costs a task for every record. `batch_app` makes
an ordinary `faust.App` that uses it.
"""

from __future__ import annotations

from typing import Any, ClassVar

import faust
from faust.transport.drivers import aiokafka as driver
from mode import CrashingSupervisor
from yarl import URL

from streams.transport import headers
from streams.transport.batches import BatchMessage, RecordBatch
from streams.transport.consumer import BatchConsumer, BatchDelivery
from streams.transport.producer import (
    DeliveryFailed,
    OutgoingRecord,
    StrictDelivery,
    StrictProducer,
)
from streams.transport.recovery import BulkRecovery, BulkTableManager
from streams.transport.schema import RawSchema
from streams.transport.table import PartitionedStore, PartitionedTable

__all__ = [
    "BatchApp",
    "BatchConsumer",
    "BatchDelivery",
    "BatchMessage",
    "BatchTransport",
    "BulkRecovery",
    "BulkTableManager",
    "DeliveryFailed",
    "OutgoingRecord",
    "PartitionedStore",
    "PartitionedTable",
    "RawSchema",
    "RecordBatch",
    "StrictDelivery",
    "StrictProducer",
    "batch_app",
]


class BatchTransport(driver.Transport):  # type: ignore[misc]
    """Faust's aiokafka transport with our consumer and producer."""

    Consumer: ClassVar[type] = BatchConsumer
    Producer: ClassVar[type] = StrictProducer


class BatchApp(faust.App):  # type: ignore[misc]
    """A Faust app that keeps nothing on disk, and stops in good order when a delivery failed."""

    def _create_directories(self) -> None:
        """Tables are kept in memory."""

    async def _producer_flush(self, logger: Any) -> None:
        try:
            await super()._producer_flush(logger)
        except DeliveryFailed as error:
            if not self.crashed:
                await self.crash(error)


def batch_app(name: str, *, broker: str, **settings: Any) -> BatchApp:
    """A Faust app on the batch transport.

    name: also the consumer group. broker: "kafka://host:port". settings: those of `faust.App`;
    the ones on which the guarantee rests cannot be changed.
    """
    headers.install()
    app = BatchApp(
        name,
        **{
            "broker": broker,
            "web_enabled": False,
            "broker_commit_every": 1_000_000,
            "broker_max_poll_records": 5_000,
            "stream_buffer_maxsize": 16,
            "producer_max_batch_size": 512 * 1024,
            "producer_max_request_size": 8 * 1024 * 1024,
            **settings,
            "Schema": RawSchema,
            "Table": PartitionedTable,
            "TableManager": BulkTableManager,
            "agent_supervisor": CrashingSupervisor,
            "processing_guarantee": "at_least_once",
            "consumer_auto_offset_reset": "earliest",
            "store": "memory://",
            "table_standby_replicas": 0,
            "stream_wait_empty": True,
        },
    )
    app.transport = BatchTransport([URL(broker)], app)
    return app
