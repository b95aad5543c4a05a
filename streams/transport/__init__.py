"""Our transport for Faust: batches in, strict delivery out, bulk recovery.

Faust keeps the group protocol, the assignor, agents, tables, supervisors and timers; what is
replaced is what loses or counts twice, and what costs a task for every record. `batch_app` makes
an ordinary `faust.App` that uses it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

import faust
from faust.transport.drivers import aiokafka as driver
from faust.types import TP
from faust.utils.urls import urllist
from mode import CrashingSupervisor
from yarl import URL

from streams.transport import headers, portions
from streams.transport.batches import BatchMessage, RecordBatch, topic_partition
from streams.transport.changelog import Progress
from streams.transport.consumer import BatchConsumer, BatchDelivery
from streams.transport.durable import DurableStore
from streams.transport.guard import Guard, OutOfRange
from streams.transport.lease import Lease, LeaseLost
from streams.transport.producer import (
    Delivery,
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
    "Delivery",
    "DeliveryFailed",
    "DurableStore",
    "Guard",
    "Lease",
    "LeaseLost",
    "OutOfRange",
    "OutgoingRecord",
    "PartitionedStore",
    "PartitionedTable",
    "Progress",
    "RawSchema",
    "RecordBatch",
    "StrictDelivery",
    "StrictProducer",
    "batch_app",
    "topic_partition",
]


class BatchTransport(driver.Transport):  # type: ignore[misc]
    """Faust's aiokafka transport with our consumer and producer."""

    Consumer: ClassVar[type] = BatchConsumer
    Producer: ClassVar[type] = StrictProducer


class BatchApp(faust.App):  # type: ignore[misc]
    """A Faust app with its tables in memory, which stops in good order when a delivery failed."""

    lease: Lease
    """What this worker's writing rests on."""
    one_by_one: frozenset[str] = frozenset()
    """Topics of which a batch is one record: each is much work, and committed by itself."""

    state_dir: Path | None = None
    """Where copies of the tables are kept, so that a restart reads only what is new."""

    digest_key: bytes = b""
    """Keys the digests that copies of tables hold of records, so that they tell of no key."""

    guard: Guard | None = None
    """What watches over the logs; none: nothing does."""

    may_commit = True
    """Whether offsets may still be committed; not so once the state does not fit the logs."""

    generations: Mapping[TP, int] = {}
    """How often the logs of assigned partitions were replaced, of those that were."""

    def _create_directories(self) -> None:
        """None of Faust's own."""

    def _crash(self, reason: BaseException) -> None:
        # The first reason is the one; what is cancelled because of it crashes in its turn.
        if not self.crashed:
            super()._crash(reason)

    async def _producer_flush(self, logger: Any) -> None:
        try:
            await super()._producer_flush(logger)
        except DeliveryFailed as error:
            if not self.crashed:
                await self.crash(error)


def batch_app(
    name: str,
    *,
    broker: str | list[URL],
    state_dir: Path | None = None,
    digest_key: bytes = b"",
    **settings: Any,
) -> BatchApp:
    """A Faust app on the batch transport.

    name: also the consumer group. broker: "kafka://host:port", or several.
    state_dir: where copies of the tables are kept on disk; none: nowhere. digest_key: a secret
    that keys what copies hold of the records at their ends.
    settings: those of `faust.App`; the ones on which the guarantee rests cannot be changed.
    """
    headers.install()
    portions.install()
    app = BatchApp(
        name,
        **{
            "broker": broker,
            "web_enabled": False,
            "broker_commit_every": 1_000_000,
            "broker_max_poll_records": 5_000,
            # Within it a revocation has to finish what is in work; the lease counts on it.
            "broker_rebalance_timeout": 60.0,
            # No records are asked for during a recovery: that it takes long is no reason to leave.
            "broker_max_poll_interval": 86_400.0,
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
    app.state_dir = state_dir
    app.digest_key = digest_key
    app.lease = Lease(app.conf.broker_session_timeout, app.conf.broker_rebalance_timeout)
    app.transport = BatchTransport(urllist(broker), app)
    return app
