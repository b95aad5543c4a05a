"""Our transport for Faust: batches in, strict delivery out, bulk recovery.

Faust keeps the group protocol, the assignor, agents, tables, supervisors and timers. The transport
replaces the parts that lose records, count them twice, or cost a task per record. `batch_app` makes
an ordinary `faust.App` that uses it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import faust
from faust import SASLCredentials, SSLCredentials
from faust.transport.drivers import aiokafka as driver
from faust.types import TP, EventT
from faust.utils.urls import urllist
from mode import CrashingSupervisor
from mode.signals import BaseSignal
from yarl import URL

from streams.kafka.connection import Broker
from streams.transport import headers, portions
from streams.transport.batches import RawSchema
from streams.transport.consumer import BatchConsumer
from streams.transport.guard import Guard
from streams.transport.lease import Lease
from streams.transport.producer import DeliveryFailed, StrictProducer
from streams.transport.recovery import BulkTableManager
from streams.transport.table import PartitionedTable

__all__ = ["BatchApp", "EventT", "batch_app", "faust_settings"]


class BatchTransport(driver.Transport):  # type: ignore[misc]
    """Faust's aiokafka transport with our consumer and producer."""

    Consumer: ClassVar[type] = BatchConsumer
    Producer: ClassVar[type] = StrictProducer


class BatchApp(faust.App):  # type: ignore[misc]
    """A Faust app with its tables in memory, which stops cleanly when a delivery fails."""

    lease: Lease
    """Without it, this worker writes nothing."""
    one_by_one: frozenset[str] = frozenset()
    """Topics whose batches are single records: each takes long, and is committed by itself."""

    state_dir: Path | None = None
    """Directory for copies of the tables, so that a restart reads only newer records."""

    digest_key: bytes = b""
    """Keys the digests of records in copies of tables, so that nobody can test a key on them."""

    guard: Guard | None = None
    """What checks the logs; None: nothing does."""

    before_flow: Sequence[Callable[[], Awaitable[None]]] = ()
    """What to wait for after the recovery of the tables, before any record is delivered."""

    may_commit = True
    """Whether offsets may be committed; false once the state does not fit the logs."""

    generations: Mapping[TP, int] = {}
    """How often the logs of assigned partitions were replaced; 0 if absent."""

    def _init_signals(self) -> None:
        super()._init_signals()
        # Faust keeps the receivers of every app in tables of the class, so no app is ever freed.
        for name, signal in vars(self).copy().items():
            if isinstance(signal, BaseSignal):
                setattr(self, name, signal.clone(receivers=signal._receivers))  # noqa: SLF001

    def _create_directories(self) -> None:
        """Create no directories: Faust's own are not needed."""

    def _crash(self, reason: BaseException) -> None:
        # Keep the first reason: tasks that are cancelled because of it crash in their turn.
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
    """Return a Faust app on the batch transport.

    name: also the consumer group. broker: "kafka://host:port", or several.
    state_dir: directory of the tables' copies on disk; None: no copies. digest_key: a secret that
    keys the digests of records in the copies.
    settings: those of `faust.App`; the ones that the guarantee depends on cannot be changed.
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
            # A revocation has to finish the batches in work within it; the lease depends on it.
            "broker_rebalance_timeout": 60.0,
            # Nothing is polled during a recovery, and a long recovery must not end the membership.
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


def faust_settings(broker: Broker) -> dict[str, Any]:
    """Return a broker as settings for `batch_app`; SecurityUnusable for unusable certificates."""
    security, tls = broker.security, broker.tls()
    settings: dict[str, Any] = {
        "broker": [URL(f"kafka://{server.strip()}") for server in broker.servers.split(",")]
    }
    if security.protocol.startswith("SASL"):
        settings["broker_credentials"] = SASLCredentials(
            username=security.username,
            password=broker.password(),
            ssl_context=tls,
            mechanism=security.mechanism,
        )
    elif tls is not None:
        settings["broker_credentials"] = SSLCredentials(tls)
    return settings
