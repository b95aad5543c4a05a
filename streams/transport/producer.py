"""The producer: nothing is committed before everything produced is acknowledged."""

from __future__ import annotations

import asyncio
from collections import defaultdict, deque
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import structlog
from faust.exceptions import ImproperlyConfigured
from faust.transport.drivers import aiokafka as driver
from faust.transport.producer import Producer
from faust.types import FutureMessage

from models.errors import ClvError
from streams.kafka.writing import PROBES, can_be_idempotent, packed
from streams.transport.lease import send_under

log = structlog.get_logger(__name__)

OutgoingRecord = tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]
"""Key, value and headers."""

NO_HEADERS: list[tuple[str, bytes]] = []

_CHECK_SECONDS = 1.0
_PROBE_SECONDS = 0.1


class Delivery(NamedTuple):
    """Where a batch of records was written: its first offset, and the one after its last.

    Both are -1 if the batch was sent twice and the broker did not say where it was written.
    """

    start: int
    end: int


class _Queued:
    """A batch that waits to be sent, and takes more records until then.

    parts: of each call that records in it are of: their number, and what is done when they arrive.
    """

    __slots__ = ("batch", "parts")

    def __init__(self, batch: Any) -> None:
        self.batch = batch
        self.parts: list[tuple[int, asyncio.Future[Any]]] = []


class DeliveryFailed(ClvError):
    """A record was not acknowledged by the broker.

    The worker stops before it commits; after a restart it processes the same records again.
    """


class StrictDelivery(Producer):  # type: ignore[misc]
    """Mixin that makes a Faust producer track every delivery, and flush only if all succeeded.

    It comes before a driver's producer in the bases. `send_records` sends whole batches; those of
    one topic-partition arrive in the order of the calls, and none is sent after one that failed.
    While one is on its way, what follows gathers in the next.
    """

    def __init__(self, transport: Any, **kwargs: Any) -> None:
        if transport.app.conf.producer_threaded:
            raise ImproperlyConfigured(
                "producer_threaded=True loses records: Faust never flushes that producer before a "
                "commit; leave it off"
            )
        super().__init__(transport, **kwargs)
        self._outstanding: set[asyncio.Future[Any]] = set()
        self._failure: BaseException | None = None
        self._queues: defaultdict[tuple[str, int], deque[_Queued]] = defaultdict(deque)
        self._senders: dict[tuple[str, int], asyncio.Task[None]] = {}
        self._broken: dict[tuple[str, int], Exception] = {}
        """Errors by topic-partition, to which nothing more is sent."""

    @property
    def outstanding(self) -> int:
        """How many batches of records are sent and not acknowledged."""
        return len(self._outstanding)

    async def send(self, *args: Any, **kwargs: Any) -> Any:
        """Send one record, and track its delivery."""
        delivery = await super().send(*args, **kwargs)
        self._remember(delivery)
        return delivery

    def send_soon(self, fut: FutureMessage) -> None:
        """Queue one record of a table or a topic, and track its delivery."""
        self._remember(fut)
        super().send_soon(fut)

    def send_records(
        self, topic: str, partition: int, records: Iterable[OutgoingRecord]
    ) -> list[asyncio.Future[Any]]:
        """Send records to one topic-partition, in few large batches.

        Returns one future for each batch that they are in: its result is their `Delivery`.
        """
        deliveries: list[asyncio.Future[Any]] = []
        queue = self._queues[topic, partition]
        queued = queue[-1] if queue else None
        begun = None if queued is None else queued.batch
        before = 0 if begun is None else begun.record_count()
        for batch in packed(self._ensure_producer(), records, begun):
            if queued is None or batch is not queued.batch:
                queued, before = _Queued(batch), 0
                queue.append(queued)
            if count := batch.record_count() - before:
                delivery: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
                self._remember(delivery)
                deliveries.append(delivery)
                queued.parts.append((count, delivery))
        if deliveries and (topic, partition) not in self._senders:
            self._senders[topic, partition] = asyncio.create_task(self._drain(topic, partition))
        return deliveries

    async def _drain(self, topic: str, partition: int) -> None:
        """Send the queued batches of one topic-partition, each after the one before has arrived.

        There are no gaps: after a failed delivery nothing more is sent there.
        """
        queue = self._queues[topic, partition]
        try:
            while queue:
                queued, start = queue.popleft(), -1
                if (broken := self._broken.get((topic, partition))) is None:
                    try:
                        start = await self._deliver(queued.batch, topic, partition)
                    except Exception as error:  # noqa: BLE001 - it is raised where it is awaited
                        broken = self._broken[topic, partition] = error
                for count, delivery in queued.parts:
                    end = start + count if start >= 0 else -1
                    if delivery.done():
                        pass
                    elif broken is not None:
                        delivery.set_exception(broken)
                    else:
                        delivery.set_result(Delivery(start, end))
                    start = end
        finally:
            del self._senders[topic, partition]

    async def _deliver(self, batch: Any, topic: str, partition: int) -> int:
        """Send a batch; return its first offset, or -1 if the broker did not say."""
        batch.close()
        sent = await self._ensure_producer().send_batch(batch, topic, partition=partition)
        await asyncio.wait({sent})
        if sent.cancelled():
            raise DeliveryFailed("a delivery was cancelled")
        start: int = sent.result().offset
        return start

    def _remember(self, delivery: asyncio.Future[Any]) -> None:
        self._outstanding.add(delivery)
        delivery.add_done_callback(self._on_done)

    def _on_done(self, delivery: asyncio.Future[Any]) -> None:
        self._outstanding.discard(delivery)
        if delivery.cancelled():
            failure: BaseException | None = asyncio.CancelledError("a delivery was cancelled")
        else:
            failure = delivery.exception()
        if failure is not None and self._failure is None:
            self._failure = failure

    async def flush(self) -> None:
        """Wait until everything produced so far is acknowledged.

        Raises DeliveryFailed if a delivery failed, now or earlier, or the producer itself has
        stopped.
        """
        waiting = set(self._outstanding)
        while waiting and self._failure is None:
            _, waiting = await asyncio.wait(
                waiting, timeout=_CHECK_SECONDS, return_when=asyncio.FIRST_EXCEPTION
            )
            if waiting and self.buffer.should_stop:
                raise DeliveryFailed("the producer stopped with records not acknowledged")
        if self._failure is not None:
            raise DeliveryFailed(
                f"a produced record was not acknowledged: {self._failure!r}; nothing that depends "
                "on it is committed"
            ) from self._failure


class StrictProducer(StrictDelivery, driver.Producer):  # type: ignore[misc]
    """Faust's aiokafka producer with strict delivery, idempotent where the broker can be."""

    async def on_start(self) -> None:
        """Start as an idempotent producer, unless the broker keeps refusing that."""
        self.idempotent = True
        self.idempotent = await can_be_idempotent(self._new_producer, _PROBE_SECONDS)
        if not self.idempotent:
            log.warning(
                "the broker gives no producer id; this worker writes without idempotence: a "
                "request that timed out and is executed late can come after a newer record",
                answers=PROBES,
                remedy="on the embedded broker it is always so; on a Kafka cluster look into its "
                "log for InitProducerId, and start this worker again",
            )
        await super().on_start()
        send_under(self.app.lease, self._ensure_producer())

    def _settings_extra(self) -> Mapping[str, Any]:
        return {"acks": "all", "enable_idempotence": self.idempotent}
