"""The lease: a worker that the group has given up writes nothing more.

A worker that was frozen past its session timeout does not know, when it thaws, that its partitions
belong to another worker. So each answer of the group's coordinator renews a lease, and without a
lease nothing is sent. Only bytes that were in the connection when it froze can still be written.
"""

from __future__ import annotations

import asyncio
import math
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import structlog
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.errors import NodeNotReadyError, NoError, RebalanceInProgressError, for_code
from aiokafka.protocol.group import HeartbeatRequest, SyncGroupRequest
from aiokafka.protocol.produce import ProduceRequest

from models.errors import ClvError

log = structlog.get_logger(__name__)

FENCED = 76
"""Exit status of a worker that the group had given up: after a restart it joins again."""

_LOOK_SECONDS = 0.05
_OF_A_REBALANCE = 0.9
"""Share of the rebalance timeout that is used: the broker's clock may be faster than ours."""


def now() -> float:
    """Return seconds by a clock that runs on while the process is frozen or the system suspended.

    On systems without such a clock, the time of a suspension is missing.
    """
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class LeaseLost(ClvError):
    """The group has given this worker up, and its partitions to another one.

    The worker stops without committing; after a restart it joins the group again.
    """


@dataclass(slots=True)
class Term:
    """An unbroken membership, in which no other worker had this worker's partitions.

    sure: until when that is known, by `now`; None: the worker has not joined yet.
    """

    sure: float | None = None

    @property
    def age(self) -> float:
        """Seconds since it was last known."""
        return 0.0 if self.sure is None else now() - self.sure

    def ended(self) -> Term:
        """Return the term as of now, for a partition that takes no further part in it."""
        return Term(now() if self.sure is None else self.sure)


class Lease:
    """Until when the group counts this worker in; shared by the consumer's thread and the producer.

    session_seconds: after so long without a heartbeat the coordinator gives a member up.
    rebalance_seconds: or after so long without joining a rebalance. All times are by `now`.
    """

    def __init__(self, session_seconds: float, rebalance_seconds: float = math.inf) -> None:
        self._session = session_seconds
        self._rebalance = _OF_A_REBALANCE * rebalance_seconds
        self._heard = -math.inf
        self._until: float | None = None
        self._lost = False
        self.term = Term()

    @property
    def held(self) -> bool:
        """Whether the worker may write; also true before it has joined."""
        return not self._lost and (self._until is None or now() < self._until)

    def renew(self, asked_at: float, *, rebalancing: bool = False) -> None:
        """Renew the lease after a heartbeat that was sent at this time was answered.

        rebalancing: the answer was that the worker has to join a rebalance.
        """
        if self._lost:
            # A late answer; a lost lease comes back only with a new membership.
            return
        self._heard = max(self._heard, asked_at)
        sure = self.term.sure
        if sure is None or not rebalancing:
            sure = self.term.sure = asked_at if sure is None else max(sure, asked_at)
        # The rebalance began after the last answer without one.
        self._until = min(self._heard + self._session, sure + self._rebalance)

    def take(self, asked_at: float) -> None:
        """Start the lease when the group has assigned partitions, requested at this time."""
        if self._lost:
            self.term = Term()
            self._lost = False
        self.renew(asked_at)

    def lose(self) -> None:
        """End the lease: the group does not know the worker any more."""
        self._lost = self._until is not None

    async def wait(self) -> None:
        """Wait until the lease is held.

        Raises LeaseLost if the group has given the worker up.
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


def renew_by_answers(lease: Lease, consumer: AIOKafkaConsumer) -> None:
    """Make the answers of the group's coordinator renew a lease; the consumer must be started."""
    coordinator: Any = consumer._coordinator  # noqa: SLF001 - aiokafka has no hook for answers
    ask, forget = coordinator._send_req, coordinator.reset_generation  # noqa: SLF001

    async def ask_and_note(request: Any) -> Any:
        asked_at = now()
        answer = await ask(request)
        if isinstance(request, HeartbeatRequest | SyncGroupRequest):
            error = for_code(answer.error_code)
            if isinstance(request, SyncGroupRequest):
                if error is NoError:
                    lease.take(asked_at)
            elif error in (NoError, RebalanceInProgressError):
                lease.renew(asked_at, rebalancing=error is RebalanceInProgressError)
        return answer

    def reset_generation() -> None:
        lease.lose()
        forget()

    coordinator._send_req = ask_and_note  # noqa: SLF001
    coordinator.reset_generation = reset_generation


def send_under(lease: Lease, producer: AIOKafkaProducer) -> None:
    """Make a producer send only while a lease is held; later records fail."""
    sender: Any = producer._sender  # noqa: SLF001 - the last place before the network
    client = sender.client
    write, send = client.send, sender._send_produce_req  # noqa: SLF001

    async def write_if_held(node_id: int, request: Any, **group: Any) -> Any:
        if isinstance(request, ProduceRequest):
            await _ready_and_held(lease, client, node_id, group)
        # The connection exists, so this writes before it awaits anything.
        return await write(node_id, request, **group)

    async def send_or_fail(node_id: int, batches: Mapping[Any, Any]) -> None:
        try:
            await send(node_id, batches)
        except LeaseLost as error:
            for tp, batch in batches.items():
                batch.failure(exception=error)
                sender._muted_partitions.remove(tp)  # noqa: SLF001
            sender._in_flight.remove(node_id)  # noqa: SLF001

    client.send = write_if_held
    sender._send_produce_req = send_or_fail  # noqa: SLF001


async def _ready_and_held(
    lease: Lease, client: Any, node_id: int, group: Mapping[str, Any]
) -> None:
    """Wait until there is a connection and the lease is held, both at once."""
    while True:
        # Connecting may take longer than a session; if connected already, it awaits nothing.
        if not await client.ready(node_id, **group):
            raise NodeNotReadyError(f"no connection to broker {node_id}")
        if lease.held:
            return
        await lease.wait()
