"""The fence: a worker that the group has given up writes nothing more.

A worker that was frozen past its session, and thaws, does not know that its partitions are somebody
else's. Heartbeats that the group answered are a lease on them; without it nothing is sent. Residue:
bytes that had left for the broker when the worker froze.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from time import monotonic
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

log = structlog.get_logger(__name__)

_LOOK_SECONDS = 0.05


class LeaseLost(Exception):
    """The group has given this worker up: what it had in work is another worker's now.

    The worker stops, uncommitted; started again it joins the group anew.
    """


class Lease:
    """Until when the group counts this worker in; shared by the consumer's thread and the producer.

    seconds: the session timeout. Times are those of the monotonic clock, which goes on while a
    process is frozen.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._until: float | None = None
        self._lost = False

    @property
    def held(self) -> bool:
        """Whether the worker may write; also before it has joined: it has nothing to lose yet."""
        return not self._lost and (self._until is None or monotonic() < self._until)

    def renew(self, asked_at: float) -> None:
        """Take note of a heartbeat that was sent at this time, and answered."""
        self._until = max(self._until or 0.0, asked_at + self._seconds)
        self._lost = False

    def lose(self) -> None:
        """Take note that the group does not know the worker any more."""
        self._lost = self._until is not None

    async def wait(self) -> None:
        """Return when the lease is held.

        Raises
        ------
        LeaseLost
            when the group has given the worker up.
        """
        if self.held:
            return
        log.warning("no answer from the group for a session: nothing is sent until there is one")
        while not self.held:
            if self._lost:
                raise LeaseLost(
                    "the consumer group gave this worker up while it had records in work; it stops "
                    "before it writes them, and has to be started again"
                )
            await asyncio.sleep(_LOOK_SECONDS)


def renew_by_heartbeats(lease: Lease, consumer: AIOKafkaConsumer) -> None:
    """Have the consumer's heartbeats renew a lease; the consumer must have been started."""
    coordinator: Any = consumer._coordinator  # noqa: SLF001 - aiokafka tells nobody about heartbeats
    beat, forget = coordinator._do_heartbeat, coordinator.reset_generation  # noqa: SLF001

    async def heartbeat() -> bool:
        asked_at = monotonic()
        answered: bool = await beat()
        if answered:
            lease.renew(asked_at)
        return answered

    def reset_generation() -> None:
        lease.lose()
        forget()

    coordinator._do_heartbeat = heartbeat  # noqa: SLF001
    coordinator.reset_generation = reset_generation


async def take_lease(consumer: AIOKafkaConsumer) -> None:
    """Send a heartbeat at once, so that a worker that has joined need not wait for the next."""
    await consumer._coordinator._do_heartbeat()  # noqa: SLF001


def send_under(lease: Lease, producer: AIOKafkaProducer) -> None:
    """Let a producer send only while a lease is held; what comes too late fails."""
    sender: Any = producer._sender  # noqa: SLF001 - the last place before the network
    send = sender._send_produce_req  # noqa: SLF001

    async def send_if_held(node_id: int, batches: Mapping[Any, Any]) -> None:
        try:
            await lease.wait()
        except LeaseLost as error:
            for tp, batch in batches.items():
                batch.failure(exception=error)
                sender._muted_partitions.remove(tp)  # noqa: SLF001
            sender._in_flight.remove(node_id)  # noqa: SLF001
        else:
            await send(node_id, batches)

    sender._send_produce_req = send_if_held  # noqa: SLF001
