"""Recovery: a separate consumer reads the changelog in bulk.

Faust reads it record by record through the group's consumer, up to the end offsets of ListOffsets.
Here whole fetches are applied at once, and `ChangelogReading` finds the end on every broker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer
from aiokafka.errors import KafkaError
from faust.tables.manager import TableManager
from faust.tables.recovery import RebalanceAgain, Recovery, ServiceStopped
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth, server_list
from faust.types import TP
from faust.types.auth import to_credentials
from mode import Service

from streams.kafka.clients import started
from streams.transport.changelog import ChangelogReading, RecoveryProgress
from streams.transport.table import PartitionedTable

log = structlog.get_logger(__name__)

_AGAIN_SECONDS = 1.0
_FETCH_WAIT_MILLISECONDS = 25
_FETCH_BYTES = 4 * 1024 * 1024
_REQUEST_SECONDS = 15.0
"""Timeout of a request; a broker that is there answers a fetch within half a second."""


class BulkRecovery(Recovery):  # type: ignore[misc]
    """Faust's recovery service with the reading replaced."""

    _reading: ChangelogReading | None = None
    _recovered = False
    _rebalance = 0
    """Number of the rebalance that assigned the partitions in recovery."""

    @property
    def progress(self) -> RecoveryProgress:
        """The progress; done: all partitions of this worker are recovered and in work."""
        if self._reading is None:
            return RecoveryProgress(0, 0, float(self._recovered), None, done=self._recovered)
        return self._reading.progress._replace(done=self._recovered)

    def on_partitions_revoked(self, revoked: set[TP]) -> None:
        """Note that a rebalance begins: nothing is recovered until the next recovery is done."""
        self._recovered = False
        super().on_partitions_revoked(revoked)

    async def on_rebalance(self, *args: Any, **kwargs: Any) -> None:
        """Note which rebalance assigned the partitions."""
        self._rebalance = self.app.rebalancing_count
        await super().on_rebalance(*args, **kwargs)

    @Service.task  # type: ignore[untyped-decorator]
    async def _restart_recovery(self) -> None:
        while not self.should_stop:
            if await self.wait_for_stopped(self.signal_recovery_start):
                break
            self.signal_recovery_start.clear()
            self._recovered, self._reading = False, None
            rebalance = self._rebalance
            try:
                await self._wait(asyncio.sleep(self.recovery_delay))
                self._set_recovery_started()
                self.flush_buffers()
                await self._wait(self.app.producer.flush())
                await self._to_its_end(self._restore(sorted(self.active_tps)))
                await self._to_its_end(self._resume(rebalance))
            except RebalanceAgain:
                continue
            except ServiceStopped:
                break

    async def _resume(self, rebalance: int) -> None:
        """Resume the streams at the committed offsets, unless another rebalance has begun.

        It replaces Faust's `on_recovery_completed`. That one resumes even if the seek timed out or
        partitions are being revoked, or the recovery service ends.
        """
        consumer = self.app.consumer
        await self.app.on_rebalance_complete.send()
        self._set_recovery_ended()
        for table in self.tables.values():
            await table.on_recovery_completed(
                self.actives_for_table[table], self.standbys_for_table[table]
            )
        assignment = consumer.assignment()
        try:
            if assignment and not self._overtaken(rebalance):
                consumer.resume_partitions(
                    {tp for tp in assignment if not self._is_changelog_tp(tp)}
                )
                await consumer.perform_seek()
                if self.app.guard is not None and not self._overtaken(rebalance):
                    await self.app.guard.before_flow()
                for ready in self.app.before_flow:
                    await ready()
        except Exception as error:
            if not self._overtaken(rebalance):
                raise
            log.info("a rebalance began before the partitions were resumed", error=repr(error))
        if self._overtaken(rebalance):
            return
        self.completed.set()
        self.app.flow_control.resume()
        consumer.resume_flow()
        await self.app._fetcher.maybe_start()  # noqa: SLF001
        self.tables.on_actives_ready()
        self.tables.on_standbys_ready()
        self.app.on_rebalance_end()
        self._recovered = not self._overtaken(rebalance)
        self.log.info("Worker ready")

    def _overtaken(self, rebalance: int) -> bool:
        """Return whether another rebalance has begun; it ends in another recovery."""
        return bool(self.app.rebalancing_count != rebalance)

    @Service.task  # type: ignore[untyped-decorator]
    async def _slurp_changelogs(self) -> None:
        """Do nothing: changelogs are not read through the group's consumer."""

    async def _to_its_end(self, work: Coroutine[Any, Any, None]) -> None:
        """Wait for work to end, or cancel it if another rebalance begins."""
        task = asyncio.ensure_future(work)
        try:
            await self._wait(task)
        finally:
            task.cancel()
            await asyncio.wait([task])

    async def _restore(self, changelogs: list[TP]) -> None:
        """Read these changelog partitions to their end into memory."""
        for table in self.tables.values():
            await table.data.keep_only(
                {tp.partition for tp in changelogs if self._table(tp) is table}
            )
        if not changelogs:
            return
        marks = {tp: await self._table(tp).data.begin(tp.partition) for tp in changelogs}
        self._reading = ChangelogReading(marks, self._table)
        async with AsyncExitStack() as stack:
            await self._reading.run(await self._connected(stack))

    async def _connected(self, stack: AsyncExitStack) -> AIOKafkaConsumer:
        """Return a started consumer; wait while the broker cannot be reached."""
        while True:
            try:
                return await stack.enter_async_context(started(self._new_consumer()))
            except KafkaError as error:
                if not error.retriable:
                    raise
                log.warning("recovery waits for the broker", error=repr(error))
            await asyncio.sleep(_AGAIN_SECONDS)

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
            # An empty changelog answers after this time; the default is half a second.
            fetch_max_wait_ms=_FETCH_WAIT_MILLISECONDS,
            max_partition_fetch_bytes=max(conf.consumer_max_fetch_size, _FETCH_BYTES),
            check_crcs=conf.broker_check_crcs,
            request_timeout_ms=int(min(conf.broker_request_timeout, _REQUEST_SECONDS) * 1000.0),
            **credentials_to_aiokafka_auth(
                to_credentials(conf.broker_credentials), conf.ssl_context
            ),
        )


class BulkTableManager(TableManager):  # type: ignore[misc]
    """Faust's table manager with bulk recovery."""

    _recovery: BulkRecovery | None = None

    @property
    def recovery(self) -> BulkRecovery:
        """The recovery service."""
        if self._recovery is None:
            self._recovery = BulkRecovery(self.app, self, beacon=self.beacon, loop=self.loop)
        return self._recovery
