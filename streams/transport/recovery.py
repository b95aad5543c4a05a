"""Recovery: the changelog is read in bulk, by a consumer of its own.

Faust reads it record by record through the group's consumer, and stops at the end offsets that
ListOffsets gives. Here whole fetches are applied at once, and the end is where the broker's own
fetch responses say it is, which is right on every broker.
"""

from __future__ import annotations

import asyncio
from time import monotonic
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, TopicPartition
from faust.tables.manager import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from faust.transport.drivers.aiokafka import server_list
from faust.types import TP
from faust.types.auth import to_credentials
from mode import Service

from streams.transport.batches import RecordBatch
from streams.transport.table import PartitionedTable

log = structlog.get_logger(__name__)

_FETCH_MILLISECONDS = 200
_REPORT_SECONDS = 5.0


class BulkRecovery(Recovery):  # type: ignore[misc]
    """Faust's recovery service with the reading replaced."""

    @Service.task  # type: ignore[untyped-decorator]
    async def _restart_recovery(self) -> None:
        while not self.should_stop:
            if await self.wait_for_stopped(self.signal_recovery_start):
                break
            self.signal_recovery_start.clear()
            generation = self._generation_id
            try:
                await self._wait(asyncio.sleep(self.recovery_delay))
                self._set_recovery_started()
                self.flush_buffers()
                await self._wait(self.app.producer.flush())
                await self._wait(self._restore(sorted(self.active_tps)))
                await self._wait(self.on_recovery_completed(generation))
            except RebalanceAgain:
                continue
            except ServiceStopped:
                break

    @Service.task  # type: ignore[untyped-decorator]
    async def _slurp_changelogs(self) -> None:
        """Changelogs are not read through the group's consumer."""

    async def _restore(self, changelogs: list[TP]) -> None:
        """Read these changelog partitions from their beginning to their end."""
        if not changelogs:
            return
        for tp in changelogs:
            self._table(tp).data.partition(tp.partition).clear()
        started = reported = monotonic()
        count = 0
        consumer = self._new_consumer()
        await consumer.start()
        try:
            assigned = [TopicPartition(tp.topic, tp.partition) for tp in changelogs]
            consumer.assign(assigned)
            unfinished = set(assigned)
            while unfinished:
                fetched = await consumer.getmany(timeout_ms=_FETCH_MILLISECONDS)
                for tp, records in fetched.items():
                    self._table(tp).data.restore(RecordBatch(TP(tp.topic, tp.partition), records))
                    count += len(records)
                for tp in list(unfinished):
                    end = consumer.highwater(tp)
                    if end is not None and await consumer.position(tp) >= end:
                        unfinished.remove(tp)
                        consumer.pause(tp)
                if monotonic() - reported >= _REPORT_SECONDS:
                    reported = monotonic()
                    log.info("recovering", records=count, partitions_left=len(unfinished))
        finally:
            await consumer.stop()
        log.info(
            "recovered",
            records=count,
            partitions=len(changelogs),
            seconds=round(monotonic() - started, 3),
        )

    def _table(self, tp: TP) -> PartitionedTable:
        table: PartitionedTable = self.tables._changelogs[tp.topic]  # noqa: SLF001
        return table

    def _new_consumer(self) -> AIOKafkaConsumer:
        conf = self.app.conf
        return AIOKafkaConsumer(
            bootstrap_servers=server_list(self.app.transport.url, self.app.transport.default_port),
            client_id=f"{conf.broker_client_id}-recovery",
            enable_auto_commit=False,
            auto_offset_reset="earliest",
            max_partition_fetch_bytes=conf.consumer_max_fetch_size,
            check_crcs=conf.broker_check_crcs,
            request_timeout_ms=int(conf.broker_request_timeout * 1000.0),
            **_auth(conf),
        )


def _auth(conf: Any) -> dict[str, Any]:
    from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth  # noqa: PLC0415

    auth: dict[str, Any] = credentials_to_aiokafka_auth(
        to_credentials(conf.broker_credentials), conf.ssl_context
    )
    return auth


class BulkTableManager(TableManager):  # type: ignore[misc]
    """Faust's table manager with bulk recovery."""

    _recovery: BulkRecovery | None = None

    @property
    def recovery(self) -> BulkRecovery:
        """The recovery service."""
        if self._recovery is None:
            self._recovery = BulkRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery
