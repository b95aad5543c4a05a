"""The fence: a worker that the group has given up writes nothing more.

A worker that was frozen past its session, and thaws, does not know that its partitions are
somebody else's. What the group's coordinator answers is a lease on them; without it nothing is
sent. Residue: bytes that had been handed to the connection when the worker froze.
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

log = structlog.get_logger(__name__)

FENCED = 76
"""Exit status of a worker that the group had given up: a restart joins it anew."""

_LOOK_SECONDS = 0.05
_OF_A_REBALANCE = 0.9
"""How much of the rebalance timeout is used: the broker's clock may be quicker than ours."""


def now() -> float:
    """Seconds by a clock that goes on while the process is frozen, or the system suspended.

    Where the system has no such clock, the time of a suspension is missing.
    """
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class LeaseLost(Exception):
    """The group has given this worker up: what it had in work is another worker's now.

    The worker stops, uncommitted; started again it joins the group anew.
    """


@dataclass(slots=True)
class Term:
    """A time of membership without a break: nobody else had this worker's partitions.

    sure: until when that is known, by `now`; none: the worker has not joined yet.
    """

    sure: float | None = None

    @property
    def age(self) -> float:
        """Seconds since it was known last."""
        return 0.0 if self.sure is None else now() - self.sure

    def ended(self) -> Term:
        """The same, for what did not take part in it any longer."""
        return Term(now() if self.sure is None else self.sure)


class Lease:
    """Until when the group counts this worker in; shared by the consumer's thread and the producer.

    session_seconds: the coordinator gives a member up that it has not heard of for so long.
    rebalance_seconds: and one that does not join a rebalance for so long, though it is heard of.
    All times are by `now`.
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
        """Whether the worker may write; also before it has joined: it has nothing to lose yet."""
        return not self._lost and (self._until is None or now() < self._until)

    def renew(self, asked_at: float, *, rebalancing: bool = False) -> None:
        """Take note of a heartbeat that was sent at this time, and answered.

        rebalancing: the answer was that a rebalance is under way, and the worker has to join it.
        """
        if self._lost:
            # An answer from before; only a new membership gives back what was lost.
            return
        self._heard = max(self._heard, asked_at)
        sure = self.term.sure
        if sure is None or not rebalancing:
            sure = self.term.sure = asked_at if sure is None else max(sure, asked_at)
        # A rebalance that is under way began after the last answer that knew of none.
        self._until = min(self._heard + self._session, sure + self._rebalance)

    def take(self, asked_at: float) -> None:
        """Take note that the group gave the worker its partitions; it had asked at this time."""
        if self._lost:
            self.term = Term()
            self._lost = False
        self.renew(asked_at)

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


def renew_by_answers(lease: Lease, consumer: AIOKafkaConsumer) -> None:
    """Have what the group's coordinator answers renew a lease; the consumer was started."""
    coordinator: Any = consumer._coordinator  # noqa: SLF001 - aiokafka tells nobody about answers
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
    """Let a producer send only while a lease is held; what comes too late fails."""
    sender: Any = producer._sender  # noqa: SLF001 - the last place before the network
    client = sender.client
    write, send = client.send, sender._send_produce_req  # noqa: SLF001

    async def write_if_held(node_id: int, request: Any, **group: Any) -> Any:
        if isinstance(request, ProduceRequest):
            await _ready_and_held(lease, client, node_id, group)
        # Connected as it is, it writes before it awaits anything.
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
    """Return when both hold at once: there is a connection, and the lease."""
    while True:
        # To connect may take longer than a session; connected already, it awaits nothing.
        if not await client.ready(node_id, **group):
            raise NodeNotReadyError(f"no connection to broker {node_id}")
        if lease.held:
            return
        await lease.wait()
